"""Error-versus-discard: what becomes of errors when the worst faces are not compared (ISO/IEC 29794-1).

The quality of a comparison is the lower one of its two faces. A quality that says something orders errors: with the
worst comparisons gone, the false non-match rate of the rest falls.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SHARES = np.round(np.arange(0, 0.51, 0.05), 2)


class DiscardCurve(NamedTuple):
    """An error-versus-discard characteristic.

    Attributes:
        discarded: Share of comparisons left out, lowest quality first.
        fnmr: False non-match rate of the rest.
        threshold: Similarity at which it is counted.
        comparisons: How many there are at first.
    """

    discarded: list[float]
    fnmr: list[float]
    threshold: float
    comparisons: int


def discard_curve(quality: Floats, scores: Floats, threshold: float) -> DiscardCurve:
    """Count errors with ever more comparisons left out.

    Args:
        quality: (M,) of mated comparisons, higher is better; only its order counts.
        scores: (M,) similarities.
        threshold: Similarity at which a comparison matches.
    """
    missed = (scores < np.float32(threshold))[np.argsort(quality, kind="stable")]
    left = len(missed) - np.floor(SHARES * len(missed)).astype(int)
    errors = np.concatenate([[0], np.cumsum(missed[::-1])])
    return DiscardCurve(SHARES.tolist(), (errors[left] / left).tolist(), float(threshold), len(missed))


def rank_correlation(quality: Floats, scores: Floats) -> float:
    """Return Spearman's correlation of quality and mated similarity; 0 where one of them does not vary."""
    if len(quality) < 2 or np.ptp(quality) == 0 or np.ptp(scores) == 0:
        return 0.0
    from scipy.stats import spearmanr  # takes as long to load as a model; no command but this needs it

    return float(spearmanr(quality, scores).statistic)
