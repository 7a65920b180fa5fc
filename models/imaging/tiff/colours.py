"""Conversion of TIFF samples to 8-bit RGB, by what the page states about them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from models.errors import ImageEncodingUnsupported
from models.imaging.depth import SAMPLED, is_signed_range, to_8_bits, white_of
from models.imaging.pixels import over_white
from models.imaging.tiff import page as tags
from models.imaging.tiff.forms import ADVICE
from models.imaging.tiff.page import Page
from models.imaging.tiff.samples import Samples

Convert = Callable[[NDArray[Any]], NDArray[np.uint8]]
"""Converts (R, W, S) samples to (R, W, 3) uint8, RGB."""


def to_colours(page: Page, samples: Samples) -> NDArray[np.uint8]:
    """Convert the samples of a page to (H, W, 3) uint8, RGB, on white.

    Raises:
        ImageEncodingUnsupported: The samples are negative, and nothing states which value is black.
    """
    if page.photometric in (tags.CMYK, tags.CIELAB, tags.ICCLAB):
        black, white = 0.0, 2.0 ** page.bits[0] - 1
        convert = partial(_inks, white) if page.photometric == tags.CMYK else _lab(page.bits[0], page.photometric)
    else:
        black, white = _range(page, samples.some(SAMPLED)[..., : page.colours])
        convert = partial(_grey_or_rgb, white, page.photometric == tags.WHITE_IS_ZERO)
    opaque = white
    if page.alpha is not None and samples.highest(page.alpha[0]) - black > white:
        opaque = 1.0 if page.formats[0] == tags.FLOAT else 2.0 ** page.bits[0] - 1
    pixels = np.empty((page.height, page.width, 3), np.uint8)
    for rows, band in samples.bands():
        shifted = band.astype(np.float32) - black if black else band
        pixels[rows] = convert(shifted[..., : page.colours])
        if page.alpha is not None:
            position, kind = page.alpha
            opacity = to_8_bits(shifted[..., position], opaque)
            pixels[rows] = over_white(pixels[rows], opacity, kind == tags.ASSOCIATED)
    return pixels


def _range(page: Page, some: NDArray[Any]) -> tuple[float, float]:
    """Return the value of black, and of white relative to it, of grey and RGB.

    Args:
        page: The page.
        some: (R, W, C) samples of colours, from which white is estimated if the page does not state it.

    Raises:
        ImageEncodingUnsupported: The samples are negative, and nothing states which value is black.
    """
    bits, signed, black = page.bits[0], page.formats[0] == tags.SIGNED, 0.0
    low, high = page.stated_range
    if low is not None and low < 0 and high is not None and some.max(initial=0) <= high:
        black, white = low, high - low  # a smallest value of 0 or more is a statistic, not black
    else:
        white = float(2**7 - 1) if signed and bits == 8 else white_of(some, bits - signed, high)
    if page.formats[0] != tags.UNSIGNED and is_signed_range(some.astype(np.float32) - black if black else some, white):
        raise ImageEncodingUnsupported(
            f"the TIFF holds negative samples, and nothing states which value is black; {ADVICE}"
        )
    return black, white


def _grey_or_rgb(white: float, inverted: bool, colours: NDArray[Any]) -> NDArray[np.uint8]:
    return np.broadcast_to(to_8_bits(colours, white, inverted), (*colours.shape[:2], 3))


def _inks(full: float, inks: NDArray[Any]) -> NDArray[np.uint8]:
    light = 255 - to_8_bits(inks, full).astype(np.uint16)
    return ((light[..., :3] * light[..., 3:] + 127) // 255).astype(np.uint8)


def _lab(bits: int, photometric: int) -> Convert:
    """Return a conversion of L*a*b* under D50 to sRGB; a* and b* are signed in CIELab, shifted in ICCLab."""
    profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    transform = ImageCms.buildTransform(*profiles, "LAB", "RGB")

    def convert(samples: NDArray[Any]) -> NDArray[np.uint8]:
        eight = (samples >> (bits - 8)).astype(np.uint8)
        if photometric == tags.ICCLAB:
            eight[..., 1:] ^= 0x80
        image = Image.frombytes("LAB", eight.shape[1::-1], eight.tobytes())
        return np.asarray(ImageCms.applyTransform(image, transform))

    return convert
