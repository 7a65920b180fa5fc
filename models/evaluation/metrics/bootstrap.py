"""Confidence intervals by a bootstrap over subjects.

Pairs that share a subject are not independent: one person who resembles many others causes many errors at once. Each
replicate therefore draws whole subjects with replacement, with all their pictures. The weight of a pair is the product
of the numbers of draws of its two subjects. Two copies of one subject are not compared with each other. (R. Bolle, N.
Ratha, S. Pankanti, "Error analysis of pattern recognition systems: the subsets bootstrap", Computer Vision and Image
Understanding 93, 2004.)
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.calibration import MIN_ERRORS
from models.evaluation.metrics.pair_scores import PairScores
from models.evaluation.metrics.subject_bounds import CONFIDENCE, disjoint_pairs, upper_bound
from models.types import Progress, no_progress

REPLICATES = 1000

Interval = tuple[float, float]


class PointIntervals(NamedTuple):
    """95 % confidence intervals of one operating point.

    Attributes:
        fmr: Interval of the false match rate at the threshold.
        threshold: Interval of the threshold for the rate.
        fnmr: Interval of the false non-match rate at the threshold. The fewer errors, the less the replicates vary, so
            the upper end is at least the bound of `upper_bound` for the number of subjects with mated pairs, which is
            the rule of 3 without an error. If nearly all mated pairs are errors, the same holds for the lower end.
        fnmr_by_subject: Interval of the false non-match rate with equal weight for each subject, with the same bounds.
            None if the subjects are unknown.
    """

    fmr: Interval
    threshold: Interval
    fnmr: Interval
    fnmr_by_subject: Interval | None


def point_intervals(
    pairs: PairScores,
    points: Sequence[tuple[float, float]],
    replicates: int = REPLICATES,
    seed: int = 0,
    progress: Progress = no_progress,
) -> list[PointIntervals]:
    """Compute the confidence intervals of operating points.

    Args:
        pairs: Similarities of pairs of known subjects.
        points: (rate, threshold) of each operating point.
        replicates: Number of bootstrap replicates.
        seed: Seed of the draws.
        progress: Called after each replicate.
    """
    assert pairs.subjects is not None  # for the type checker; callers pass pairs with subjects
    names, owner = np.unique(pairs.subjects, return_inverse=True)
    sizes = np.bincount(owner, minlength=len(names)).astype(np.float64)
    tail, mated = pairs.non_mated, pairs.mated
    first, second, of_mated = owner[tail.first], owner[tail.second], owner[mated.first]
    reach = [int(np.searchsorted(-tail.scores, -np.float32(threshold), side="right")) for _, threshold in points]
    pairs_of = np.bincount(of_mated, minlength=len(names)).astype(np.float64)
    missed = np.stack(
        [np.bincount(of_mated, mated.scores < np.float32(threshold), minlength=len(names)) for _, threshold in points]
    )
    own_rates = missed / np.maximum(pairs_of, 1)
    rates = np.array([rate for rate, _ in points])
    drawn = np.empty((replicates, len(points), 4))
    rng = np.random.default_rng(seed)
    for replicate in range(replicates):
        weight = _draw(rng, len(names))
        errors = np.concatenate([[0.0], np.cumsum(weight[first] * weight[second])])
        total = _all_pairs(weight * sizes) if pairs.all_pairs else errors[-1]
        if not total:  # of listed pairs, possibly none belongs to the drawn subjects
            drawn[replicate] = np.nan
            continue
        drawn[replicate, :, 0] = errors[reach] / total
        last = np.searchsorted(errors, rates * total, side="right") - 1  # number of pairs of the tail within the rate
        drawn[replicate, :, 1] = tail.scores[np.clip(last - 1, 0, len(tail.scores) - 1)]
        if len(tail.scores) < tail.count:  # the similarities below the tail are unknown
            drawn[replicate, last >= len(tail.scores), 1] = -1.0
        drawn[replicate, last < 1, 1] = np.nextafter(tail.scores[0], np.float32(2))  # the rate allows no error
        compared = float(pairs_of @ weight)
        drawn[replicate, :, 2] = (missed @ weight) / compared if compared else np.nan
        represented = float((pairs_of > 0) @ weight)
        drawn[replicate, :, 3] = (own_rates @ weight) / represented if represented else np.nan
        progress("bootstrap over subjects", replicate + 1, replicates)
    edge = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(drawn, [edge, 1 - edge], axis=0)
    with_mated = int((pairs_of > 0).sum())
    measured = np.stack([missed.sum(axis=1) / pairs_of.sum(), own_rates.sum(axis=1) / with_mated], axis=1)
    high[:, 2:] = np.maximum(high[:, 2:], upper_bound(measured, with_mated))
    nearly_all = measured > 0.5
    low[:, 2:][nearly_all] = np.minimum(low[:, 2:], 1 - upper_bound(1 - measured, with_mated))[nearly_all]
    return [
        PointIntervals(*((float(low[point, kind]), float(high[point, kind])) for kind in range(4)))
        for point in range(len(points))
    ]


def rate_intervals(
    pairs: PairScores, threshold: float, replicates: int = REPLICATES, seed: int = 0
) -> tuple[Interval | None, Interval | None]:
    """Compute the confidence intervals of both error rates at a threshold that may have few errors or none.

    With fewer than 30 false matches, the upper end of FMR is at least the bound over disjoint pairs of subjects.

    Args:
        pairs: Similarities of pairs of known subjects.
        threshold: Similarity from which a comparison is a match.
        replicates: Number of bootstrap replicates.
        seed: Seed of the draws.

    Returns:
        95 % confidence intervals of FMR and of FNMR; None without a non-mated, or without a mated, pair.
    """
    assert pairs.subjects is not None  # for the type checker; callers pass pairs with subjects
    names, owner = np.unique(pairs.subjects, return_inverse=True)
    sizes = np.bincount(owner, minlength=len(names)).astype(np.float64)
    tail, of_mated = pairs.non_mated, owner[pairs.mated.first]
    first, second = owner[tail.first], owner[tail.second]
    errors = min(tail.errors(threshold), len(first))
    pairs_of = np.bincount(of_mated, minlength=len(names)).astype(np.float64)
    missed = np.bincount(of_mated, pairs.mated.missed(threshold), minlength=len(names))
    shares = np.full((replicates, 2), np.nan)
    rng = np.random.default_rng(seed)
    for share in shares:
        weight = _draw(rng, len(names)) if len(names) > 1 else np.ones(1)
        total = _all_pairs(weight * sizes) if pairs.all_pairs else float(weight[first] @ weight[second])
        compared = float(pairs_of @ weight)
        share[0] = float(weight[first[:errors]] @ weight[second[:errors]]) / total if total else np.nan
        share[1] = float(missed @ weight) / compared if compared else np.nan
    fmr = fnmr = None
    edge = (1 - CONFIDENCE) / 2
    if tail.count:
        low, high = np.nanquantile(shares[:, 0], [edge, 1 - edge])
        few = errors < MIN_ERRORS
        bound = upper_bound(np.array([tail.fmr(threshold)]), disjoint_pairs(pairs))[0] if few else 0.0
        fmr = (float(low), float(max(high, bound)))
    if len(of_mated):
        low, high = np.nanquantile(shares[:, 1], [edge, 1 - edge])
        rate, with_mated = np.array([pairs.mated.fnmr(threshold)]), int((pairs_of > 0).sum())
        least = 1 - upper_bound(1 - rate, with_mated)[0] if rate[0] > 0.5 else low
        fnmr = (float(min(low, least)), float(max(high, upper_bound(rate, with_mated)[0])))
    return fmr, fnmr


def fnmr_by_subject(pairs: PairScores, threshold: float) -> float | None:
    """Return the false non-match rate with equal weight for each subject; None if the subjects are unknown."""
    if pairs.subjects is None:
        return None
    owner = np.unique(pairs.subjects[pairs.mated.first], return_inverse=True)[1]
    return float((np.bincount(owner, pairs.mated.missed(threshold)) / np.bincount(owner)).mean())


def _draw(rng: np.random.Generator, subjects: int) -> NDArray[np.float64]:
    """Draw `subjects` subjects with replacement, at least two different ones; return how often each is drawn."""
    while True:
        weight = rng.multinomial(subjects, np.full(subjects, 1 / subjects))
        if (weight > 0).sum() > 1:
            return weight.astype(np.float64)


def _all_pairs(pictures: NDArray[np.float64]) -> float:
    """Return the number of pairs of pictures of different subjects, from the number of pictures of each subject."""
    return float((pictures.sum() ** 2 - (pictures**2).sum()) / 2)
