"""Embeddings that come from outside: checked, and of length 1 afterwards."""

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

from service.errors import EmbeddingNotFinite, EmbeddingWrongDimension, EmbeddingZero

_TINY, _HUGE = 1e-6, 1e18
_ROUNDED = 1e-6  # what float32 leaves of a length of 1
_UNIT = 1e-3  # relative; what float16 leaves of a length of 1


def unit_vector(values: NDArray[np.float32], dimensions: int) -> tuple[NDArray[np.float32], float | None]:
    """Normalise an embedding.

    Args:
        values: (D,) of any length.
        dimensions: D of the contract.

    Returns:
        The embedding, (D,) float32 of length 1, and its length if that was not 1: then it is its norm.

    Raises:
        EmbeddingWrongDimension, EmbeddingNotFinite, EmbeddingZero: It cannot be compared with anything.
    """
    if values.shape != (dimensions,):
        raise EmbeddingWrongDimension(f"the embedding has {values.size} numbers; this model gives {dimensions}")
    length = math.sqrt(float(values @ values))
    if not _TINY < length < _HUGE:  # its square does not fit into float32
        length = float(np.linalg.norm(values.astype(np.float64)))
    if not math.isfinite(length):
        raise EmbeddingNotFinite("the embedding holds NaN or infinity")
    if length < _TINY:
        raise EmbeddingZero("the embedding is zero and points nowhere")
    if abs(length - 1) <= _ROUNDED:
        return values, None
    return (values / np.float64(length)).astype(np.float32), None if abs(length - 1) <= _UNIT else length


def source_of(embedding: NDArray[np.float32]) -> bytes:
    """Digest an embedding that came without an image, so that the same one is stored once."""
    return hashlib.sha256(embedding.astype("<f4").tobytes()).digest()
