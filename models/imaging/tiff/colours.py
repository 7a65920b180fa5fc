"""Conversion of TIFF samples to 8-bit RGB, by what the page states about them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from models.errors import ImageEncodingUnsupported
from models.imaging.depth import is_signed_range, to_8_bits, white_of
from models.imaging.pixels import over_white
from models.imaging.tiff import page as tags
from models.imaging.tiff.forms import ADVICE
from models.imaging.tiff.page import Page


def to_colours(page: Page, samples: NDArray[Any]) -> NDArray[np.uint8]:
    """Convert (H, W, S) samples to (H, W, 3) uint8, RGB, on white.

    Raises:
        ImageEncodingUnsupported: The samples are negative, and nothing states which value is black.
    """
    bits, own = page.bits[0], samples[..., : page.colours]
    if page.photometric in (tags.CMYK, tags.CIELAB, tags.ICCLAB):
        white = 2.0**bits - 1
        pixels = _inks(own, white) if page.photometric == tags.CMYK else _lab(own, bits, page.photometric)
        return _on_white(page, pixels, samples, white)
    signed = page.formats[0] == tags.SIGNED
    black, stated_white = page.stated_range
    if black is not None and black < 0 and stated_white is not None and own.max(initial=0) <= stated_white:
        samples = samples.astype(np.float32) - black  # a smallest value of 0 or more is a statistic, not black
        own, white = samples[..., : page.colours], stated_white - black
    else:
        white = float(2**7 - 1) if signed and bits == 8 else white_of(own, bits - signed, stated_white)
    if page.formats[0] != tags.UNSIGNED and is_signed_range(own, white):
        raise ImageEncodingUnsupported(
            f"the TIFF holds negative samples, and nothing states which value is black; {ADVICE}"
        )
    pixels = to_8_bits(own, white, page.photometric == tags.WHITE_IS_ZERO)
    if page.colours == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    return _on_white(page, pixels, samples, white)


def _on_white(page: Page, pixels: NDArray[np.uint8], samples: NDArray[Any], white: float) -> NDArray[np.uint8]:
    """Blend pixels with white by the opacity among the samples, whose largest value is that of the colours or all."""
    if page.alpha is None:
        return pixels
    position, kind = page.alpha
    opacity = samples[..., position]
    opaque = (
        white if opacity.max(initial=0) <= white else 1.0 if page.formats[0] == tags.FLOAT else 2.0 ** page.bits[0] - 1
    )
    return over_white(pixels, to_8_bits(opacity, opaque), kind == tags.ASSOCIATED)


def _inks(inks: NDArray[Any], full: float) -> NDArray[np.uint8]:
    light = 255 - to_8_bits(inks, full).astype(np.uint16)
    return ((light[..., :3] * light[..., 3:] + 127) // 255).astype(np.uint8)


def _lab(samples: NDArray[Any], bits: int, photometric: int) -> NDArray[np.uint8]:
    """Convert L*a*b* under D50 to sRGB; a* and b* are signed in CIELab, shifted in ICCLab."""
    eight = (samples >> (bits - 8)).astype(np.uint8)
    if photometric == tags.ICCLAB:
        eight[..., 1:] ^= 0x80
    image = Image.frombytes("LAB", eight.shape[1::-1], eight.tobytes())
    profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return np.asarray(ImageCms.profileToProfile(image, *profiles, outputMode="RGB"))
