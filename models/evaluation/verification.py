"""10-fold pair verification, as the face verification projects compute it.

Folds are contiguous. In each, the threshold that is best on the other nine is applied; thresholds are squared Euclidean
distances 0, 0.01, .. 3.99 of unit vectors and "same" means below (strict). Reported are mean and population standard
deviation of the ten accuracies (G. B. Huang et al., "Labeled Faces in the Wild", TR 07-49, 2007).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FOLDS = 10

_THRESHOLDS = np.arange(0, 4, 0.01)


class FoldAccuracy(NamedTuple):
    """Accuracy over the folds, shares in [0, 1]."""

    mean: float
    deviation: float


def ten_fold_accuracy(similarity: NDArray[np.float32], mated: NDArray[np.bool_]) -> FoldAccuracy:
    """Compute 10-fold accuracy.

    Args:
        similarity: (N,) cosines in file order.
        mated: (N,) whether a pair is of one subject.
    """
    distance = 2 - 2 * similarity.astype(np.float64)
    right = (distance[None] < _THRESHOLDS[:, None]) == mated[None]
    folds = np.array_split(np.arange(len(mated)), FOLDS)
    accuracies = []
    for fold in folds:
        training = np.setdiff1d(np.arange(len(mated)), fold)
        best = int(np.argmax(right[:, training].mean(axis=1)))
        accuracies.append(float(right[best, fold].mean()))
    return FoldAccuracy(float(np.mean(accuracies)), float(np.std(accuracies)))
