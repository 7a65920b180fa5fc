"""Similarities of mated and non-mated pairs, kept so that error rates are exact where they matter.

Words follow ISO/IEC 19795-1. Of the non-mated pairs, of which there are many, the most similar are kept one by one and
all of them in a histogram; rates in the tail are exact to the pair, the rest to the width of a bin.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 1 << 14  # over [-1, 1]
EDGES = np.linspace(-1, 1, BINS + 1)
CENTRES = (EDGES[:-1] + EDGES[1:]) / 2

Floats = NDArray[np.float32]
Indices = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class MatedPairs:
    """All pairs of one subject each.

    Attributes:
        scores: (M,) similarities; -1 where a face was not acquired.
        first, second: (M,) pictures.
    """

    scores: Floats
    first: Indices
    second: Indices

    def fnmr(self, threshold: float) -> float:
        """Return the share of mated pairs below a threshold."""
        return float((self.scores < np.float32(threshold)).mean())


@dataclass(frozen=True, slots=True, eq=False)
class NonMatedPairs:
    """Pairs of different subjects.

    Attributes:
        count: How many there are.
        scores: (K,) the K highest similarities, highest first.
        first, second: (K,) their pictures.
        histogram: (BINS,) int64, all similarities.
    """

    count: int
    scores: Floats
    first: Indices
    second: Indices
    histogram: NDArray[np.int64]

    def errors(self, threshold: float) -> int:
        """Count the pairs that reach a threshold; below the kept tail, those of the bins that begin there or above."""
        wanted = np.float32(threshold)
        if len(self.scores) == self.count or (len(self.scores) and wanted > self.scores[-1]):
            return int(np.searchsorted(-self.scores, -wanted, side="right"))
        first = int(np.ceil((threshold + 1) * (BINS / 2) - 1e-9))
        return int(self.histogram[max(0, first) :].sum())

    def fmr(self, threshold: float) -> float:
        """Return the share of non-mated pairs that reach a threshold."""
        return self.errors(threshold) / self.count

    def threshold(self, rate: float) -> float | None:
        """Return the lowest similarity kept at which the share of pairs that reach it is at most `rate`.

        Returns:
            None where not a single error fits into the rate, or the kept tail is shorter than that.
        """
        errors = int(np.floor(rate * self.count + 1e-9))
        if errors < 1 or errors > len(self.scores):
            return None
        above = errors
        if errors < len(self.scores) and self.scores[errors] == self.scores[errors - 1]:  # ties would go beyond
            above = int(np.searchsorted(-self.scores, -self.scores[errors - 1], side="left"))
        return float(self.scores[above - 1]) if above else None


@dataclass(frozen=True, slots=True, eq=False)
class PairScores:
    """What was compared.

    Attributes:
        mated, non_mated: The two kinds.
        subjects: (N,) int64, the number of the subject of each picture; None where that is not known.
        all_pairs: Whether every pair of pictures was compared, so that counts follow from `subjects`.
        by_fold: Histograms for cross-validation, where subjects were dealt into folds.
    """

    mated: MatedPairs
    non_mated: NonMatedPairs
    subjects: NDArray[np.int64] | None
    all_pairs: bool = False
    by_fold: "FoldHistograms | None" = None


@dataclass(frozen=True, slots=True, eq=False)
class FoldHistograms:
    """Histograms of pairs by the folds of their two subjects.

    Attributes:
        mated: (F, BINS) int64; both pictures are of one subject, hence of one fold.
        non_mated: (F, F, BINS) int64, upper triangle.
    """

    mated: NDArray[np.int64]
    non_mated: NDArray[np.int64]

    def of(self, fold: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return mated and non-mated histograms of pairs whose subjects are both of a fold."""
        return self.mated[fold], self.non_mated[fold, fold]

    def without(self, fold: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return histograms of pairs that have no subject of a fold."""
        others = np.arange(len(self.mated)) != fold
        return self.mated[others].sum(axis=0), self.non_mated[others][:, others].sum(axis=(0, 1))

    def all(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return histograms of all pairs."""
        return self.mated.sum(axis=0), self.non_mated.sum(axis=(0, 1))


def bins_of(scores: Floats) -> NDArray[np.intp]:
    """Return the bin of each similarity."""
    places = ((scores + np.float32(1)) * np.float32(BINS / 2)).astype(np.intp)
    return np.clip(places, 0, BINS - 1, out=places)


def listed_pairs(
    scores: Floats,
    mated: NDArray[np.bool_],
    first: Indices,
    second: Indices,
    subjects: NDArray[np.int64] | None = None,
) -> PairScores:
    """Keep the similarities of pairs that a list names; all are kept one by one.

    Args:
        scores: (P,) similarities; NaN where a face was not acquired: a mated pair then counts as -1, a false
            non-match at every threshold, and a non-mated one is no comparison.
        mated: (P,) whether a pair is of one subject.
        first: (P,) one picture of each pair.
        second: (P,) the other.
        subjects: (N,) of each picture, if that is known.
    """
    others = np.flatnonzero(~mated & ~np.isnan(scores))
    order = others[np.argsort(-scores[others], kind="stable")]
    histogram = np.bincount(bins_of(scores[others]), minlength=BINS).astype(np.int64)
    return PairScores(
        MatedPairs(np.nan_to_num(scores[mated], nan=-1), first[mated], second[mated]),
        NonMatedPairs(len(order), scores[order], first[order], second[order], histogram),
        subjects,
    )
