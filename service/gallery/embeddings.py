"""Validation and normalisation of embeddings supplied by clients."""

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

from service.errors import EmbeddingNotFinite, EmbeddingWrongDimension, EmbeddingZero

_TINY, _HUGE = 1e-6, 1e18
_FLOAT32_ERROR = 1e-6  # deviation of a unit vector's length after rounding to float32
_FLOAT16_ERROR = 1e-3  # the same for float16, relative


def unit_vector(values: NDArray[np.float32], dimensions: int) -> tuple[NDArray[np.float32], float | None]:
    """Normalise an embedding.

    Args:
        values: (D,) of any length.
        dimensions: D of the contract.

    Returns:
        The embedding, (D,) float32 of length 1, and its norm. The norm is None if the embedding already had length 1,
        within the precision of float16.

    Raises:
        EmbeddingWrongDimension: The number of values differs from `dimensions`.
        EmbeddingNotFinite: A value is NaN or infinite.
        EmbeddingZero: The embedding is zero.
    """
    if values.shape != (dimensions,):
        raise EmbeddingWrongDimension(
            f"the embedding has {values.size} numbers; embeddings of this model have {dimensions}"
        )
    length = math.sqrt(float(values @ values))
    if not _TINY < length < _HUGE:  # the square may have overflowed or underflowed in float32
        length = float(np.linalg.norm(values.astype(np.float64)))
    if not math.isfinite(length):
        raise EmbeddingNotFinite("the embedding contains NaN or infinity")
    if length < _TINY:
        raise EmbeddingZero("the embedding is zero and has no direction")
    if abs(length - 1) <= _FLOAT32_ERROR:
        return values, None
    return (values / np.float64(length)).astype(np.float32), None if abs(length - 1) <= _FLOAT16_ERROR else length


def source_of(embedding: NDArray[np.float32]) -> bytes:
    """Return the digest of an embedding submitted without an image, so that a gallery stores it once."""
    return hashlib.sha256(embedding.astype("<f4").tobytes()).digest()
