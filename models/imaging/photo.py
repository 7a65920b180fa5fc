"""Decode images to upright RGB pixels.

The header is read first, so that an oversized image is rejected before any pixel is decoded. What a file states about
itself (bits, photometric interpretation, orientation, page, opacity) is honoured, or refused in a sentence.
libjpeg-turbo decodes JPEG at any multiple of one eighth of its size, so a large photo is decoded only at the size that
the detector needs. All other formats are decoded at full size.
"""

import threading
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from models.errors import ImageDamaged
from models.imaging.formats import open_image
from models.imaging.limits import ImageLimits
from models.imaging.orientation import TRANSPOSED, turn
from models.imaging.signatures import refuse_jpeg_process

_JPEG_EIGHTHS = 8
_LARGE_PIXELS = 16_000_000  # more than the photos of most phones
_LARGE_DECODING = (
    threading.Lock()
)  # decoding takes up to 16 bytes for each pixel, so one large photo is decoded at a time


@dataclass(frozen=True, slots=True)
class Raster:
    """Decoded pixels, possibly at a reduced size.

    Attributes:
        pixels: (H, W, 3) uint8, RGB, upright.
        scale: (x, y) size of the raster relative to the upright photo; each value is at most 1.
    """

    pixels: NDArray[np.uint8]
    scale: tuple[float, float]


class Photo:
    """An image whose header has been read; its pixels are decoded on demand at the required scale.

    Not thread-safe.

    Attributes:
        width, height: Size of the upright photo in pixels.
        format: Name of the file format, such as `JPEG`.
    """

    def __init__(self, encoded: bytes, limits: ImageLimits | None = None) -> None:
        """Read the header.

        Args:
            encoded: Bytes of the image file.
            limits: Limits to enforce; the defaults of `ImageLimits` if None.

        Raises:
            ImageEmpty: The image has no bytes.
            ImageTooManyBytes: The image exceeds `max_bytes`.
            ImageUnreadable: The bytes are not an image in a supported format.
            ImageEncodingUnsupported: The format is supported, but not this form of it.
            ImageSeveralPages: The image has several pages.
            ImageDamaged: The header is corrupt.
            ImageTooManyPixels: The header states more than `max_pixels`.
            ImageTooSmall: A side is shorter than `min_side_px`.
        """
        limits = limits or ImageLimits()
        limits.check_bytes(encoded)
        self._encoded = encoded
        self._stored = open_image(encoded, limits)
        self.format = self._stored.format
        width, height = self._stored.size
        self.width, self.height = (height, width) if self._stored.orientation in TRANSPOSED else (width, height)
        self._raster: Raster | None = None

    def raster(self, scale: float = 1.0) -> Raster:
        """Decode at the smallest available scale that is at least `scale`.

        A raster that was decoded before is reused if it is large enough.

        Args:
            scale: Required size relative to the upright photo; values above 1 are treated as 1.

        Raises:
            ImageDamaged: The image is truncated or corrupt.
            ImageEncodingUnsupported: The pixels are of a form that is not supported.
        """
        if self._raster is None or min(self._raster.scale) < min(scale, 1.0):
            stored = self._decode_jpeg(scale) if self._stored.plain_jpeg else self._decode()
            upright = turn(stored, self._stored.orientation)
            height, width = upright.shape[:2]
            self._raster = Raster(upright, (width / self.width, height / self.height))
        return self._raster

    def _decode(self) -> NDArray[np.uint8]:
        width, height = self._stored.size
        with _LARGE_DECODING if width * height > _LARGE_PIXELS else nullcontext():
            return self._stored.decode()

    def _decode_jpeg(self, scale: float) -> NDArray[np.uint8]:
        width, height = self._stored.size
        eighths = min(_JPEG_EIGHTHS, max(1, int(np.ceil(scale * _JPEG_EIGHTHS - 1e-9))))
        try:
            pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
                self._encoded,
                colorspace="RGB",
                min_width=-(-width * eighths // _JPEG_EIGHTHS),
                min_height=-(-height * eighths // _JPEG_EIGHTHS),
            )
        except ValueError as error:
            refuse_jpeg_process(self._encoded)
            if "subsampling" in str(error):  # simplejpeg knows the common ratios only, Pillow knows all
                return self._decode()
            raise ImageDamaged("the JPEG image is truncated or corrupt") from error
        return pixels
