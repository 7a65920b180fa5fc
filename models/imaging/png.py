"""PNG photos (PNG 3rd edition): chunks that Pillow does not read or not in time, and colours of 16 bits."""

import re
import struct
import zlib
from collections.abc import Iterator
from itertools import islice

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.errors import ImageDamaged
from models.imaging.depth import to_8_bits, white_of
from models.imaging.orientation import exif_orientation, xmp_orientation
from models.imaging.pixels import WHITE, decoded, grey_to_rgb, is_wide, over_white, to_rgb

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR = 2  # bit of the colour type
_PIECE = 2**14  # bytes that are decompressed at once, to at most 16 MiB
_MAX_TEXT = 2**20  # bytes of a text after decompression
_MAX_METADATA = 16  # chunks that are searched for an orientation
_MAX_KEYWORD = 80
_PROFILE = re.compile(rb"Raw profile type (exif|APP1)\0")  # ImageMagick, before PNG had a chunk for EXIF
_XMP = b"XML:com.adobe.xmp\0"
_XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"


class PngImage:
    """A PNG whose header has been read."""

    format = "PNG"
    plain_jpeg = False

    def __init__(self, encoded: bytes, image: Image.Image) -> None:
        """Read the orientation.

        Args:
            encoded: Bytes of the file.
            image: The image as Pillow opened it.
        """
        self._encoded, self._image = encoded, image
        self.size = image.size
        self.orientation = _orientation(encoded)

    def decode(self) -> NDArray[np.uint8]:
        """Decode to (H, W, 3) uint8, RGB, as stored.

        Raises:
            ImageDamaged: The image is truncated or corrupt.
        """
        return decoded("PNG", self._decode)

    def _decode(self) -> NDArray[np.uint8]:
        _check_pixels(self._encoded)
        image, hidden = self._image, _hidden_colour(self._image, self._encoded)
        if _depth(self._encoded) == 16 and not is_wide(image):
            return self._decode_wide()
        image.load()
        if is_wide(image):
            values = np.asarray(image)
            pixels = grey_to_rgb(values, stated=_stated_white(self._encoded))
            if hidden is not None:
                pixels[values == hidden] = WHITE
            return pixels
        if hidden is not None:
            image.info["transparency"] = hidden
        return to_rgb(image)

    def _decode_wide(self) -> NDArray[np.uint8]:
        """Decode colours of 16 bits by OpenCV, because Pillow keeps the upper 8 bits only."""
        _check_length(self._encoded, self.size)
        wide = cv2.imdecode(np.frombuffer(_essential(self._encoded), np.uint8), cv2.IMREAD_UNCHANGED)
        if wide is None or wide.dtype != np.uint16 or wide.shape[:2] != self.size[::-1]:
            raise ImageDamaged("the PNG image is truncated or corrupt")
        colours = wide[..., 2::-1]
        white = white_of(colours, 16, _stated_white(self._encoded))
        pixels = to_8_bits(colours, white)
        if wide.shape[2] == 3:
            return pixels
        opacity = wide[..., 3]
        return over_white(pixels, to_8_bits(opacity, white if opacity.max(initial=0) <= white else 2.0**16 - 1))


def _chunks(encoded: bytes) -> Iterator[tuple[bytes, memoryview, int]]:
    """Yield the kind, content and stored checksum of each chunk (section 5.3)."""
    view, position = memoryview(encoded), len(_SIGNATURE)
    while position + 12 <= len(encoded):
        length, kind = struct.unpack_from(">I4s", encoded, position)
        end = position + 8 + length
        if end + 4 > len(encoded):
            return
        yield kind, view[position + 8 : end], int.from_bytes(view[end : end + 4])
        position = end + 4


def _chunk(encoded: bytes, kind: bytes) -> bytes:
    """Return the content of the first chunk of a kind, or empty bytes."""
    return next((bytes(content) for found, content, _ in _chunks(encoded) if found == kind), b"")


def _check_pixels(encoded: bytes) -> None:
    """Raise an error if the checksum of pixel chunks is wrong, because Pillow ignores it.

    Raises:
        ImageDamaged: The checksum of a pixel chunk does not match its content.
    """
    for kind, content, checksum in _chunks(encoded):
        if kind == b"IDAT" and zlib.crc32(content, zlib.crc32(kind)) != checksum:
            raise ImageDamaged("the PNG image is truncated or corrupt")


