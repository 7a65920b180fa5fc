"""1:N identification: rank rates, and true positive identification rates (TPIR) at a given FPIR.

Two definitions exist. In ISO/IEC 19795-1, a non-mated probe is a probe whose subject is not enrolled, and FPIR is the
share of non-mated probes that return any candidate. A subject whose enrolment was attempted and failed is enrolled in
this sense: the system cannot find the person, so each of their probes is a miss (FNIR) and none is non-mated. Failures
to acquire a probe count too, as in that standard. In the official code of IJB (`eval_helper_identification.py` of
AdaFace, `ijb_1n.py` of insightface), all probes are enrolled. The threshold is the k-th largest of all scores with
other subjects, where k is FPIR times the number of probes. A probe is identified if its score with its own subject
exceeds the threshold, at any rank.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import SetUnreadable, SingleClass
from models.types import Progress, no_progress

RANKS = (1, 5, 10)
FPIRS = (1e-3, 1e-2, 1e-1)
OFFICIAL_FPIRS = (0.01, 0.1)

_PROBES = 256  # probes compared at once

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]


class RateAtFpir(NamedTuple):
    """The identification rate at one false positive identification rate.

    Attributes:
        fpir: Maximum false positive identification rate.
        tpir: True positive identification rate, 1 - FNIR.
        threshold: Similarity from which a subject is a candidate; in the official code of IJB, above which.
        errors: Number of non-mated probes at or above the threshold; in the official code of IJB, the number k of
            scores that determines the threshold.
    """

    fpir: float
    tpir: float
    threshold: float
    errors: int


class Identification(NamedTuple):
    """The outcome of a search of all probes in a gallery.

    Attributes:
        ranks: Share of mated probes whose subject is among the first 1, 5 and 10 candidates.
        rates: Identification rates at the FPIRs that the number of non-mated probes supports.
        mated, non_mated: Numbers of probes.
        unenrolled: Number of mated probes whose subject failed to enrol.
        own: (M,) float32, similarity of each mated probe to its own subject; -1 if no face was acquired or enrolled.
        place: (M,) int64, rank of each mated probe's own subject, from 0.
        best_other: (K,) float32, highest similarity of each non-mated probe to any subject.
    """

    ranks: dict[int, float]
    rates: list[RateAtFpir]
    mated: int
    non_mated: int
    unenrolled: int
    own: Floats
    place: NDArray[np.int64]
    best_other: Floats


def search(
    gallery: Floats, gallery_subjects: Ids, probes: Floats, probe_subjects: Ids, progress: Progress = no_progress
) -> Identification:
    """Search every probe in an open-set gallery and compute the rates of ISO/IEC 19795-1.

    Args:
        gallery: (G, D) float32, embeddings of length 1; zero if no face was acquired. Of several embeddings of a
            subject, the most similar one counts. A subject without an embedding failed to enrol.
        gallery_subjects: (G,) int64, subject of each embedding.
        probes: (P, D) float32, embeddings of length 1; zero if no face was acquired. Such a probe has no candidates.
        probe_subjects: (P,) int64, subject of each probe.
        progress: Called after each block of probes.

    Raises:
        SingleClass: No probe is of a subject of the gallery, or no embedding of the gallery was acquired.
    """
    acquired = gallery.any(axis=1)
    if not acquired.any():
        raise SingleClass("no subject is enrolled: no picture of the gallery has a face")
    subjects, owner = np.unique(gallery_subjects, return_inverse=True)
    order = np.argsort(owner, kind="stable")
    starts = np.flatnonzero(np.diff(owner[order], prepend=-1))
    enrolled = np.isin(probe_subjects, subjects)
    if not enrolled.any():
        raise SingleClass("no probe is of an enrolled subject, so no identification rate can be measured")
    target = np.searchsorted(subjects, probe_subjects)
    failed = ~np.isin(subjects, gallery_subjects[acquired])
    own, place, best_other = [], [], []
    for start in range(0, len(probes), _PROBES):
        part = slice(start, start + _PROBES)
        similarity = probes[part] @ gallery.T
        similarity[:, ~acquired] = -1
        best = np.maximum.reduceat(similarity[:, order], starts, axis=1)
        best[~probes[part].any(axis=1)] = -1
        mated = enrolled[part]
        own_scores = best[mated, target[part][mated]]
        own.append(own_scores)
        place.append((best[mated] > own_scores[:, None]).sum(axis=1))
        best_other.append(best[~mated].max(axis=1))
        progress("searching", min(start + _PROBES, len(probes)), len(probes))
    scores, places, others = np.concatenate(own), np.concatenate(place), np.concatenate(best_other)
    unfound = failed[target[enrolled]]
    places[~probes[enrolled].any(axis=1) | unfound] = len(subjects) + max(RANKS)  # beyond every rank
    rates = [] if not len(others) else [rate for fpir in FPIRS if (rate := _rate_at(fpir, scores, places, others))]
    ranks = {rank: float((places < rank).mean()) for rank in RANKS}
    return Identification(ranks, rates, len(scores), len(others), int(unfound.sum()), scores, places, others)


def search_ijb_protocol(
    gallery: Floats, gallery_subjects: Ids, probes: Floats, probe_subjects: Ids
) -> tuple[dict[int, float], list[RateAtFpir]]:
    """Search every probe and compute the rates of the official code of IJB.

    Args:
        gallery: (G, D) float32, templates of length 1, one for each subject.
        gallery_subjects: (G,) int64, subject of each template.
        probes: (P, D) float32, templates of length 1.
        probe_subjects: (P,) int64, subject of each probe; all of them are enrolled.

    Returns:
        Share of probes whose subject is among the first 1, 5 and 10 candidates, and the rates at `OFFICIAL_FPIRS`.

    Raises:
        SingleClass: The subject of a probe is not enrolled.
        SetUnreadable: A subject is enrolled more than once.
    """
    order = np.argsort(gallery_subjects, kind="stable")
    subjects = gallery_subjects[order]
    if (subjects[1:] == subjects[:-1]).any():
        raise SetUnreadable("a subject has several templates in the galleries; the IJB protocol requires exactly one")
    target = np.clip(np.searchsorted(subjects, probe_subjects), 0, len(subjects) - 1)
    if not (subjects[target] == probe_subjects).all():
        raise SingleClass("the subject of a probe is in no gallery; the IJB protocol requires all to be enrolled")
    maximum = int(np.ceil(max(OFFICIAL_FPIRS) * len(probes)))
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
        if len(highest) > maximum:
            highest = np.partition(highest, len(highest) - maximum)[len(highest) - maximum :]
    highest = np.sort(highest)[::-1]
    rates = []
    for fpir in OFFICIAL_FPIRS:
        count = int(np.ceil(fpir * len(probes)))
        threshold = float(highest[min(count, len(highest)) - 1])
        rates.append(RateAtFpir(fpir, float((own > np.float32(threshold)).mean()), threshold, count))
    return {rank: float((place < rank).mean()) for rank in RANKS}, rates


def _rate_at(fpir: float, own: Floats, place: NDArray[np.int64], best_other: Floats) -> RateAtFpir | None:
    """Return the rate at the lowest threshold that at most the share `fpir` of the non-mated probes reach.

    Returns:
        The rate; None if `fpir` allows no error.
    """
    allowed = int(np.floor(fpir * len(best_other) + 1e-9))
    if not allowed:
        return None
    highest = np.sort(best_other)[::-1]
    threshold = np.nextafter(highest[allowed], np.float32(2)) if allowed < len(highest) else np.float32(-1)
    identified = (own >= threshold) & (place == 0)
    return RateAtFpir(fpir, float(identified.mean()), float(threshold), int((best_other >= threshold).sum()))
