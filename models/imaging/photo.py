"""Decode images to upright RGB pixels.

The header is read first, so that an oversized image is rejected before any pixel is decoded. The orientation is read
from EXIF in all formats that carry it. libjpeg-turbo decodes JPEG at any multiple of one eighth of its size, so a
large photo is decoded only at the size that the detector needs. Pillow decodes all other formats at full size.
"""

from dataclasses import dataclass

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from models.errors import ImageDamaged, ImageEmpty, ImageTooManyBytes, ImageTooManyPixels, ImageTooSmall
from models.imaging.formats import open_image
from models.imaging.limits import ImageLimits
from models.imaging.orientation import TRANSPOSED, orientation_of, turn
from models.imaging.pixels import decode

_JPEG_EIGHTHS = 8


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
            ImageDamaged: The header is corrupt.
            ImageTooManyPixels: The header states more than `max_pixels`.
            ImageTooSmall: A side is shorter than `min_side_px`.
        """
        limits = limits or ImageLimits()
        if not encoded:
            raise ImageEmpty("the image is empty: no bytes were sent")
        if len(encoded) > limits.max_bytes:
            raise ImageTooManyBytes(f"the image has {len(encoded)} bytes; at most {limits.max_bytes} are accepted")
        self._encoded = encoded
        self._image = open_image(encoded)
        self.format = str(self._image.format)
        stored_width, stored_height = self._image.size
        if stored_width * stored_height > limits.max_pixels:
            raise ImageTooManyPixels(
                f"the image has {stored_width} x {stored_height} pixels; at most {limits.max_pixels} are accepted"
            )
        self._orientation = orientation_of(self._image, encoded)
        turned = self._orientation in TRANSPOSED
        self.width, self.height = (stored_height, stored_width) if turned else (stored_width, stored_height)
        if min(self.width, self.height) < limits.min_side_px:
            raise ImageTooSmall(
                f"the image has {self.width} x {self.height} pixels; "
                f"each side must have at least {limits.min_side_px} pixels"
            )
        self._raster: Raster | None = None

    def raster(self, scale: float = 1.0) -> Raster:
        """Decode at the smallest available scale that is at least `scale`.

        A raster that was decoded before is reused if it is large enough.

        Args:
            scale: Required size relative to the upright photo; values above 1 are treated as 1.

        Raises:
            ImageDamaged: The image is truncated or corrupt.
        """
        if self._raster is None or min(self._raster.scale) < min(scale, 1.0):
            stored = self._decode_jpeg(scale) if self._is_plain_jpeg() else decode(self._image, self._encoded)
            upright = turn(stored, self._orientation)
            height, width = upright.shape[:2]
            self._raster = Raster(upright, (width / self.width, height / self.height))
        return self._raster

    def _is_plain_jpeg(self) -> bool:
        return self.format in ("JPEG", "MPO") and self._image.mode in ("L", "RGB")

    def _decode_jpeg(self, scale: float) -> NDArray[np.uint8]:
        width, height = self._image.size
        eighths = min(_JPEG_EIGHTHS, max(1, int(np.ceil(scale * _JPEG_EIGHTHS - 1e-9))))
        try:
            pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
                self._encoded,
                colorspace="RGB",
                min_width=-(-width * eighths // _JPEG_EIGHTHS),
                min_height=-(-height * eighths // _JPEG_EIGHTHS),
            )
        except ValueError as error:
            raise ImageDamaged("the JPEG image is truncated or corrupt") from error
        return pixels
