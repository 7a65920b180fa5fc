"""What the feature norm says about a face's quality.

AdaFace (M. Kim, A. Jain, X. Liu, CVPR 2022, arXiv 2204.00964) takes the length of the embedding before normalisation
for a measure of image quality. That holds for many recognizers with a margin loss and fails for some, so a scale made
of it must be validated for each before it may refuse anybody: see `models.evaluation.calibrate.quality_validation`.
"""

import numpy as np
from numpy.typing import NDArray

from models.artefact.card import NormStatistics

SMALLEST_NORM, LARGEST_NORM = 1e-3, 100.0  # head.py of AdaFace's repository clips to these
ADAFACE_H = 0.333  # likewise; three deviations reach the end of the scale

_EPS = 1e-3


def adaface_indicator(norm: NDArray[np.float32], statistics: NormStatistics) -> NDArray[np.float32]:
    """Compute AdaFace's image-quality indicator (equation 14 of the paper).

    Args:
        norm: (N,) float32, lengths of embeddings before normalisation, of single views.
        statistics: What training saw of them.

    Returns:
        (N,) float32 in [-1, 1]; higher is better.
    """
    z = (np.clip(norm, SMALLEST_NORM, LARGEST_NORM) - statistics.mean) / (statistics.deviation + _EPS)
    indicator: NDArray[np.float32] = np.clip(statistics.h * z, -1, 1).astype(np.float32)
    return indicator


def quality_scores(norm: NDArray[np.float32], statistics: NormStatistics) -> NDArray[np.float32]:
    """Put norms on the scale of ISO/IEC 29794-1.

    Returns:
        (N,) float32 in [0, 100], higher is better; 50 is the mean of the statistics, three deviations reach an end.
    """
    return np.float32(50) * (1 + adaface_indicator(norm, statistics))


def norm_statistics(norm: NDArray[np.float32]) -> NormStatistics:
    """Measure what AdaFace's training keeps of norms: mean and unbiased deviation, clipped as it clips them."""
    clipped = np.clip(norm.astype(np.float64), SMALLEST_NORM, LARGEST_NORM)
    return NormStatistics(float(clipped.mean()), float(clipped.std(ddof=1)), ADAFACE_H)
