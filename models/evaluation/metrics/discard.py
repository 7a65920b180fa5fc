"""Error-versus-discard characteristics: error rates without the comparisons of lowest quality (ISO/IEC 29794-1).

The quality of a comparison is the lower quality of its two faces. If a quality measure predicts errors, the false
non-match rate of the remaining comparisons falls as the comparisons of lowest quality are discarded.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SHARES = np.round(np.arange(0, 0.51, 0.05), 2)  # of discarded comparisons


class DiscardCurve(NamedTuple):
    """An error-versus-discard characteristic.

    Attributes:
        discarded: Shares of comparisons that are discarded, lowest quality first.
        fnmr: False non-match rate of the remaining comparisons at each share.
        threshold: Similarity from which a comparison is a match.
        comparisons: Number of comparisons before any is discarded.
    """

    discarded: list[float]
    fnmr: list[float]
    threshold: float
    comparisons: int


def discard_curve(quality: Floats, scores: Floats, threshold: float) -> DiscardCurve:
    """Compute the false non-match rate as comparisons of low quality are discarded.

    Args:
        quality: (M,) float32, quality of mated comparisons; higher is better, and only the order matters.
        scores: (M,) float32, similarities of the same comparisons.
        threshold: Similarity from which a comparison is a match.
    """
    missed = (scores < np.float32(threshold))[np.argsort(quality, kind="stable")]
    remaining = len(missed) - np.floor(SHARES * len(missed)).astype(int)
    errors = np.concatenate([[0], np.cumsum(missed[::-1])])
    return DiscardCurve(SHARES.tolist(), (errors[remaining] / remaining).tolist(), float(threshold), len(missed))


def rank_correlation(quality: Floats, scores: Floats) -> float:
    """Return Spearman's rank correlation of quality and mated similarity, or 0 if one of them is constant."""
    if len(quality) < 2 or np.ptp(quality) == 0 or np.ptp(scores) == 0:
        return 0.0
    from scipy.stats import spearmanr  # slow to import, and only needed here

    return float(spearmanr(quality, scores).statistic)
