"""The codestream of JPEG 2000 (ISO/IEC 15444-1, annex A).

It is checked before OpenJPEG decodes it: OpenJPEG allocates for each tile, precinct and code-block that the
markers state, before it reads any, and returns black for what is cut off.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from models.errors import ImageDamaged, ImageEncodingUnsupported, ImageTooManyPixels

SIGNATURE = b"\xff\x4f\xff\x51"

_MAX_TILES = 4096
_MAX_TILE_PARTS = 65_535
_MAX_BLOCKS = 2**20  # precincts and code-blocks of all components
_MAX_INCLUSIONS = 2**26  # layers x resolutions x components x precincts
_MAX_BITS = 16
_MAX_COMPONENTS = 4
_COD, _COC, _SOT, _SOD = 0xFF52, 0xFF53, 0xFF90, 0xFF93
_EOC = b"\xff\xd9"


@dataclass(frozen=True, slots=True)
class Codestream:
    """What the marker SIZ of a codestream states.

    Attributes:
        width, height: Size in pixels.
        tiles: Number of tiles.
        tile: Width and height of a tile in pixels.
        bits: Bits of each component.
    """

    width: int
    height: int
    tiles: int
    tile: tuple[int, int]
    bits: tuple[int, ...]


def read_codestream(encoded: bytes, start: int) -> Codestream:
    """Read the marker SIZ (A.5.1).

    Args:
        encoded: The file.
        start: Position of the codestream in it.

    Raises:
        ImageDamaged: The marker is corrupt.
        ImageEncodingUnsupported: The components are too many, too wide or signed.
    """
    try:
        right, lower, left, upper, across, down, tile_left, tile_upper, count = struct.unpack_from(
            ">8IH", encoded, start + 8
        )
        components = list(struct.iter_unpack("3B", encoded[start + 42 : start + 42 + 3 * count]))
    except struct.error as error:
        raise ImageDamaged("the header of the JPEG 2000 image is corrupt") from error
    width, height = right - left, lower - upper
    valid = width > 0 and height > 0 and across and down and tile_left <= left and tile_upper <= upper
    if not valid or len(components) != count or not count or any(not dx or not dy for _, dx, dy in components):
        raise ImageDamaged("the header of the JPEG 2000 image is corrupt")
    if any(depth & 0x80 for depth, _, _ in components):
        raise ImageEncodingUnsupported("the JPEG 2000 image has signed components; save it as sRGB or grey")
    bits = tuple((depth & 0x7F) + 1 for depth, _, _ in components)
    if count > _MAX_COMPONENTS or max(bits) > _MAX_BITS:
        raise ImageEncodingUnsupported(
            f"the JPEG 2000 image has {count} components of up to {max(bits)} bits; at most {_MAX_COMPONENTS} of "
            f"{_MAX_BITS} bits are supported"
        )
    tiles = -(-(right - tile_left) // across) * -(-(lower - tile_upper) // down)
    return Codestream(width, height, tiles, (min(across, width), min(down, height)), bits)


def check_codestream(encoded: bytes, start: int, stream: Codestream) -> None:
    """Check that a codestream is complete and does not state more tiles and blocks than a photo needs.

    Raises:
        ImageDamaged: A tile is missing or cut off, or a marker is corrupt.
        ImageTooManyPixels: The tiles, precincts or code-blocks are too many.
    """
    if stream.tiles > _MAX_TILES:
        raise ImageTooManyPixels(f"the JPEG 2000 image has {stream.tiles} tiles; at most {_MAX_TILES} are accepted")
    found: set[int] = set()
    try:
        for marker, segment, tile in _segments(encoded, start):
            if marker == _SOT:
                found.add(tile)
            elif marker in (_COD, _COC):
                _check_blocks(marker, segment, stream)
    except (struct.error, IndexError) as error:
        raise ImageDamaged("the JPEG 2000 image is truncated or corrupt") from error
    if len(found) < stream.tiles:
        raise ImageDamaged("the JPEG 2000 image is truncated or corrupt: tiles are missing")


def _segments(encoded: bytes, start: int) -> Iterator[tuple[int, bytes, int]]:
    """Yield marker, content and tile number of the segments of all headers; the number is -1 in the main header.

    Raises:
        ImageDamaged: A tile-part is cut off, or the tile-parts are too many.
    """
    position, tile, part_end, parts = start + 2, -1, 0, 0
    while True:
        if encoded[position : position + 2] == _EOC:
            return
        marker, length = struct.unpack_from(">HH", encoded, position)
        if marker == _SOD:
            position = part_end
            continue
        if marker < 0xFF00 or length < 2 or position + 2 + length > len(encoded):
            raise ImageDamaged("the JPEG 2000 image is truncated or corrupt")
        segment = encoded[position + 4 : position + 2 + length]
        if marker == _SOT:
            tile, size = struct.unpack_from(">HI", segment)
            part_end = position + size if size else encoded.rfind(_EOC)
            parts += 1
            if not position + 12 <= part_end <= len(encoded) or parts > _MAX_TILE_PARTS:
                raise ImageDamaged("the JPEG 2000 image is truncated or corrupt")
        yield marker, segment, tile
        position += 2 + length


def _check_blocks(marker: int, segment: bytes, stream: Codestream) -> None:
    """Check the number of precincts and code-blocks of a tile that COD or COC state (A.6.1, A.6.2).

    Raises:
        ImageTooManyPixels: They are too many.
    """
    layers, start = (int.from_bytes(segment[2:4]), 5) if marker == _COD else (1, 2)
    own_precincts = segment[0 if marker == _COD else 1] & 1
    levels, block = segment[start], (segment[start + 1] + 2, segment[start + 2] + 2)
    blocks = most = 0
    for resolution in range(levels + 1):
        size = segment[start + 5 + resolution] if own_precincts else 0xFF
        bands = 3 if resolution else 1
        precincts = inside = 1
        for side, precinct, largest in zip(stream.tile, (size & 15, size >> 4), block, strict=True):
            length = (side >> (levels - resolution)) + 2  # at most; it depends on the position of the tile
            precincts *= -(-length // 2**precinct)
            halved = int(resolution > 0)  # a precinct covers half of its length in each of the three bands
            inside *= -(-length // 2 ** (min(largest, max(precinct - halved, 0)) + halved))
        blocks += precincts + inside * bands
        most = max(most, precincts)
    components = len(stream.bits)
    if blocks * components > _MAX_BLOCKS or layers * (levels + 1) * components * most > _MAX_INCLUSIONS:
        raise ImageTooManyPixels("the JPEG 2000 image is divided into more blocks or layers than are accepted")
