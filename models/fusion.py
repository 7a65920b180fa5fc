"""Fuse several embeddings of one subject into one, weighted by norm or quality.

The AdaFace repository (Kim et al., CVPR 2022, arXiv 2204.00964; validation_mixed/insightface_ijb_helper/eval_helper.py)
adds embeddings before normalisation, so that faces with a large norm have more weight. The IJB evaluation of
InsightFace also multiplies them by the detector score. Both average the embeddings of each medium first and normalise
the sum.
"""

import numpy as np
from numpy.typing import NDArray


def fuse(
    embeddings: NDArray[np.float32], weights: NDArray[np.float32] | None = None, media: NDArray[np.int64] | None = None
) -> NDArray[np.float32]:
    """Fuse embeddings of one subject.

    Args:
        embeddings: (N, D) float32, of any norm; N ≥ 1.
        weights: (N,) float32, factor of each embedding, such as its norm if the embeddings are normalised; None for
            equal weights.
        media: (N,) int64, id of the medium of each embedding. Embeddings of one medium, such as a video, are averaged
            first.

    Returns:
        (D,) float32 of length 1, or zeros if the sum is zero.
    """
    weighted = embeddings.astype(np.float64) * (1.0 if weights is None else weights.astype(np.float64)[:, None])
    if media is not None:
        _, owner, sizes = np.unique(media, return_inverse=True, return_counts=True)
        weighted /= sizes[owner][:, None]
    total = weighted.sum(axis=0)
    length = float(np.linalg.norm(total))
    fused: NDArray[np.float32] = (total / length if length > 0 else total).astype(np.float32)
    return fused
