"""Boxes of ISO base media files (ISO/IEC 14496-12): the structure of HEIF, AVIF and JPEG 2000."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

_MAX_BOXES = 4096


class Box(NamedTuple):
    """A box.

    Attributes:
        kind: Its four letters.
        content: Its content; of a box that is cut off, what is there.
        complete: Whether the content is complete.
    """

    kind: bytes
    content: bytes
    complete: bool


def read_boxes(encoded: bytes, start: int = 0) -> Iterator[Box]:
    """Yield the boxes of a file or of the content of a box, at most 4096."""
    position = start
    for _ in range(_MAX_BOXES):
        if position + 8 > len(encoded):
            return
        size, kind = struct.unpack_from(">I4s", encoded, position)
        head = 8
        if size == 1 and position + 16 <= len(encoded):
            (size,) = struct.unpack_from(">Q", encoded, position + 8)
            head = 16
        end = len(encoded) if size == 0 else position + size  # 0: to the end of the file
        if end < position + head:
            return
        yield Box(kind, encoded[position + head : end], end <= len(encoded))
        position = end


def find_box(encoded: bytes, *path: bytes) -> bytes | None:
    """Return the content of the first box at a path of kinds, or None; `meta` is a box with version and flags."""
    for kind in path:
        found = next((box.content for box in read_boxes(encoded) if box.kind == kind), None)
        if found is None:
            return None
        encoded = found[4:] if kind == b"meta" else found
    return encoded


def primary_item_properties(encoded: bytes) -> set[bytes]:
    """Return the kinds of the properties of a file's primary item (ISO/IEC 23008-12), such as `irot` and `imir`."""
    meta = find_box(encoded, b"meta")
    try:
        if meta is None:
            return set()
        pitm, properties = find_box(meta, b"pitm") or b"", find_box(meta, b"iprp") or b""
        primary = int.from_bytes(pitm[4:6] if pitm[0] == 0 else pitm[4:8])
        kinds = [box.kind for box in read_boxes(find_box(properties, b"ipco") or b"")]
        numbers = {
            number
            for box in read_boxes(properties)
            if box.kind == b"ipma"
            for item, number in _associations(box.content)
            if item == primary
        }
    except (IndexError, struct.error):
        return set()
    return {kinds[number - 1] for number in numbers if 0 < number <= len(kinds)}


def _associations(ipma: bytes) -> Iterator[tuple[int, int]]:
    """Yield the id of an item and the number of a property of it, for each association."""
    version, wide = ipma[0], ipma[3] & 1
    (count,) = struct.unpack_from(">I", ipma, 4)
    position = 8
    for _ in range(min(count, len(ipma))):
        (item,) = struct.unpack_from(">H" if version == 0 else ">I", ipma, position)
        position += 2 if version == 0 else 4
        properties = ipma[position]
        position += 1
        for _ in range(properties):
            (number,) = struct.unpack_from(">H" if wide else ">B", ipma, position)
            position += 2 if wide else 1
            yield item, number & (0x7FFF if wide else 0x7F)
