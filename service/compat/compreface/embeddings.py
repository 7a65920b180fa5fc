"""Embeddings that clients of CompreFace send."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import FailFast, Field

from service.gallery.embeddings import unit_vector

Numbers = Annotated[list[float], FailFast(), Field(min_length=1, max_length=4096)]


def as_vectors(embeddings: Sequence[Sequence[float]], dimensions: int) -> NDArray[np.float32]:
    """Return embeddings as vectors, (N, D) float32 of length 1.

    Raises:
        EmbeddingWrongDimension: An embedding does not have the dimension of the model's embeddings.
        EmbeddingNotFinite: An embedding contains NaN or infinity.
        EmbeddingZero: An embedding is zero.
    """
    with np.errstate(over="ignore"):  # the overflow becomes infinity, which `unit_vector` refuses
        rows = [np.asarray(row, np.float64).astype(np.float32) for row in embeddings]
    return np.stack([unit_vector(row, dimensions)[0] for row in rows])
