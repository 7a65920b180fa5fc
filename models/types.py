"""Array aliases, what a recognizer gives, and the one progress callback."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
"""(N, H, W, 3) uint8, RGB."""

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

Progress = Callable[[str, int, int | None], None]
"""Called with the name of a step, the units done and the units in all; None while the total is unknown."""


def no_progress(step: str, done: int, total: int | None) -> None:
    """Report nothing."""


class Embeddings(NamedTuple):
    """The embeddings of N crops.

    Attributes:
        embedding: (N, D) float32, each of length 1.
        norm: (N,) float32, the length of each before normalisation.
    """

    embedding: Floats
    norm: Floats

    @property
    def raw(self) -> Floats:
        """(N, D) float32, before normalisation."""
        raw: Floats = self.embedding * self.norm[:, None]
        return raw
