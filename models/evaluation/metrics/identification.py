"""1:N: rank rates, and identification rates where false ones are held.

Two ways to count. ISO/IEC 19795-1: a non-mated probe is one whose subject is not enrolled, and FPIR the share of those
that get any candidate. IJB's official code (`eval_helper_identification.py` of AdaFace, `ijb_1n.py` of insightface):
all probes are enrolled, the threshold is the k-th largest of all scores with other subjects, k the share of the number
of probes, and only the score with the own subject is compared, whatever its rank.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import OneClassOnly, SetUnreadable
from models.types import Progress, no_progress

RANKS = (1, 5, 10)
FPIRS = (1e-3, 1e-2, 1e-1)
OFFICIAL_FPIRS = (0.01, 0.1)

_PROBES = 256

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]


class RateAtFpir(NamedTuple):
    """An identification rate.

    Attributes:
        fpir: False positive identification rate that is held.
        tpir: True positive identification rate, 1 - FNIR.
        threshold: Similarity from which on a candidate counts.
        errors: Non-mated probes, or scores, above it.
    """

    fpir: float
    tpir: float
    threshold: float
    errors: int


class Identification(NamedTuple):
    """What a search gave.

    Attributes:
        ranks: Share of mated probes whose subject is among the first 1, 5, 10.
        rates: Where false positives are held.
        mated, non_mated: Numbers of probes.
        own: (M,) similarity of each mated probe to its own subject.
        place: (M,) its rank, from 0.
        best_other: (K,) highest similarity of each non-mated probe.
    """

    ranks: dict[int, float]
    rates: list[RateAtFpir]
    mated: int
    non_mated: int
    own: Floats
    place: NDArray[np.int64]
    best_other: Floats


def search(
    gallery: Floats, gallery_subjects: Ids, probes: Floats, probe_subjects: Ids, progress: Progress = no_progress
) -> Identification:
    """Search every probe among the subjects of a gallery, open set, counted as ISO/IEC 19795-1 does.

    Args:
        gallery: (G, D) float32 of length 1; a subject may have several, the most similar one counts.
        gallery_subjects: (G,) ids.
        probes: (P, D) float32 of length 1; zero where no face was acquired: such a probe finds nobody.
        probe_subjects: (P,) ids.
        progress: Called as work gets done.

    Raises:
        OneClassOnly: No probe's subject is enrolled.
    """
    subjects, owner = np.unique(gallery_subjects, return_inverse=True)
    order = np.argsort(owner, kind="stable")
    begin = np.flatnonzero(np.diff(owner[order], prepend=-1))
    enrolled = np.isin(probe_subjects, subjects)
    if not enrolled.any():
        raise OneClassOnly("no probe is of a subject of the gallery, so nobody could be identified")
    target = np.searchsorted(subjects, probe_subjects)
    own, place, other = [], [], []
    for start in range(0, len(probes), _PROBES):
        part = slice(start, start + _PROBES)
        best = np.maximum.reduceat((probes[part] @ gallery.T)[:, order], begin, axis=1)
        best[~probes[part].any(axis=1)] = -1
        mated = enrolled[part]
        mine = best[mated, target[part][mated]]
        own.append(mine)
        place.append((best[mated] > mine[:, None]).sum(axis=1))
        other.append(best[~mated].max(axis=1))
        progress("searching", min(start + _PROBES, len(probes)), len(probes))
    scores, places, strangers = np.concatenate(own), np.concatenate(place), np.concatenate(other)
    places[~probes[enrolled].any(axis=1)] = len(subjects)  # found nobody, at no rank
    rates = [] if not len(strangers) else [rate for fpir in FPIRS if (rate := _at(fpir, scores, places, strangers))]
    ranks = {rank: float((places < rank).mean()) for rank in RANKS}
    return Identification(ranks, rates, len(scores), len(strangers), scores, places, strangers)


def search_officially(
    gallery: Floats, gallery_subjects: Ids, probes: Floats, probe_subjects: Ids
) -> tuple[dict[int, float], list[RateAtFpir]]:
    """Search as IJB's official code: one template for each subject of the gallery, all probes enrolled.

    Returns:
        Share of probes whose subject is among the first 1, 5, 10; rates where false positives are held.

    Raises:
        OneClassOnly: A probe's subject is not enrolled.
        SetUnreadable: A subject is enrolled twice.
    """
    order = np.argsort(gallery_subjects, kind="stable")
    subjects = gallery_subjects[order]
    if (subjects[1:] == subjects[:-1]).any():
        raise SetUnreadable("a subject has several templates in the galleries, which IJB's own protocol does not have")
    target = np.clip(np.searchsorted(subjects, probe_subjects), 0, len(subjects) - 1)
    if not (subjects[target] == probe_subjects).all():
        raise OneClassOnly("a probe's subject is in none of the galleries, which IJB's own protocol does not have")
    most = int(np.ceil(max(OFFICIAL_FPIRS) * len(probes)))
    own = np.empty(len(probes), np.float32)
    place = np.empty(len(probes), np.int64)
    highest = np.empty(0, np.float32)
    for start in range(0, len(probes), _PROBES):
        part = slice(start, start + _PROBES)
        scores = probes[part] @ gallery[order].T
        rows = np.arange(len(scores))
        own[part] = scores[rows, target[part]]
        place[part] = (scores > own[part][:, None]).sum(axis=1)
        scores[rows, target[part]] = -np.inf
        highest = np.concatenate([highest, scores.ravel()])
        if len(highest) > most:
            highest = np.partition(highest, len(highest) - most)[len(highest) - most :]
    highest = np.sort(highest)[::-1]
    rates = []
    for fpir in OFFICIAL_FPIRS:
        count = int(np.ceil(fpir * len(probes)))
        threshold = float(highest[min(count, len(highest)) - 1])
        rates.append(RateAtFpir(fpir, float((own > np.float32(threshold)).mean()), threshold, count))
    return {rank: float((place < rank).mean()) for rank in RANKS}, rates


def _at(fpir: float, own: Floats, place: NDArray[np.int64], strangers: Floats) -> RateAtFpir | None:
    """Hold FPIR: at most that share of non-mated probes has a candidate that reaches the threshold."""
    allowed = int(np.floor(fpir * len(strangers) + 1e-9))
    if not allowed:
        return None
    highest = np.sort(strangers)[::-1]
    threshold = np.nextafter(highest[allowed], np.float32(2)) if allowed < len(highest) else np.float32(-1)
    found = (own >= threshold) & (place == 0)
    return RateAtFpir(fpir, float(found.mean()), float(threshold), int((strangers >= threshold).sum()))
