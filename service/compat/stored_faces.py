"""Searches whose answers claim an error rate, which holds for no stored face that is hardly recognisable."""

import numpy as np
from numpy.typing import NDArray

from models.deadline import Deadline
from service.gallery.galleries import Galleries
from service.gallery.identification import MIN_SIMILARITY, identify_templates
from service.gallery.records import TemplateCandidate

_GROWTH = 4  # of the number of templates to look at, while too few of them are measured


def nearest_measured(
    galleries: Galleries,
    name: str,
    probes: NDArray[np.float32],
    k: int,
    templates: int,
    floor: float = MIN_SIMILARITY,
    deadline: Deadline | None = None,
) -> list[list[TemplateCandidate]]:
    """Find the nearest templates of a gallery like `identify_templates`, without those of quality 0.

    A search is repeated, for more templates, only if some were left out of an answer and others may take their place.

    Args:
        galleries: Galleries of the data directory.
        name: Name of the gallery to search.
        probes: (Q, D) float32 of length 1.
        k: Maximum number of templates for each probe.
        templates: Number of templates of the gallery.
        floor: Minimum similarity of a template.
        deadline: Deadline of the request; None for no time limit.
    """
    found: list[list[TemplateCandidate]] = [[] for _ in probes]
    pending, depth = list(range(len(probes))), k
    while pending:
        hits = identify_templates(galleries, name, probes[pending], depth, floor, deadline)
        for probe, nearest in zip(pending, hits, strict=True):
            found[probe] = [candidate for candidate in nearest if candidate.template.is_measured][:k]
        pending = [
            probe
            for probe, nearest in zip(pending, hits, strict=True)
            if len(found[probe]) < k and len(nearest) == depth < templates
        ]
        depth = min(_GROWTH * depth, templates)
    return found
