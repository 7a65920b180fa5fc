"""Array aliases, the output of a recognizer and the progress callback."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
"""(N, H, W, 3) uint8, RGB."""

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

Progress = Callable[[str, int, int | None], None]
"""Called with the name of a step, the number of units done and the total number, which is None while unknown."""


def no_progress(step: str, done: int, total: int | None) -> None:
    """Ignore the progress."""


class Embeddings(NamedTuple):
    """The embeddings of N crops.

    Attributes:
        embedding: (N, D) float32, each of length 1.
        norm: (N,) float32, length of each embedding before normalisation.
    """

    embedding: Floats
    norm: Floats

    @property
    def raw(self) -> Floats:
        """Embeddings before normalisation, (N, D) float32."""
        raw: Floats = self.embedding * self.norm[:, None]
        return raw
