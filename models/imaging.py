"""Decode images to upright RGB pixels.

The header is read first, so that an oversized image is rejected before any pixel is decoded. The orientation is read
from EXIF in all formats that carry it. libjpeg-turbo decodes JPEG at any multiple of one eighth of its size, so a
large photo is decoded only at the size that the detector needs. Pillow decodes all other formats at full size.
"""

import importlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from models.errors import (
    ImageDamaged,
    ImageEmpty,
    ImageTooManyBytes,
    ImageTooManyPixels,
    ImageTooSmall,
    ImageUnreadable,
)

FORMATS = ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF"]
try:
    importlib.import_module("pillow_heif").register_heif_opener()
    FORMATS.append("HEIF")
except ImportError:  # the extra `heic` is not installed
    pass

Image.MAX_IMAGE_PIXELS = None  # `ImageLimits` replaces Pillow's limit; it is checked as soon as the header is read

_ORIENTATION_TAG = 0x0112  # EXIF 2.3, section 4.6.4
_TRANSPOSED = (5, 6, 7, 8)
_WHITE = 255  # background of transparent pixels
_STRIP_ROWS = 256
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_EIGHTHS = 8


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """Limits that are checked before decoding.

    Attributes:
        max_bytes: Maximum size of the encoded image in bytes.
        max_pixels: Maximum number of pixels that the header states.
        min_side_px: Minimum width and height in pixels.
    """

    max_bytes: int = 10 * 2**20
    max_pixels: int = 40_000_000
    min_side_px: int = 16  # the detectors find no face this small


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
        self._image = _open(encoded)
        self.format = str(self._image.format)
        stored_width, stored_height = self._image.size
        if stored_width * stored_height > limits.max_pixels:
            raise ImageTooManyPixels(
                f"the image has {stored_width} x {stored_height} pixels; at most {limits.max_pixels} are accepted"
            )
        self._orientation = _orientation(self._image, encoded)
        turned = self._orientation in _TRANSPOSED
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
            stored = self._decode_jpeg(scale) if self._is_plain_jpeg() else _decode(self._image, self._encoded)
            upright = _turn(stored, self._orientation)
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


def load_decoders() -> None:
    """Load the decoders of Pillow, so that the first photo does not have to wait for them."""
    Image.init()


def _open(encoded: bytes) -> Image.Image:
    try:
        return Image.open(BytesIO(encoded), formats=FORMATS)
    except UnidentifiedImageError as error:
        if not any(encoded):
            raise ImageUnreadable("the bytes are not an image: all of them are zero") from error
        names = ", ".join(FORMATS)
        raise ImageUnreadable(f"the bytes are not an image in a supported format ({names})") from error
    except Exception as error:  # Pillow's plugins raise arbitrary exceptions for a corrupt header
        raise ImageDamaged("the header of the image is corrupt") from error


def _orientation(image: Image.Image, encoded: bytes) -> int:
    """Return the EXIF orientation (1 to 8) that remains to be undone after Pillow has decoded the image."""
    if image.format == "TIFF":
        return 1  # Pillow undoes the orientation while decoding
    if image.format == "HEIF" and any(box in encoded.partition(b"mdat")[0] for box in (b"irot", b"imir")):
        return 1  # libheif undoes the rotation of the container, which overrides EXIF (ISO/IEC 23008-12)
    try:
        if image.format == "PNG":  # Pillow would decode all pixels to find a chunk after them
            exif = Image.Exif()
            exif.load(_png_chunk(encoded, b"eXIf"))
        else:
            exif = image.getexif()
        value = image.info.get("original_orientation") or exif.get(_ORIENTATION_TAG, 1)
    except MemoryError:
        raise
    except Exception:  # an image with a corrupt EXIF block is still usable
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _png_chunk(encoded: bytes, kind: bytes) -> bytes:
    """Return the content of the first chunk of a kind, or empty bytes."""
    return next((bytes(content) for found, content, _ in _png_chunks(encoded) if found == kind), b"")


def _png_chunks(encoded: bytes) -> Iterator[tuple[bytes, memoryview, int]]:
    """Yield the kind, content and stored checksum of each chunk of a PNG (3rd edition, section 5.3)."""
    view, position = memoryview(encoded), len(_PNG_SIGNATURE)
    while position + 12 <= len(encoded):
        length, kind = struct.unpack_from(">I4s", encoded, position)
        end = position + 8 + length
        if end + 4 > len(encoded):
            return
        yield kind, view[position + 8 : end], int.from_bytes(view[end : end + 4])
        position = end + 4


def _check_png(encoded: bytes) -> None:
    """Raise an error if the checksum of pixel chunks is wrong, because Pillow ignores it.

    Raises:
        ImageDamaged: The checksum of a pixel chunk does not match its content.
    """
    for kind, content, checksum in _png_chunks(encoded):
        if kind == b"IDAT" and zlib.crc32(content, zlib.crc32(kind)) != checksum:
            raise ImageDamaged("the PNG image is truncated or corrupt")


def _decode(image: Image.Image, encoded: bytes) -> NDArray[np.uint8]:
    try:
        if image.format == "PNG":
            _check_png(encoded)
        image.load()
        return _to_rgb(image, encoded)
    except (MemoryError, ImageDamaged):
        raise
    except Exception as error:  # Pillow's decoders raise arbitrary exceptions for corrupt bytes
        raise ImageDamaged(f"the {image.format} image is truncated or corrupt") from error


def _to_rgb(image: Image.Image, encoded: bytes) -> NDArray[np.uint8]:
    hidden = _hidden_colour(image, encoded)
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


def _hidden_colour(image: Image.Image, encoded: bytes) -> int | tuple[int, ...] | None:
    """Return the transparent colour of a PNG (chunk tRNS) in the value range of Pillow's pixels."""
    hidden = image.info.get("transparency")
    if image.format != "PNG" or not isinstance(hidden, int | tuple):
        return None
    depth = encoded[len(_PNG_SIGNATURE) + 16]
    if isinstance(hidden, tuple):
        return tuple(int(value) >> (8 if depth == 16 else 0) for value in hidden)
    value = int(hidden)
    if image.mode == "P" or depth in (8, 16):
        return value
    return value * 255 // ((1 << depth) - 1)  # Pillow scales grey of 1, 2 or 4 bits to 0..255


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


def _turn(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo an EXIF orientation (EXIF 2.3, table 6 of section 4.6.4)."""
    match orientation:
        case 2:
            turned = cv2.flip(pixels, 1)
        case 3:
            turned = cv2.rotate(pixels, cv2.ROTATE_180)
        case 4:
            turned = cv2.flip(pixels, 0)
        case 5:
            turned = cv2.transpose(pixels)
        case 6:
            turned = cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE)
        case 7:
            turned = cv2.rotate(cv2.transpose(pixels), cv2.ROTATE_180)
        case 8:
            turned = cv2.rotate(pixels, cv2.ROTATE_90_COUNTERCLOCKWISE)
        case _:
            return np.ascontiguousarray(pixels)
    return turned.astype(np.uint8, copy=False)
