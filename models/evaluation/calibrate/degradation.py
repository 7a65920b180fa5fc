"""Deterministic degradations of aligned faces.

The seven degradations are blur, three low resolutions, heavy JPEG compression, darkness and noise. Each is much
stronger than the defects of a good camera. They apply to the crop, after alignment, so that they test the recognizer
alone and not the detector. The same crop is always degraded to the same pixels.
"""

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.errors import VultusError
from models.evaluation.acquire.acquisition import Acquisition, Crop

SEED = 29794

_BLUR_SIGMA_PX = 3.0
_JPEG_QUALITY = 10
_DARK_GAIN = 0.15
_NOISE_DEVIATION = 30.0

Pixels = NDArray[np.uint8]


def _blur(crop: Pixels) -> NDArray[Any]:
    return cv2.GaussianBlur(crop, (0, 0), _BLUR_SIGMA_PX)


def _shrink(side: int) -> Callable[[Pixels], NDArray[Any]]:
    def shrink(crop: Pixels) -> NDArray[Any]:
        height, width = crop.shape[:2]
        size = (max(1, round(width * side / height)), side)
        small = cv2.resize(crop, size, interpolation=cv2.INTER_AREA)
        return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)

    return shrink


def _compress(crop: Pixels) -> NDArray[Any]:
    _, encoded = cv2.imencode(".jpg", crop[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR))[..., ::-1]


def _darken(crop: Pixels) -> NDArray[Any]:
    return np.round(crop * _DARK_GAIN)


def _add_noise(crop: Pixels) -> NDArray[Any]:
    rng = np.random.default_rng([SEED, zlib.crc32(crop.tobytes())])  # seeded by the crop, not by its batch
    return np.clip(np.round(crop + rng.normal(0, _NOISE_DEVIATION, crop.shape)), 0, 255)


DEGRADATIONS: dict[str, Callable[[Pixels], NDArray[Any]]] = {
    "blur": _blur,
    "32 px": _shrink(32),
    "20 px": _shrink(20),
    "12 px": _shrink(12),
    "JPEG 10": _compress,
    "dark": _darken,
    "noise": _add_noise,
}


def degrade(crop: Pixels, kind: str) -> Pixels:
    """Degrade an aligned face.

    Args:
        crop: (H, W, 3) uint8, RGB.
        kind: One of `DEGRADATIONS`.

    Returns:
        (H, W, 3) uint8, RGB.
    """
    return np.ascontiguousarray(DEGRADATIONS[kind](crop).astype(np.uint8))


class Degraded:
    """An acquisition that degrades the crops of another acquisition."""

    def __init__(self, acquisition: Acquisition, kind: str) -> None:
        """Wrap an acquisition; `kind` is one of `DEGRADATIONS`."""
        self._acquisition, self._kind = acquisition, kind

    @property
    def max_bytes(self) -> int:
        """See `Acquisition`."""
        return self._acquisition.max_bytes

    @property
    def conditions(self) -> dict[str, Any]:
        """See `Acquisition`."""
        return {**self._acquisition.conditions, "degraded": self._kind, "seed": SEED}

    def crops(self, pictures: Sequence[Any]) -> list[Crop | VultusError]:
        """See `Acquisition`."""
        return [
            found._replace(pixels=degrade(found.pixels, self._kind)) if isinstance(found, Crop) else found
            for found in self._acquisition.crops(pictures)
        ]
