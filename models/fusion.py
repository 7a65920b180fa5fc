"""Several embeddings of one person as one, weighted by what their norms or qualities say.

AdaFace's repository (Kim et al., CVPR 2022, arXiv 2204.00964; validation_mixed/insightface_ijb_helper/eval_helper.py)
adds embeddings that were not normalised, so that a face with a large norm weighs more; insightface's IJB evaluation
multiplies by the detector's score as well. Both average what comes from one medium first, and normalise the sum.
"""

import numpy as np
from numpy.typing import NDArray


def fuse(
    embeddings: NDArray[np.float32], weights: NDArray[np.float32] | None = None, media: NDArray[np.int64] | None = None
) -> NDArray[np.float32]:
    """Fuse embeddings of one person.

    Args:
        embeddings: (N, D) float32, of any length; N ≥ 1.
        weights: (N,) what each is multiplied by, such as the norms of embeddings of length 1; all alike if None.
        media: (N,) ids; embeddings of one medium, such as a video, are averaged first.

    Returns:
        (D,) float32 of length 1; zero where the sum is.
    """
    weighted = embeddings.astype(np.float64) * (1.0 if weights is None else weights.astype(np.float64)[:, None])
    if media is not None:
        _, owner, sizes = np.unique(media, return_inverse=True, return_counts=True)
        weighted /= sizes[owner][:, None]
    total = weighted.sum(axis=0)
    length = float(np.linalg.norm(total))
    fused: NDArray[np.float32] = (total / length if length > 0 else total).astype(np.float32)
    return fused
