"""10-fold pair verification, computed as in the official code of face recognition projects.

The folds are contiguous. The threshold of a fold is the one with the highest accuracy on the other nine. Thresholds are
squared Euclidean distances of unit vectors: 0, 0.01, ..., 3.99. A pair is accepted if its distance is strictly below
the threshold. The reported values are the mean and the population standard deviation of the ten accuracies (G. B. Huang
et al., "Labeled Faces in the Wild", TR 07-49, 2007; the official code is `eval/verification.py` of arcface_torch and
ElasticFace). A pair with a face that was not acquired counts as an error in the accuracy, mated or not.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import SingleClass, TooFewSubjects

FOLDS = 10

_THRESHOLDS = np.arange(0, 4, 0.01)
_FINE_THRESHOLDS = np.arange(0, 4, 0.001)

Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]


class FoldAccuracy(NamedTuple):
    """Accuracy over the folds, in [0, 1].

    Attributes:
        mean, deviation: Mean and population standard deviation over the folds.
        folds: Accuracy of each fold.
        thresholds: Threshold of each fold: the squared distance with the highest accuracy on the other folds.
    """

    mean: float
    deviation: float
    folds: tuple[float, ...]
    thresholds: tuple[float, ...]


class ValidationRate(NamedTuple):
    """The validation rate at a maximum false accept rate, means over the folds.

    Attributes:
        val: Share of mated pairs that are accepted.
        far: Share of non-mated pairs that are accepted, as measured.
    """

    val: float
    far: float


class FoldedRates(NamedTuple):
    """Accept rates at each threshold, means over the folds.

    Attributes:
        thresholds: (400,) float64, squared distances.
        true: (400,) float64, share of mated pairs that are accepted.
        false: (400,) float64, share of non-mated pairs that are accepted.
    """

    thresholds: Doubles
    true: Doubles
    false: Doubles


def squared_distances(first: NDArray[np.floating], second: NDArray[np.floating]) -> Doubles:
    """Return (N,) float64, squared Euclidean distances of (N, D) vectors, computed as in the official code."""
    difference = first.astype(np.float64) - second.astype(np.float64)
    return np.asarray((difference**2).sum(axis=1))


def distances_of(similarity: NDArray[np.floating]) -> Doubles:
    """Return (N,) float64, squared Euclidean distances of unit vectors from their similarities."""
    return 2 - 2 * similarity.astype(np.float64)


def ten_fold_accuracy(distance: Doubles, mated: Flags, acquired: Flags | None = None) -> FoldAccuracy:
    """Compute 10-fold accuracy.

    Args:
        distance: (N,) float64, squared distances in the order of the file.
        mated: (N,) bool, whether a pair is mated.
        acquired: (N,) bool, whether both faces of a pair were acquired; None means all.

    Raises:
        TooFewSubjects: The number of pairs is lower than the number of folds.
        SingleClass: All pairs are mated, or all pairs are non-mated.
    """
    _require_folds(mated)
    correct = (distance[None] < _THRESHOLDS[:, None]) == mated[None]
    if acquired is not None:
        correct &= acquired[None]
    accuracies, thresholds = [], []
    for fold, others in _folds(len(mated)):
        best = int(np.argmax(correct[:, others].mean(axis=1)))
        accuracies.append(float(correct[best, fold].mean()))
        thresholds.append(float(_THRESHOLDS[best]))
    return FoldAccuracy(float(np.mean(accuracies)), float(np.std(accuracies)), tuple(accuracies), tuple(thresholds))


def folded_rates(distance: Doubles, mated: Flags, acquired: Flags | None = None) -> FoldedRates:
    """Compute the accept rates at each of the 400 thresholds, means over the folds.

    Args:
        distance: (N,) float64, squared distances in the order of the file.
        mated: (N,) bool, whether a pair is mated.
        acquired: (N,) bool, whether both faces of a pair were acquired; None means all. Other pairs are accepted at no
            threshold.

    Raises:
        TooFewSubjects: The number of pairs is lower than the number of folds.
        SingleClass: All pairs are mated, or all pairs are non-mated.
    """
    _require_folds(mated)
    accepted = _accepted(distance, _THRESHOLDS, acquired)
    true, false = zip(*(_rates(accepted[:, fold], mated[fold]) for fold, _ in _folds(len(mated))), strict=True)
    return FoldedRates(_THRESHOLDS, np.mean(true, axis=0), np.mean(false, axis=0))


def validation_rate(
    distance: Doubles, mated: Flags, far: float = 1e-3, acquired: Flags | None = None
) -> ValidationRate:
    """Compute the validation rate at a maximum false accept rate.

    The threshold of a fold is the largest of 4,000 thresholds (0, 0.001, ..., 3.999) whose FAR on the other nine folds
    is at most `far`. The official code interpolates the threshold over FAR instead; FAR takes the same value at many
    thresholds, and current versions of scipy refuse to interpolate over repeated values.

    Args:
        distance: (N,) float64, squared distances in the order of the file.
        mated: (N,) bool, whether a pair is mated.
        far: Maximum false accept rate on the other folds.
        acquired: (N,) bool, whether both faces of a pair were acquired; None means all. Other pairs are accepted at no
            threshold.

    Raises:
        TooFewSubjects: The number of pairs is lower than the number of folds.
        SingleClass: All pairs are mated, or all pairs are non-mated.
    """
    _require_folds(mated)
    accepted = _accepted(distance, _FINE_THRESHOLDS, acquired)
    rates = []
    for fold, others in _folds(len(mated)):
        _, false = _rates(accepted[:, others], mated[others])
        largest = int(np.flatnonzero(false <= far).max(initial=0))
        val_of_fold, far_of_fold = _rates(accepted[[largest]][:, fold], mated[fold])
        rates.append((val_of_fold[0], far_of_fold[0]))
    val, measured = np.mean(rates, axis=0)
    return ValidationRate(float(val), float(measured))


def _rates(accepted: Flags, mated: Flags) -> tuple[Doubles, Doubles]:
    """Return the accepted shares of mated and non-mated pairs; a share of no pairs is 0, as in the official code."""
    true, false = accepted[:, mated].sum(axis=1), accepted[:, ~mated].sum(axis=1)
    return true / max(1, mated.sum()), false / max(1, (~mated).sum())


def _folds(count: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    indices = np.arange(count)
    return [(fold, np.setdiff1d(indices, fold)) for fold in np.array_split(indices, FOLDS)]


def _accepted(distance: Doubles, thresholds: Doubles, acquired: Flags | None) -> Flags:
    """Return the (T, N) mask of the pairs that each threshold accepts; only acquired pairs are accepted."""
    accepted: Flags = distance[None] < thresholds[:, None]
    return accepted if acquired is None else accepted & acquired[None]


def _require_folds(mated: Flags) -> None:
    if len(mated) < FOLDS:
        raise TooFewSubjects(f"{len(mated)} pairs cannot be divided into {FOLDS} folds")
    if mated.all() or not mated.any():
        raise SingleClass("accuracy cannot be measured without both mated and non-mated pairs")
