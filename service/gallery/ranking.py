"""Ranking of subjects from the nearest templates.

Templates are fetched in descending order of similarity. A subject without a fetched template therefore has no template
that is nearer than the last one fetched. This bounds the fused similarity of that subject, and the search fetches more
templates until no such subject can enter the result.

* `max`: the similarity of the nearest template. Bound: the similarity of the last template fetched.
* `mean`: the mean over all templates of the subject, which never exceeds the similarity of the nearest. Same bound.
* `quality-weighted`: the similarity to the weighted sum of the templates, normalised, as in AdaFace (`models.fusion`).
  Templates of quality 0 have no weight beside others, because no error rate was measured for such faces.
  Normalising the sum divides the similarity by the length of the weighted mean. The bound assumes a length of at least
  0.5, which templates of one person exceed (a mean cosine of 0.25 suffices).

Without an operating point, the bound of `mean` and `quality-weighted` may require all templates. The search then stops
at the 16,384 nearest templates of a probe, provided that they belong to at least k subjects.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.deadline import Deadline
from models.fusion import fuse
from service.gallery.index.base import NO_KEY, Hits
from service.gallery.index.live import LiveIndex
from service.gallery.records import Fusion, TemplateSet
from service.gallery.store import template_rows as rows
from service.gallery.store.database import Database

_MARGIN = 32  # templates fetched beyond k in the first search
_DEPTH_FACTOR = 4  # growth of the depth from one search to the next
_MAX_DEPTH = 16384  # templates of one probe, exceeded only if they belong to fewer than k subjects
_PROBES_AT_ONCE = 64
_BLOCK = 1024  # templates of each side whose similarities are in memory at the same time, in 4 MB
_MIN_LENGTH = 0.5  # assumed lower bound of the length of a weighted mean


@dataclass(frozen=True, slots=True)
class Ranked:
    """A subject and its similarity to a probe."""

    subject: int
    similarity: float


def rank(
    database: Database,
    live: LiveIndex,
    probes: NDArray[np.float32],
    k: int,
    fusion: Fusion,
    floor: float,
    deadline: Deadline,
) -> list[list[Ranked]]:
    """Find the nearest subjects of one gallery.

    Args:
        database: Store that the index is derived from.
        live: Index of the gallery.
        probes: (Q, D) float32 of length 1.
        k: Maximum number of subjects for each probe.
        fusion: Fusion of the similarities to a subject's templates.
        floor: Minimum similarity of a subject.
        deadline: Deadline of the request.

    Returns:
        Subjects of each probe, best first; fewer than k if fewer subjects of the gallery reach the floor.

    Raises:
        RequestCancelled: The client disconnected.
        DeadlineExceeded: The deadline passed.
    """
    return [
        ranked
        for start in range(0, len(probes), _PROBES_AT_ONCE)
        for ranked in _rank(database, live, probes[start : start + _PROBES_AT_ONCE], k, fusion, floor, deadline)
    ]


def nearest_templates(
    database: Database, live: LiveIndex, probes: NDArray[np.float32], k: int, floor: float, deadline: Deadline
) -> list[list[tuple[int, float]]]:
    """Find the nearest templates of one gallery, whoever's they are.

    Args:
        database: Store that the index is derived from.
        live: Index of the gallery.
        probes: (Q, D) float32 of length 1.
        k: Maximum number of templates for each probe.
        floor: Minimum similarity of a template.
        deadline: Deadline of the request.

    Returns:
        For each probe the keys of templates with their similarities, best first.

    Raises:
        RequestCancelled: The client disconnected.
        DeadlineExceeded: The deadline passed.
    """
    return [
        _nearest_templates(database, live, probe[None], k, floor, deadline)  # one at a time: k may be large
        for probe in probes
    ]


def _nearest_templates(
    database: Database, live: LiveIndex, probe: NDArray[np.float32], k: int, floor: float, deadline: Deadline
) -> list[tuple[int, float]]:
    depth = _DEPTH_FACTOR * k + _MARGIN if live.rounding else k
    while True:
        deadline.check()
        hits, rounding = live.search(probe, depth)
        keys, similarities = hits.template_keys[0], hits.similarities[0]
        last = float(similarities[-1]) if len(similarities) else -np.inf
        near = (keys != NO_KEY) & (similarities >= floor - rounding)
        keys, similarities = keys[near], similarities[near].astype(np.float64)
        if rounding and len(keys):
            with database.reading() as connection:
                keys, _, vectors = rows.vectors(connection, keys.tolist(), live.gallery.dimensions)
            similarities = (vectors @ probe[0]).astype(np.float64)
        order = np.lexsort((keys, -similarities))[:k]
        found = [(int(keys[at]), float(similarities[at])) for at in order if similarities[at] >= floor]
        exhausted = hits.template_keys.shape[1] < depth
        bound = last + rounding  # of a template that was not fetched
        if exhausted or not rounding or bound < floor or (len(found) == k and found[-1][1] >= bound):
            return found
        if depth >= max(_MAX_DEPTH, _DEPTH_FACTOR * k):
            return found
        depth *= _DEPTH_FACTOR


def _rank(
    database: Database,
    live: LiveIndex,
    probes: NDArray[np.float32],
    k: int,
    fusion: Fusion,
    floor: float,
    deadline: Deadline,
) -> list[list[Ranked]]:
    found: list[list[Ranked]] = [[] for _ in probes]
    pending = np.arange(len(probes))
    depth = _DEPTH_FACTOR * k + _MARGIN if live.rounding else k + _MARGIN
    while len(pending):
        deadline.check()
        searched = probes[pending]
        hits, rounding = live.search(searched, depth)
        deadline.check()
        exhausted = hits.template_keys.shape[1] < depth
        last = hits.similarities[:, -1:]
        if fusion == "max":
            hits = _relevant(hits, k, rounding, floor)
        score = _scores(database, live.gallery.dimensions, not rounding, searched, hits, fusion)
        unfinished = []
        for row, probe in enumerate(pending):
            deadline.check()
            ranked = sorted(score(row), key=lambda entry: (-entry.similarity, entry.subject))
            found[probe] = [entry for entry in ranked[:k] if entry.similarity >= floor]
            if exhausted or (depth >= _MAX_DEPTH and len(ranked) >= k):
                continue
            bound = _bound(float(last[row, 0]) + rounding, fusion)
            if bound >= floor and (len(ranked) < k or ranked[k - 1].similarity < bound):
                unfinished.append(probe)
        pending = np.array(unfinished, np.int64)
        depth *= _DEPTH_FACTOR
    return found


def comparable(templates: TemplateSet, fusion: Fusion) -> NDArray[np.float32]:
    """Return the (N, D) vectors whose greatest similarity is the fused similarity: all templates, or one fused."""
    return templates.vectors if fusion == "max" else _fused_vector(templates, fusion)[None]


def greatest_similarity(one: NDArray[np.float32], other: NDArray[np.float32], deadline: Deadline) -> float:
    """Compare each vector of one set with each of another, in bounded memory.

    Args:
        one: (N, D) float32 of `comparable`.
        other: (M, D) float32 of `comparable`.
        deadline: Deadline of the request.

    Returns:
        Greatest cosine, in [-1, 1] up to rounding.

    Raises:
        RequestCancelled: The client disconnected.
        DeadlineExceeded: The deadline passed.
    """
    greatest = -np.inf
    for start in range(0, len(one), _BLOCK):
        for other_start in range(0, len(other), _BLOCK):
            deadline.check()
            block = one[start : start + _BLOCK] @ other[other_start : other_start + _BLOCK].T
            greatest = max(greatest, float(block.max()))
    return greatest


def _fused_vector(templates: TemplateSet, fusion: Fusion) -> NDArray[np.float32]:
    """Return the vector whose similarity to a probe is the fused similarity: the mean, or AdaFace's weighted sum."""
    if fusion == "quality-weighted":
        return fuse(templates.vectors, templates.weights)
    mean: NDArray[np.float32] = templates.vectors.mean(axis=0)
    return mean


