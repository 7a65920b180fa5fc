"""True accept rate (TAR) at a false accept rate (FAR), computed as in the IJB evaluations of insightface and AdaFace.

The official evaluations call `roc_curve` of scikit-learn (algorithm by T. Fawcett, "An introduction to ROC analysis",
Pattern Recognition Letters 27, 2006), which by default drops points on straight lines. From the remaining points they
take the one whose FAR is nearest to the target; that FAR may exceed the target. Among equally near points they take the
one with the highest TAR.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import SingleClass

FAR_TARGETS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)

Doubles = NDArray[np.float64]


class TarAtFar(NamedTuple):
    """A point of the ROC curve.

    Attributes:
        target: FAR that was requested.
        tar: Share of mated pairs that are accepted.
        far: Share of non-mated pairs that are accepted.
    """

    target: float
    tar: float
    far: float


def roc_curve(scores: NDArray[np.floating], mated: NDArray[np.bool_]) -> tuple[Doubles, Doubles]:
    """Return FAR and TAR at the ends of the curve and wherever it bends, ascending; the first point is (0, 0).

    Args:
        scores: (P,) similarities.
        mated: (P,) bool, whether a pair is mated.

    Raises:
        SingleClass: All pairs are mated, or all pairs are non-mated.
    """
    if mated.all() or not mated.any():
        raise SingleClass("a ROC curve needs both mated and non-mated pairs")
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], mated[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # last index of each run of equal scores
    true = np.cumsum(hits)[last].astype(np.float64)
    false = last + 1 - true
    if len(true) > 2:
        bends = np.concatenate([[True], (np.diff(false, 2) != 0) | (np.diff(true, 2) != 0), [True]])
        true, false = true[bends], false[bends]
    true, false = np.concatenate([[0], true]), np.concatenate([[0], false])
    return false / false[-1], true / true[-1]


def tar_at_far(far: Doubles, tar: Doubles, targets: Sequence[float] = FAR_TARGETS) -> list[TarAtFar]:
    """Return the points of the ROC curve whose FAR is nearest to the targets.

    Args:
        far: FAR of each point, from `roc_curve`.
        tar: TAR of each point, from `roc_curve`.
        targets: Target FARs.
    """
    points = []
    for target in targets:
        distance = np.abs(far - target)
        nearest = int(np.flatnonzero(distance == distance.min())[-1])
        points.append(TarAtFar(target, float(tar[nearest]), float(far[nearest])))
    return points
