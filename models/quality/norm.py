"""Face quality from the embedding norm.

AdaFace (M. Kim, A. Jain, X. Liu, CVPR 2022, arXiv 2204.00964) uses the norm of the embedding as a measure of image
quality. This holds for many recognizers with a margin loss but not for all of them. The quality scale of a recognizer
must therefore be validated before it is used as a gate; see `models.evaluation.calibrate.quality_validation`.
"""

import numpy as np
from numpy.typing import NDArray

from models.artefact.card import NormStatistics

SMALLEST_NORM, LARGEST_NORM = 1e-3, 100.0  # clipping range in head.py of the AdaFace repository
ADAFACE_H = 0.333  # from the same file; the scale ends three standard deviations from the mean

_EPS = 1e-3


def adaface_indicator(norm: NDArray[np.float32], statistics: NormStatistics) -> NDArray[np.float32]:
    """Compute AdaFace's image-quality indicator (equation 14 of the paper).

    Args:
        norm: (N,) float32, norms of embeddings of single views.
        statistics: Mean and standard deviation of the norm, and the concentration h.

    Returns:
        (N,) float32 in [-1, 1], higher is better.
    """
    z = (np.clip(norm, SMALLEST_NORM, LARGEST_NORM) - statistics.mean) / (statistics.deviation + _EPS)
    indicator: NDArray[np.float32] = np.clip(statistics.h * z, -1, 1).astype(np.float32)
    return indicator


def quality_scores(norm: NDArray[np.float32], statistics: NormStatistics) -> NDArray[np.float32]:
    """Convert norms to the quality scale of ISO/IEC 29794-1.

    Args:
        norm: (N,) float32, norms of embeddings of single views.
        statistics: Mean and standard deviation of the norm, and the concentration h.

    Returns:
        (N,) float32 in [0, 100], higher is better. The mean norm has the quality 50; with the default h, the scale
        ends three standard deviations from the mean.
    """
    return np.float32(50) * (1 + adaface_indicator(norm, statistics))


def norm_statistics(norm: NDArray[np.float32]) -> NormStatistics:
    """Return the mean and the unbiased standard deviation of norms, clipped as in the training of AdaFace."""
    clipped = np.clip(norm.astype(np.float64), SMALLEST_NORM, LARGEST_NORM)
    return NormStatistics(float(clipped.mean()), float(clipped.std(ddof=1)), ADAFACE_H)
