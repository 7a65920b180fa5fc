"""Similarities of mated and non-mated pairs, stored so that low false match rates are exact.

The terms follow ISO/IEC 19795-1. FMR and FNMR are over completed comparisons. The generalized rates GFAR and GFRR are
over all attempted ones: a pair with a face that was not acquired was attempted and not completed, so it is never
accepted. A pair with a missing file was not attempted and counts nowhere.

Non-mated pairs are numerous, so only the most similar ones (the tail) are stored one by one, and all of them are
counted in a histogram. False match rates in the tail are exact to the pair; higher rates are exact to the width of a
histogram bin.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.calibration import DISTRIBUTION_BINS, MIN_ERRORS, Distribution

BINS = 1 << 14  # over [-1, 1]
EDGES = np.linspace(-1, 1, BINS + 1)
CENTRES = (EDGES[:-1] + EDGES[1:]) / 2

Floats = NDArray[np.float32]
Indices = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class MatedPairs:
    """All mated pairs.

    Attributes:
        scores: (M,) float32, similarities of the completed comparisons.
        first, second: (M,) int32, indices of the two pictures.
        incomplete: Number of comparisons that were not completed, because a face was not acquired.
    """

    scores: Floats
    first: Indices
    second: Indices
    incomplete: int = 0

    def missed(self, threshold: float) -> NDArray[np.bool_]:
        """Return (M,) bool, whether the similarity of each pair is below a threshold."""
        below: NDArray[np.bool_] = self.scores < np.float32(threshold)
        return below

    def fnmr(self, threshold: float) -> float:
        """Return the false non-match rate: the share of completed comparisons below a threshold."""
        return float(self.missed(threshold).mean())

    def gfrr(self, threshold: float) -> float:
        """Return the generalized false reject rate: the share of attempted comparisons that are not accepted."""
        return (int(self.missed(threshold).sum()) + self.incomplete) / (len(self.scores) + self.incomplete)


@dataclass(frozen=True, slots=True, eq=False)
class NonMatedPairs:
    """Non-mated pairs.

    Attributes:
        count: Number of all completed comparisons.
        scores: (K,) float32, the K highest similarities in descending order (the tail).
        first, second: (K,) int32, indices of the two pictures.
        histogram: (BINS,) int64, histogram of all similarities over [-1, 1].
        incomplete: Number of comparisons that were not completed, because a face was not acquired.
    """

    count: int
    scores: Floats
    first: Indices
    second: Indices
    histogram: NDArray[np.int64]
    incomplete: int = 0

    def errors(self, threshold: float) -> int:
        """Return the number of pairs that reach a threshold.

        Below the tail, the pairs of the histogram bins that start at or above the threshold are counted.
        """
        limit = np.float32(threshold)
        if len(self.scores) == self.count or (len(self.scores) and limit > self.scores[-1]):
            return int(np.searchsorted(-self.scores, -limit, side="right"))
        first = int(np.ceil((threshold + 1) * (BINS / 2) - 1e-9))
        return int(self.histogram[max(0, first) :].sum())

    def fmr(self, threshold: float) -> float:
        """Return the false match rate: the share of completed comparisons that reach a threshold."""
        return self.errors(threshold) / self.count

    def supports(self, rate: float) -> bool:
        """Return whether the number of comparisons is large enough for 30 errors at this rate."""
        return rate * self.count + 1e-9 >= MIN_ERRORS

    def gfar(self, threshold: float) -> float:
        """Return the generalized false accept rate: the share of attempted comparisons that reach a threshold."""
        return self.errors(threshold) / (self.count + self.incomplete)

    def threshold(self, rate: float) -> float | None:
        """Return the lowest similarity of the tail that at most the share `rate` of the pairs reach.

        Returns:
            The similarity; None if the rate allows no error, or if it allows more errors than the tail has pairs.
        """
        errors = int(np.floor(rate * self.count + 1e-9))
        if errors < 1 or errors > len(self.scores):
            return None
        above = errors
        if errors < len(self.scores) and self.scores[errors] == self.scores[errors - 1]:  # ties would exceed the rate
            above = int(np.searchsorted(-self.scores, -self.scores[errors - 1], side="left"))
        return float(self.scores[above - 1]) if above else None


@dataclass(frozen=True, slots=True, eq=False)
class PairScores:
    """Similarities of all compared pairs.

    Attributes:
        mated, non_mated: Pairs of each kind.
        subjects: (N,) int64, subject of each picture; None if the subjects are unknown.
        all_pairs: Whether every pair of pictures was compared, so that the numbers of pairs follow from `subjects`.
        by_fold: Histograms for cross-validation; None if the subjects were not divided into folds.
    """

    mated: MatedPairs
    non_mated: NonMatedPairs
    subjects: NDArray[np.int64] | None
    all_pairs: bool = False
    by_fold: "FoldHistograms | None" = None


class Histograms(NamedTuple):
    """Histograms of similarities.

    Attributes:
        mated, non_mated: (BINS,) int64.
        mated_subjects: Number of subjects with mated pairs.
        subjects: Number of all subjects.
    """

    mated: NDArray[np.int64]
    non_mated: NDArray[np.int64]
    mated_subjects: int
    subjects: int


@dataclass(frozen=True, slots=True, eq=False)
class FoldHistograms:
    """Histograms of similarities by the folds of the two subjects of a pair.

    Attributes:
        mated: (F, BINS) int64; both pictures of a mated pair are in the same fold.
        non_mated: (F, F, BINS) int64, upper triangle over the two folds.
        mated_subjects: (F,) int64, number of subjects with mated pairs.
        subjects: (F,) int64, number of subjects.
    """

    mated: NDArray[np.int64]
    non_mated: NDArray[np.int64]
    mated_subjects: NDArray[np.int64]
    subjects: NDArray[np.int64]

    def of(self, fold: int) -> Histograms:
        """Return the histograms of pairs whose subjects are both in a fold."""
        return self._within(np.arange(len(self.mated)) == fold)

    def without(self, fold: int) -> Histograms:
        """Return the histograms of pairs without a subject of a fold."""
        return self._within(np.arange(len(self.mated)) != fold)

    def all(self) -> Histograms:
        """Return the histograms of all pairs."""
        return self._within(np.ones(len(self.mated), np.bool_))

    def _within(self, folds: NDArray[np.bool_]) -> Histograms:
        return Histograms(
            self.mated[folds].sum(axis=0),
            self.non_mated[folds][:, folds].sum(axis=(0, 1)),
            int(self.mated_subjects[folds].sum()),
            int(self.subjects[folds].sum()),
        )


def bins_of(scores: Floats) -> NDArray[np.intp]:
    """Return the histogram bin of each similarity."""
    bins = ((scores + np.float32(1)) * np.float32(BINS / 2)).astype(np.intp)
    return np.clip(bins, 0, BINS - 1, out=bins)


def listed_pairs(
    scores: Floats,
    mated: NDArray[np.bool_],
    first: Indices,
    second: Indices,
    subjects: NDArray[np.int64] | None = None,
    present: NDArray[np.bool_] | None = None,
) -> PairScores:
    """Return the scores of listed pairs; all non-mated pairs are stored one by one.

    Args:
        scores: (P,) float32, similarities; NaN if a face was not acquired, so that nothing was compared.
        mated: (P,) bool, whether a pair is mated.
        first: (P,) int32, first picture of each pair.
        second: (P,) int32, second picture of each pair.
        subjects: (N,) int64, subject of each picture; None if the subjects are unknown.
        present: (P,) bool, whether both files of a pair can be read; None means all. Other pairs were not attempted.
    """
    completed = ~np.isnan(scores)
    failed = ~completed if present is None else ~completed & present
    own, others = mated & completed, np.flatnonzero(~mated & completed)
    order = others[np.argsort(-scores[others], kind="stable")]
    histogram = np.bincount(bins_of(scores[others]), minlength=BINS).astype(np.int64)
    return PairScores(
        MatedPairs(scores[own], first[own], second[own], int((mated & failed).sum())),
        NonMatedPairs(len(order), scores[order], first[order], second[order], histogram, int((~mated & failed).sum())),
        subjects,
    )


def distribution_of(pairs: PairScores) -> Distribution:
    """Return how the similarities of completed comparisons are distributed, in wide bins."""
    edges = np.linspace(-1, 1, DISTRIBUTION_BINS + 1)
    mated, _ = np.histogram(np.clip(pairs.mated.scores, -1, 1), edges)
    non_mated, _ = np.histogram(CENTRES, edges, weights=pairs.non_mated.histogram)
    return Distribution(tuple(mated.tolist()), tuple(non_mated.astype(np.int64).tolist()))
