"""Scaling of samples of more than 8 bits, and of float samples, to 8 bits.

The bits of a sample are not its range: infrared and industrial cameras store 9 to 12 bits in 16. Unless the file states
the value of white, it is taken from the samples: the 99.9th percentile, rounded up to the range of whole bits. The
percentile instead of the largest value, because a few saturated pixels (a lamp, a hot pixel) would leave the face
black. The range of whole bits instead of the percentile itself, because frames of one camera are then scaled alike.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_PERCENTILE = 99.9
SAMPLED = 2**22
"""Number of values from which the percentile is computed."""

_LEAST_BITS = 8  # values of fewer bits would be amplified noise
_STRIP_VALUES = 2**20  # strips limit memory: a float copy is up to four times as large
_FLOAT_OVERSHOOT = 2.0  # resampling and highlights exceed 1.0 in pictures of the range 0..1
_NEGATIVE_SHARE = 1 / 16  # noise around zero stays above this part of the range


def white_of(values: NDArray[Any], bits: int, stated: float | None = None) -> float:
    """Return the value of white.

    Args:
        values: Samples of any shape, of an integer or float type.
        bits: Number of bits of a sample that the file states.
        stated: The value of white, or the largest value, that the file states; ignored if the samples exceed it.
    """
    high = _percentile(values, _PERCENTILE)
    if stated is not None and np.isfinite(stated) and stated > 0 and stated >= high and stated != 2**bits - 1:
        return float(stated)
    if np.issubdtype(values.dtype, np.floating):
        return _float_white(high)
    if bits < 16:
        return float(2**bits - 1)
    return float(2 ** max(_LEAST_BITS, int(high).bit_length()) - 1)


def is_signed_range(values: NDArray[Any], white: float) -> bool:
    """Return whether negative values are a part of the picture, and not noise around zero."""
    return -_percentile(values, 100 - _PERCENTILE) > white * _NEGATIVE_SHARE


def to_8_bits(values: NDArray[Any], white: float, inverted: bool = False) -> NDArray[np.uint8]:
    """Scale samples to 0..255.

    Args:
        values: (H, W) or (H, W, C) samples of any type; values outside 0..white are clipped, NaN is 0.
        white: Value of white, or of black if `inverted`.
        inverted: Whether 0 is white.
    """
    scaled = np.empty(values.shape, np.uint8)
    factor, offset = (-255 / white, 255.0) if inverted else (255 / white, 0.0)
    height = max(1, _STRIP_VALUES * len(values) // max(1, values.size))
    for start in range(0, len(values), height):
        rows = slice(start, start + height)
        strip = values[rows]
        if strip.dtype != np.uint16:
            strip = np.nan_to_num(strip.astype(np.float32), copy=False, posinf=white, neginf=0)
        within = np.clip(strip, 0, white if strip.dtype != np.uint16 else min(int(white), 2**16 - 1))
        flat = within.reshape(len(within), -1)
        scaled[rows] = cv2.convertScaleAbs(flat, alpha=factor, beta=offset).reshape(within.shape)
    return scaled


def _float_white(high: float) -> float:
    if _FLOAT_OVERSHOOT < high <= 255:
        return 255.0
    if high > 255:
        return float(2 ** int(np.ceil(high)).bit_length() - 1)
    if high <= 0:
        return 1.0
    return float(2.0 ** max(-_LEAST_BITS, min(0, int(np.ceil(np.log2(high))))))


def _percentile(values: NDArray[Any], percentile: float) -> float:
    flat = values[:: max(1, values.size // SAMPLED)].reshape(-1)
    if np.issubdtype(flat.dtype, np.floating):
        flat = flat[np.isfinite(flat)]
    return float(np.percentile(flat, percentile, method="higher" if percentile > 50 else "lower")) if flat.size else 0.0
