"""True accept rate at a false accept rate, as the IJB evaluations of insightface and AdaFace read it off.

They take `roc_curve` of scikit-learn (P. Fawcett's algorithm, "An introduction to ROC analysis", Pattern Recognition
Letters 27, 2006) with its default of leaving out points on straight lines, and of what is left the point whose FAR is
nearest to the wanted one, which may lie above it; of several equally near the one with the highest TAR.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import OneClassOnly

FAR_TARGETS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)

Doubles = NDArray[np.float64]


class TarAtFar(NamedTuple):
    """A point of the curve: shares of mated and non-mated pairs accepted."""

    target: float
    tar: float
    far: float


def roc_curve(scores: NDArray[np.floating], mated: NDArray[np.bool_]) -> tuple[Doubles, Doubles]:
    """Return FAR and TAR of every threshold that matters, ascending; the first is (0, 0).

    Args:
        scores: (P,) higher is more alike.
        mated: (P,) whether a pair is of one subject.

    Raises:
        OneClassOnly: There are pairs of one kind only.
    """
    if mated.all() or not mated.any():
        raise OneClassOnly("there are no mated, or no non-mated, pairs, so there is no curve")
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], mated[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # of equal scores
    true = np.cumsum(hits)[last].astype(np.float64)
    false = last + 1 - true
    if len(true) > 2:
        bends = np.concatenate([[True], (np.diff(false, 2) != 0) | (np.diff(true, 2) != 0), [True]])
        true, false = true[bends], false[bends]
    true, false = np.concatenate([[0], true]), np.concatenate([[0], false])
    return false / false[-1], true / true[-1]


def tar_at_far(far: Doubles, tar: Doubles, targets: Sequence[float] = FAR_TARGETS) -> list[TarAtFar]:
    """Read the curve of `roc_curve` off at the points nearest to false accept rates."""
    found = []
    for target in targets:
        distance = np.abs(far - target)
        nearest = int(np.flatnonzero(distance == distance.min())[-1])
        found.append(TarAtFar(target, float(tar[nearest]), float(far[nearest])))
    return found