def _check_length(encoded: bytes, size: tuple[int, int]) -> None:
    """Raise an error if rows are missing, because libpng would write about it to the standard error of the process.

    Raises:
        ImageDamaged: The pixel chunks hold fewer bytes than the header demands.
    """
    samples = {0: 1, 2: 3, 4: 2, 6: 4}[encoded[len(_SIGNATURE) + 17]]
    missing, packer = size[1] * size[0] * samples * 2, zlib.decompressobj()
    try:
        for kind, content, _ in _chunks(encoded):
            for start in range(0, len(content) if kind == b"IDAT" else 0, _PIECE):
                missing -= len(packer.decompress(content[start : start + _PIECE]))
    except zlib.error as error:
        raise ImageDamaged("the PNG image is truncated or corrupt") from error
    if missing > 0:
        raise ImageDamaged("the PNG image is truncated or corrupt")


def _essential(encoded: bytes) -> bytes:
    """Return the file without other chunks: libpng writes about some of them to the standard error of the process."""
    kept = (b"IHDR", b"tRNS", b"IDAT", b"IEND")
    chunks = (entry for entry in _chunks(encoded) if entry[0] in kept)
    return _SIGNATURE + b"".join(
        struct.pack(">I4s", len(content), kind) + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))
        for kind, content, _ in chunks
    )


def _depth(encoded: bytes) -> int:
    return encoded[len(_SIGNATURE) + 16]


def _stated_white(encoded: bytes) -> float | None:
    """Return the largest value of the bits that sBIT (section 11.3.2.7) states; None without it.

    The standard demands that such samples are scaled to all 16 bits. Cameras store them unscaled, and then no sample
    exceeds this value.
    """
    bits = _chunk(encoded, b"sBIT")
    colours = bits[: 3 if encoded[len(_SIGNATURE) + 17] & _COLOUR else 1]
    return 2.0 ** max(colours) - 1 if colours and 0 < max(colours) < 16 else None


def _hidden_colour(image: Image.Image, encoded: bytes) -> int | tuple[int, ...] | None:
    """Return the transparent colour (chunk tRNS) in the value range of Pillow's pixels."""
    hidden = image.info.get("transparency")
    if not isinstance(hidden, int | tuple):
        return None
    depth = _depth(encoded)
    if isinstance(hidden, tuple):
        return tuple(int(value) >> (8 if depth == 16 else 0) for value in hidden)
    value = int(hidden)
    if image.mode == "P" or depth in (8, 16):
        return value
    return value * 255 // ((1 << depth) - 1)  # Pillow scales grey of 1, 2 or 4 bits to 0..255


def _orientation(encoded: bytes) -> int:
    """Return the orientation of eXIf, else of an older text with EXIF, else of XMP, else 1.

    All chunks are read here, because Pillow would decode all pixels to find a chunk after them.
    """
    found = [(kind, bytes(content)) for kind, content in islice(_metadata(encoded), _MAX_METADATA)]
    exif = [content for kind, content in found if kind == b"eXIf"]
    profiles = [_profile(kind, content) for kind, content in found if _PROFILE.match(content)]
    packets = [_text(kind, content) for kind, content in found if content.startswith(_XMP)]
    packets += [profile for profile in profiles if profile.startswith(_XMP_PREFIX)]
    stated = [*map(exif_orientation, exif), *map(exif_orientation, profiles), *map(xmp_orientation, packets)]
    return next((orientation for orientation in stated if orientation), 1)


def _metadata(encoded: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yield the kind and content of the chunks that may state an orientation."""
    for kind, content, _ in _chunks(encoded):
        head = bytes(content[:_MAX_KEYWORD])
        texts = kind in (b"tEXt", b"zTXt", b"iTXt") and (_PROFILE.match(head) or head.startswith(_XMP))
        if kind == b"eXIf" or texts:
            yield kind, content


def _profile(kind: bytes, content: bytes) -> bytes:
    """Return a raw profile: a text of its name, its length, and its bytes as hexadecimal digits."""
    lines = _text(kind, content).split(maxsplit=2)
    digits = b"".join(lines[2].split()) if len(lines) == 3 else b""
    try:
        return bytes.fromhex(digits[: len(digits) // 2 * 2].decode("ascii"))
    except ValueError:
        return b""


def _text(kind: bytes, content: bytes) -> bytes:
    """Return the text of a chunk (section 11.3.3), at most 1 MiB."""
    text = content.partition(b"\0")[2]
    compressed = kind == b"zTXt"
    if kind == b"iTXt":
        compressed = text[:1] == b"\1"
        text = text[2:].split(b"\0", 2)[-1]  # language, translated keyword, text
    elif compressed:
        text = text[1:]
    if not compressed:
        return text[:_MAX_TEXT]
    try:
        return zlib.decompressobj().decompress(text, _MAX_TEXT)
    except zlib.error:
        return b""
