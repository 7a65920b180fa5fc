"""What the feature norm says about a face's quality."""

import numpy as np
from numpy.typing import NDArray

from models.artefact import NormStatistics

_SMALLEST, _LARGEST, _EPS = 1e-3, 100.0, 1e-3  # head.py of AdaFace's repository


def adaface_indicator(norm: NDArray[np.float32], statistics: NormStatistics) -> NDArray[np.float32]:
    """Compute AdaFace's image-quality indicator (Kim et al., CVPR 2022, arXiv 2204.00964, equation 14).

    Args:
        norm: (N,) float32, lengths of embeddings before normalisation, of single views.
        statistics: What training saw of them.

    Returns:
        (N,) float32 in [-1, 1]; higher is better.
    """
    z = (np.clip(norm, _SMALLEST, _LARGEST) - statistics.mean) / (statistics.deviation + _EPS)
    indicator: NDArray[np.float32] = np.clip(statistics.h * z, -1, 1).astype(np.float32)
    return indicator
