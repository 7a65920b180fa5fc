"""The chunks of PNG files that Pillow does not read, or not in time."""

import struct
import zlib
from collections.abc import Iterator

from PIL import Image

from models.errors import ImageDamaged

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png_chunk(encoded: bytes, kind: bytes) -> bytes:
    """Return the content of the first chunk of a kind, or empty bytes."""
    return next((bytes(content) for found, content, _ in _chunks(encoded) if found == kind), b"")


def _chunks(encoded: bytes) -> Iterator[tuple[bytes, memoryview, int]]:
    """Yield the kind, content and stored checksum of each chunk of a PNG (3rd edition, section 5.3)."""
    view, position = memoryview(encoded), len(_SIGNATURE)
    while position + 12 <= len(encoded):
        length, kind = struct.unpack_from(">I4s", encoded, position)
        end = position + 8 + length
        if end + 4 > len(encoded):
            return
        yield kind, view[position + 8 : end], int.from_bytes(view[end : end + 4])
        position = end + 4


def check_png(encoded: bytes) -> None:
    """Raise an error if the checksum of pixel chunks is wrong, because Pillow ignores it.

    Raises:
        ImageDamaged: The checksum of a pixel chunk does not match its content.
    """
    for kind, content, checksum in _chunks(encoded):
        if kind == b"IDAT" and zlib.crc32(content, zlib.crc32(kind)) != checksum:
            raise ImageDamaged("the PNG image is truncated or corrupt")


def hidden_colour(image: Image.Image, encoded: bytes) -> int | tuple[int, ...] | None:
    """Return the transparent colour of a PNG (chunk tRNS) in the value range of Pillow's pixels."""
    hidden = image.info.get("transparency")
    if image.format != "PNG" or not isinstance(hidden, int | tuple):
        return None
    depth = encoded[len(_SIGNATURE) + 16]
    if isinstance(hidden, tuple):
        return tuple(int(value) >> (8 if depth == 16 else 0) for value in hidden)
    value = int(hidden)
    if image.mode == "P" or depth in (8, 16):
        return value
    return value * 255 // ((1 << depth) - 1)  # Pillow scales grey of 1, 2 or 4 bits to 0..255
