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

from models.evaluation.metrics.pair_scores import PairScores
from models.types import Progress, no_progress

REPLICATES = 1000
CONFIDENCE = 0.95

Interval = tuple[float, float]


class PointIntervals(NamedTuple):
    """95 % confidence intervals of one operating point.

    Attributes:
        fmr: Interval of the false match rate at the threshold.
        threshold: Interval of the threshold for the rate.
        fnmr: Interval of the false non-match rate at the threshold. Without errors every replicate is without errors
            too, so the upper end is taken from the rule of 3, over the subjects with mated pairs. If all mated pairs
            are errors, the lower end is taken from the same rule.
    """

    fmr: Interval
    threshold: Interval
    fnmr: Interval


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
    rates = np.array([rate for rate, _ in points])
    drawn = np.empty((replicates, len(points), 3))
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
        progress("bootstrap over subjects", replicate + 1, replicates)
    edge = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(drawn, [edge, 1 - edge], axis=0)
    rule_of_three = min(1.0, 3 / max(1, (pairs_of > 0).sum()))
    high[missed.sum(axis=1) == 0, 2] = rule_of_three
    low[missed.sum(axis=1) == pairs_of.sum(), 2] = 1 - rule_of_three
    return [
        PointIntervals(*((float(low[point, kind]), float(high[point, kind])) for kind in range(3)))
        for point in range(len(points))
    ]


def _draw(rng: np.random.Generator, subjects: int) -> NDArray[np.float64]:
    """Draw `subjects` subjects with replacement, at least two different ones; return how often each is drawn."""
    while True:
        weight = rng.multinomial(subjects, np.full(subjects, 1 / subjects))
        if (weight > 0).sum() > 1:
            return weight.astype(np.float64)


def _all_pairs(pictures: NDArray[np.float64]) -> float:
    """Return the number of pairs of pictures of different subjects, from the number of pictures of each subject."""
    return float((pictures.sum() ** 2 - (pictures**2).sum()) / 2)