def _bound(last: float, fusion: Fusion) -> float:
    """Return the maximum fused similarity of a subject whose templates are no nearer than the last one fetched."""
    return last / _MIN_LENGTH if fusion == "quality-weighted" and last > 0 else last


def _relevant(hits: Hits, k: int, rounding: float, floor: float) -> Hits:
    """Keep templates that may be the nearest of one of the k nearest subjects, within the rounding error."""
    relevant = hits.similarities >= floor - rounding
    for row, subjects, similarities in zip(relevant, hits.subject_keys, hits.similarities, strict=True):
        nearest = _best(subjects, similarities)
        if len(nearest) > k:
            row &= similarities >= sorted(entry.similarity for entry in nearest)[-k] - 2 * rounding
    return Hits(
        hits.similarities, *(np.where(relevant, keys, NO_KEY) for keys in (hits.template_keys, hits.subject_keys))
    )


def _scores(
    database: Database, dimensions: int, exact: bool, probes: NDArray[np.float32], hits: Hits, fusion: Fusion
) -> Callable[[int], Sequence[Ranked]]:
    """Return a function that scores the subjects hit by a probe, given the probe's row."""
    if fusion == "max" and exact:
        return lambda row: _best(hits.subject_keys[row], hits.similarities[row])
    if fusion == "max":
        templates = np.unique(hits.template_keys[hits.template_keys != NO_KEY])
        with database.reading() as connection:
            keys, owners, vectors = rows.vectors(connection, templates.tolist(), dimensions)
        order = np.argsort(keys)
        keys, owners, vectors = keys[order], owners[order], vectors[order]

        def exact_scores(row: int) -> Sequence[Ranked]:
            hit = np.flatnonzero(np.isin(keys, hits.template_keys[row]))
            return _best(owners[hit], vectors[hit] @ probes[row])

        return exact_scores
    with database.reading() as connection:
        subjects = np.unique(hits.subject_keys[hits.subject_keys != NO_KEY]).tolist()
        sets = rows.sets(connection, subjects, dimensions)
    keys = np.array(sorted(sets), np.int64)
    fused = np.stack([_fused_vector(sets[key], fusion) for key in keys]) if sets else np.empty((0, dimensions))

    def fused_scores(row: int) -> Sequence[Ranked]:
        hit = np.flatnonzero(np.isin(keys, hits.subject_keys[row]))
        similarities = fused[hit] @ probes[row]
        return [Ranked(int(key), float(similarity)) for key, similarity in zip(keys[hit], similarities, strict=True)]

    return fused_scores


def _best(subjects: NDArray[np.int64], similarities: NDArray[np.float32]) -> list[Ranked]:
    """Return each subject with the similarity of its nearest template."""
    order = np.argsort(-similarities, kind="stable")
    subjects, first = np.unique(subjects[order], return_index=True)
    return [
        Ranked(int(subject), float(similarities[order[position]]))
        for subject, position in zip(subjects, first, strict=True)
        if subject != NO_KEY
    ]
