"""Synthetic pictures, used to test models without showing the face of a person."""

import cv2
import numpy as np
from numpy.typing import NDArray

_CELLS = (3, 7, 19, 53)  # cells per side; several scales give the pictures structure like that of photos


def synthetic_pictures(count: int, height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Draw smooth coloured noise, which depends on the arguments alone.

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
