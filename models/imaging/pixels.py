"""Decoding by Pillow, and conversion of its pixels to 8-bit RGB."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.errors import ImageDamaged
from models.imaging.png import check_png, hidden_colour

_WHITE = 255  # background of transparent pixels
_STRIP_ROWS = 256


def decode(image: Image.Image, encoded: bytes) -> NDArray[np.uint8]:
    """Decode an image whose header has been read to (H, W, 3) uint8, RGB, as it is stored.

    Raises:
        ImageDamaged: The image is truncated or corrupt.
    """
    try:
        if image.format == "PNG":
            check_png(encoded)
        image.load()
        return _to_rgb(image, encoded)
    except (MemoryError, ImageDamaged):
        raise
    except Exception as error:  # Pillow's decoders raise arbitrary exceptions for corrupt bytes
        raise ImageDamaged(f"the {image.format} image is truncated or corrupt") from error


def _to_rgb(image: Image.Image, encoded: bytes) -> NDArray[np.uint8]:
    hidden = hidden_colour(image, encoded)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image)
        pixels = np.repeat(_to_8_bits(values)[..., None], 3, axis=2)
        if hidden is not None:
            pixels[values == hidden] = _WHITE
        return pixels
    if hidden is not None:
        image.info["transparency"] = hidden
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB"))
    rgba = np.asarray(image.convert("RGBA"))
    pixels = np.empty((*rgba.shape[:2], 3), np.uint8)
    for start in range(0, len(rgba), _STRIP_ROWS):  # strips limit memory: a float copy is four times as large
        rows = slice(start, start + _STRIP_ROWS)
        opacity = rgba[rows, :, 3:].astype(np.float32) / 255
        pixels[rows] = np.rint(rgba[rows, :, :3] * opacity + _WHITE * (1 - opacity))
    return pixels


def _to_8_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale grey values of more than 8 bits, or float grey values, to 8 bits.

    The largest value determines the source range: 0..1, 8, 16 or 32 bits. Pillow's conversion would clip all values
    above 255 to white.
    """
    finite = np.nan_to_num(values.astype(np.float32), posinf=0, neginf=0)
    largest = float(finite.max(initial=0))
    if np.issubdtype(values.dtype, np.floating) and largest <= 255:
        divisor = 1 / 255 if largest <= 1 else 1.0
    else:
        divisor = 257.0 if largest <= 65535 else 65537.0 * 256
    grey: NDArray[np.uint8] = np.clip(finite / divisor + 0.5, 0, 255).astype(np.uint8)
    return grey
