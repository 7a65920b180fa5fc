"""From the nearest templates to the nearest subjects.

Templates are fetched in falling order of similarity, so a subject of which none was fetched has none that is nearer
than the last. That bounds what it could reach, whatever the fusion, and the search goes deeper until the bound says
that it is done.

* `max`: the similarity of the nearest template. Bound: that of the last one fetched.
* `mean`: the mean over all templates of the subject; never above its nearest. The same bound.
* `quality-weighted`: to the template that AdaFace's way of adding makes of all (`models.fusion`). Normalising the sum
  lifts the similarity by one over the length of the weighted mean; that length is taken to be at least one half, which
  templates of one person exceed (mean cosine of 0.25 suffices).

Without an operating point the bound of the latter two may ask for all templates; the search ends then at the 16,384
nearest of a probe, if they are of enough subjects.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.fusion import fuse
from service.gallery.index.base import NOTHING, Hits
from service.gallery.index.live import LiveIndex
from service.gallery.records import Fusion, TemplateSet
from service.gallery.store import template_rows as rows
from service.gallery.store.database import Database

_MARGIN = 32  # templates more than subjects are wanted, at first
_DEEPER = 4
_DEEPEST = 16384  # templates of one probe, unless they are of too few subjects
_AT_ONCE = 64  # probes
_LEAST_LENGTH = 0.5


@dataclass(frozen=True, slots=True)
class Ranked:
    """A subject and its similarity to a probe."""

    subject: int
    similarity: float


def rank(
    database: Database, live: LiveIndex, probes: NDArray[np.float32], k: int, fusion: Fusion, floor: float
) -> list[list[Ranked]]:
    """Find the nearest subjects of one gallery.

    Args:
        database: The truth.
        live: Index of the gallery.
        probes: (Q, D) float32 of length 1.
        k: How many subjects for each probe.
        fusion: How similarities to the templates of one subject become one.
        floor: Subjects with a smaller similarity are not wanted.

    Returns:
        For each probe, best first; fewer than k where the gallery has fewer that reach the floor.
    """
    return [
        own
        for start in range(0, len(probes), _AT_ONCE)
        for own in _rank(database, live, probes[start : start + _AT_ONCE], k, fusion, floor)
    ]


def _rank(
    database: Database, live: LiveIndex, probes: NDArray[np.float32], k: int, fusion: Fusion, floor: float
) -> list[list[Ranked]]:
    found: list[list[Ranked]] = [[] for _ in probes]
    pending = np.arange(len(probes))
    depth = _DEEPER * k + _MARGIN if live.rounding else k + _MARGIN
    while len(pending):
        some = probes[pending]
        hits, rounding = live.search(some, depth)
        whole = hits.template_keys.shape[1] < depth
        last = hits.similarities[:, -1:]
        if fusion == "max":
            hits = _that_matter(hits, k, rounding, floor)
        score = _scores(database, live.gallery.dimensions, not rounding, some, hits, fusion)
        unfinished = []
        for place, probe in enumerate(pending):
            ranked = sorted(score(place), key=lambda one: (-one.similarity, one.subject))
            found[probe] = [one for one in ranked[:k] if one.similarity >= floor]
            if whole or (depth >= _DEEPEST and len(ranked) >= k):
                continue
            reachable = _reachable(float(last[place, 0]) + rounding, fusion)
            if reachable >= floor and (len(ranked) < k or ranked[k - 1].similarity < reachable):
                unfinished.append(probe)
        pending = np.array(unfinished, np.int64)
        depth *= _DEEPER
    return found


def fused_similarity(one: TemplateSet, other: TemplateSet, fusion: Fusion) -> float:
    """Compare all templates of one side with all of the other; an embedding alone is a set of one.

    Returns:
        Cosine in [-1, 1], up to rounding.
    """
    if fusion == "max":
        return float((one.vectors @ other.vectors.T).max())
    return float(_together(one, fusion) @ _together(other, fusion))


def pairs_compared(one: TemplateSet, other: TemplateSet, fusion: Fusion) -> int:
    """Count the comparisons of which each may be wrong: of templates, or of what was made of them."""
    return len(one.vectors) * len(other.vectors) if fusion == "max" else 1


def _together(templates: TemplateSet, fusion: Fusion) -> NDArray[np.float32]:
    """Make one vector of which the similarity is that to all templates: their mean, or what AdaFace's way makes."""
    if fusion == "quality-weighted":
        return fuse(templates.vectors, templates.weights)
    mean: NDArray[np.float32] = templates.vectors.mean(axis=0)
    return mean


def _reachable(last: float, fusion: Fusion) -> float:
    """Bound what a subject can reach whose templates are no nearer than the last one fetched."""
    return last / _LEAST_LENGTH if fusion == "quality-weighted" and last > 0 else last


def _that_matter(hits: Hits, k: int, rounding: float, floor: float) -> Hits:
    """Leave out templates that cannot be the nearest of one of the k nearest subjects, however they were rounded."""
    matter = hits.similarities >= floor - rounding
    for own, subjects, similarities in zip(matter, hits.subject_keys, hits.similarities, strict=True):
        nearest = _best(subjects, similarities)
        if len(nearest) > k:
            own &= similarities >= sorted(one.similarity for one in nearest)[-k] - 2 * rounding
    return Hits(
        hits.similarities, *(np.where(matter, keys, NOTHING) for keys in (hits.template_keys, hits.subject_keys))
    )


def _scores(
    database: Database, dimensions: int, exact: bool, probes: NDArray[np.float32], hits: Hits, fusion: Fusion
) -> Callable[[int], Sequence[Ranked]]:
    """Prepare what gives the subjects hit by a probe, by its place, their similarities."""
    if fusion == "max" and exact:
        return lambda place: _best(hits.subject_keys[place], hits.similarities[place])
    if fusion == "max":
        wanted = np.unique(hits.template_keys[hits.template_keys != NOTHING])
        with database.reading() as connection:
            keys, owners, vectors = rows.vectors(connection, wanted.tolist(), dimensions)
        order = np.argsort(keys)
        keys, owners, vectors = keys[order], owners[order], vectors[order]

        def again(place: int) -> Sequence[Ranked]:
            own = np.flatnonzero(np.isin(keys, hits.template_keys[place]))
            return _best(owners[own], vectors[own] @ probes[place])

        return again
    with database.reading() as connection:
        subjects = np.unique(hits.subject_keys[hits.subject_keys != NOTHING]).tolist()
        sets = rows.sets(connection, subjects, dimensions)
    keys = np.array(sorted(sets), np.int64)
    together = np.stack([_together(sets[key], fusion) for key in keys]) if sets else np.empty((0, dimensions))

    def fused(place: int) -> Sequence[Ranked]:
        own = np.flatnonzero(np.isin(keys, hits.subject_keys[place]))
        similarities = together[own] @ probes[place]
        return [Ranked(int(key), float(one)) for key, one in zip(keys[own], similarities, strict=True)]

    return fused


def _best(subjects: NDArray[np.int64], similarities: NDArray[np.float32]) -> list[Ranked]:
    """Keep the nearest template of each subject."""
    order = np.argsort(-similarities, kind="stable")
    subjects, first = np.unique(subjects[order], return_index=True)
    return [
        Ranked(int(subject), float(similarities[order[place]]))
        for subject, place in zip(subjects, first, strict=True)
        if subject != NOTHING
    ]
