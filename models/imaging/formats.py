"""The formats of photos, and the choice of the decoder by the bytes."""

import importlib
from io import BytesIO
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError, features

from models.errors import ImageDamaged, ImageEncodingUnsupported, ImageUnreadable
from models.imaging import jpeg2000
from models.imaging.limits import ImageLimits
from models.imaging.messages import silence_decoders
from models.imaging.pillow_image import PillowImage
from models.imaging.png import PngImage
from models.imaging.signatures import format_of, refuse_jpeg_process, refuse_many_scans
from models.imaging.tiff import TiffImage

FORMATS = ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF"]
if features.check("jpg_2000"):  # Pillow can be built without OpenJPEG
    FORMATS.append("JPEG2000")
try:
    importlib.import_module("pillow_heif").register_heif_opener()
    FORMATS.append("HEIF")
except ImportError:  # the extra `heic` is not installed
    pass

Image.MAX_IMAGE_PIXELS = None  # `ImageLimits` replaces Pillow's limit; it is checked as soon as the header is read

_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+")


class StoredImage(Protocol):
    """An image whose header has been read.

    Attributes:
        format: Name of the file format, such as `JPEG`.
        size: Width and height in pixels, as stored.
        orientation: EXIF orientation that is to be undone after decoding.
        plain_jpeg: Whether libjpeg-turbo decodes it at a reduced size.
    """

    format: str
    size: tuple[int, int]
    orientation: int
    plain_jpeg: bool

    def decode(self) -> NDArray[np.uint8]:
        """Decode to (H, W, 3) uint8, RGB, as stored.

        Raises:
            ImageError: The image cannot be decoded.
        """


def load_decoders() -> None:
    """Load the decoders of Pillow, so that the first photo does not have to wait for them, and silence all decoders."""
    Image.init()
    silence_decoders()


def open_image(encoded: bytes, limits: ImageLimits) -> StoredImage:
    """Read the header of an image and check its size.

    Raises:
        ImageUnreadable: The bytes are not an image in a supported format.
        ImageEncodingUnsupported: The format is supported, but not this form of it.
        ImageSeveralPages: The image has several pages.
        ImageDamaged: The header is corrupt.
        ImageTooManyPixels: The header states more than `max_pixels`.
        ImageTooSmall: A side is shorter than `min_side_px`.
    """
    if encoded.startswith(_TIFF_SIGNATURES):
        return TiffImage(encoded, limits)
    if encoded.startswith(jpeg2000.SIGNATURES) and "JPEG2000" in FORMATS:
        return jpeg2000.Jpeg2000Image(encoded, limits)
    image = _open_by_pillow(encoded)
    limits.check_size(*image.size)
    if image.format in ("JPEG", "MPO"):
        refuse_many_scans(encoded, *image.size)
    return PngImage(encoded, image) if image.format == "PNG" else PillowImage(encoded, image)


def _open_by_pillow(encoded: bytes) -> Image.Image:
    try:
        return Image.open(BytesIO(encoded), formats=FORMATS)
    except UnidentifiedImageError as error:
        if not any(encoded):
            raise ImageUnreadable("the bytes are not an image: all of them are zero") from error
        refuse_jpeg_process(encoded)
        names, found = ", ".join(FORMATS), format_of(encoded)
        if found in FORMATS or (found == "HEIC" and "HEIF" in FORMATS):
            raise ImageDamaged(f"the {found} image is truncated or corrupt") from error
        raise ImageUnreadable(
            f"the bytes are {found}, which is not a supported format ({names})"
            if found
            else f"the bytes are not an image in a supported format ({names})"
        ) from error
    except Exception as error:  # Pillow's plugins raise arbitrary exceptions for a corrupt header
        if "unsupported" in str(error).lower():
            raise ImageEncodingUnsupported(f"the form of the image is not supported: {error}") from error
        raise ImageDamaged("the header of the image is corrupt") from error
