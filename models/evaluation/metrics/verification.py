"""10-fold pair verification, as the face verification projects compute it.

Folds are contiguous. In each, the threshold that is best on the other nine is applied; thresholds are squared Euclidean
distances 0, 0.01, .. 3.99 of unit vectors and "same" means below (strict). Reported are mean and population standard
deviation of the ten accuracies (G. B. Huang et al., "Labeled Faces in the Wild", TR 07-49, 2007; the official code is
`eval/verification.py` of arcface_torch and ElasticFace). A pair of which a face was not acquired is an error whatever
it would have been.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import OneClassOnly, TooFewSubjects

FOLDS = 10

_THRESHOLDS = np.arange(0, 4, 0.01)
_FINE_THRESHOLDS = np.arange(0, 4, 0.001)

Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]


class FoldAccuracy(NamedTuple):
    """Accuracy over the folds, shares in [0, 1].

    Attributes:
        mean, deviation: Of the folds; the deviation is that of a population.
        folds: Of each.
        thresholds: Squared distance that was best on the others.
    """

    mean: float
    deviation: float
    folds: tuple[float, ...]
    thresholds: tuple[float, ...]


class ValidationRate(NamedTuple):
    """Share of mated pairs accepted (VAL) where the share of non-mated ones (FAR) is held; means over the folds."""

    val: float
    far: float


class FoldedRates(NamedTuple):
    """Shares of mated and of non-mated pairs accepted at squared distances, each (400,)."""

    thresholds: Doubles
    true: Doubles
    false: Doubles


def squared_distances(first: NDArray[np.floating], second: NDArray[np.floating]) -> Doubles:
    """Return (N,) squared Euclidean distances of (N, D) vectors, as the official code takes them."""
    difference = first.astype(np.float64) - second.astype(np.float64)
    return np.asarray((difference**2).sum(axis=1))


def distances_of(similarity: NDArray[np.floating]) -> Doubles:
    """Return (N,) squared Euclidean distances of unit vectors by their cosine."""
    return 2 - 2 * similarity.astype(np.float64)


def ten_fold_accuracy(distance: Doubles, mated: Flags, acquired: Flags | None = None) -> FoldAccuracy:
    """Compute 10-fold accuracy.

    Args:
        distance: (N,) squared distances in file order.
        mated: (N,) whether a pair is of one subject.
        acquired: (N,) whether both faces were; all, if not given.

    Raises:
        TooFewSubjects: There are fewer pairs than folds.
        OneClassOnly: There are mated pairs only, or non-mated pairs only.
    """
    _require_folds(mated)
    right = (distance[None] < _THRESHOLDS[:, None]) == mated[None]
    if acquired is not None:
        right &= acquired[None]
    accuracies, thresholds = [], []
    for fold, others in _folds(len(mated)):
        best = int(np.argmax(right[:, others].mean(axis=1)))
        accuracies.append(float(right[best, fold].mean()))
        thresholds.append(float(_THRESHOLDS[best]))
    return FoldAccuracy(float(np.mean(accuracies)), float(np.std(accuracies)), tuple(accuracies), tuple(thresholds))


def folded_rates(distance: Doubles, mated: Flags, acquired: Flags | None = None) -> FoldedRates:
    """Return shares of mated and of non-mated pairs accepted at each of the 400 thresholds, means over the folds."""
    _require_folds(mated)
    accepted = distance[None] < _THRESHOLDS[:, None]
    if acquired is not None:
        accepted &= acquired[None]
    true, false = zip(*(_rates(accepted[:, fold], mated[fold]) for fold, _ in _folds(len(mated))), strict=True)
    return FoldedRates(_THRESHOLDS, np.mean(true, axis=0), np.mean(false, axis=0))


def validation_rate(
    distance: Doubles, mated: Flags, far: float = 1e-3, acquired: Flags | None = None
) -> ValidationRate:
    """Compute VAL where FAR is held; a pair of which a face was not acquired is accepted by no threshold.

    In each fold, the largest of 4,000 thresholds whose FAR on the other nine is at most `far`. The official code
    interpolates FAR over thresholds; FAR takes each value many times, which today's scipy refuses.
    """
    _require_folds(mated)
    accepted = distance[None] < _FINE_THRESHOLDS[:, None]
    if acquired is not None:
        accepted &= acquired[None]
    rates = []
    for fold, others in _folds(len(mated)):
        _, false = _rates(accepted[:, others], mated[others])
        held = int(np.flatnonzero(false <= far).max(initial=0))
        own, wrong = _rates(accepted[[held]][:, fold], mated[fold])
        rates.append((own[0], wrong[0]))
    val, measured = np.mean(rates, axis=0)
    return ValidationRate(float(val), float(measured))


def _rates(accepted: Flags, mated: Flags) -> tuple[Doubles, Doubles]:
    """Return shares of mated and non-mated pairs accepted; 0 of none, as the official code has it."""
    true, false = accepted[:, mated].sum(axis=1), accepted[:, ~mated].sum(axis=1)
    return true / max(1, mated.sum()), false / max(1, (~mated).sum())


def _folds(count: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    places = np.arange(count)
    return [(fold, np.setdiff1d(places, fold)) for fold in np.array_split(places, FOLDS)]


def _require_folds(mated: Flags) -> None:
    if len(mated) < FOLDS:
        raise TooFewSubjects(f"{len(mated)} pairs cannot be dealt into {FOLDS} folds")
    if mated.all() or not mated.any():
        raise OneClassOnly("there are no mated, or no non-mated, pairs, so no accuracy can be measured")
