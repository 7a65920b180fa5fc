"""Drawn pictures: to prove and probe models without showing anybody's face."""

import cv2
import numpy as np
from numpy.typing import NDArray

_CELLS = (3, 7, 19, 53)  # structure at several scales, as photos have


def synthetic_pictures(count: int, height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Draw smooth coloured noise, always the same for the same seed.

    Returns:
        (count, height, width, 3) uint8.
    """
    rng = np.random.default_rng(seed)
    pictures = np.empty((count, height, width, 3), np.uint8)
    for picture in pictures:
        layers = [
            cv2.resize(rng.normal(size=(cells, cells, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
            for cells in _CELLS
        ]
        picture[:] = np.clip(127.5 + 40 * np.sum(layers, axis=0), 0, 255)
    return pictures
