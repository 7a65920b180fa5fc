"""The formats of photos, and the choice of the decoder by the bytes."""

import importlib
from io import BytesIO

from PIL import Image, UnidentifiedImageError

from models.errors import ImageDamaged, ImageUnreadable

FORMATS = ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF"]
try:
    importlib.import_module("pillow_heif").register_heif_opener()
    FORMATS.append("HEIF")
except ImportError:  # the extra `heic` is not installed
    pass

Image.MAX_IMAGE_PIXELS = None  # `ImageLimits` replaces Pillow's limit; it is checked as soon as the header is read

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".heic", ".heif"}
"""Suffixes by which photos in a directory are recognised; the format itself is detected from the bytes."""


def load_decoders() -> None:
    """Load the decoders of Pillow, so that the first photo does not have to wait for them."""
    Image.init()


def open_image(encoded: bytes) -> Image.Image:
    """Read the header of an image.

    Raises:
        ImageUnreadable: The bytes are not an image in a supported format.
        ImageDamaged: The header is corrupt.
    """
    try:
        return Image.open(BytesIO(encoded), formats=FORMATS)
    except UnidentifiedImageError as error:
        if not any(encoded):
            raise ImageUnreadable("the bytes are not an image: all of them are zero") from error
        names = ", ".join(FORMATS)
        raise ImageUnreadable(f"the bytes are not an image in a supported format ({names})") from error
    except Exception as error:  # Pillow's plugins raise arbitrary exceptions for a corrupt header
        raise ImageDamaged("the header of the image is corrupt") from error
