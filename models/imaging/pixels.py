"""Conversion of decoded pixels to 8-bit RGB on white."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.errors import ImageDamaged, ImageError
from models.imaging.depth import to_8_bits, white_of

WHITE = 255  # background of transparent pixels
_STRIP_VALUES = 2**20  # strips limit memory: a float copy is four times as large


def decoded(file_format: str, decode: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return what a decoder returns, with its exceptions as `ImageDamaged`.

    Raises:
        ImageError: The image is truncated or corrupt, or the decoder raised this error itself.
    """
    try:
        return decode()
    except (MemoryError, ImageError):
        raise
    except Exception as error:  # the decoders raise arbitrary exceptions for corrupt bytes
        raise ImageDamaged(f"the {file_format} image is truncated or corrupt") from error


def is_wide(image: Image.Image) -> bool:
    """Return whether Pillow holds the pixels in a mode of more than 8 bits."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def grey_to_rgb(values: NDArray[Any], bits: int = 16, stated: float | None = None) -> NDArray[np.uint8]:
    """Scale grey samples of more than 8 bits to (H, W, 3) uint8; see `white_of`."""
    return np.repeat(to_8_bits(values, white_of(values, bits, stated))[..., None], 3, axis=2)


def to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Convert a decoded image of Pillow to (H, W, 3) uint8, RGB, on white."""
    if is_wide(image):
        return grey_to_rgb(np.asarray(image))
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB"))
    rgba = np.asarray(image.convert("RGBA"))
    return over_white(rgba[..., :3], rgba[..., 3])


def over_white(
    colours: NDArray[np.uint8], opacity: NDArray[np.uint8], premultiplied: bool = False
) -> NDArray[np.uint8]:
    """Blend colours with white.

    Args:
        colours: (H, W, 3) uint8.
        opacity: (H, W) uint8, 255 is opaque.
        premultiplied: Whether the colours are multiplied by their opacity already.

    Returns:
        (H, W, 3) uint8.
    """
    pixels = np.empty(colours.shape, np.uint8)
    height = max(1, _STRIP_VALUES * len(colours) // max(1, colours.size))
    for start in range(0, len(colours), height):
        rows = slice(start, start + height)
        share = opacity[rows, :, None].astype(np.float32) / 255
        own = colours[rows] if premultiplied else colours[rows] * share
        pixels[rows] = np.clip(np.rint(own + WHITE * (1 - share)), 0, 255)
    return pixels
