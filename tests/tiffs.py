"""TIFF files written by hand, in forms that libraries do not write."""

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHORT, LONG = 3, 4
_CODES = {1: "B", 2: "B", SHORT: "H", LONG: "I", 7: "B", 8: "h", 9: "i", 11: "f", 13: "I", 16: "Q"}

Tags = Mapping[int, tuple[int, Sequence[float]]]


@dataclass(frozen=True)
class TiffPage:
    """A page of a file for tests.

    Attributes:
        samples: (H, W, S) of any type; `packed` of them are stored in that number of bits, most significant bit first.
        photometric: PhotometricInterpretation.
        planes: Whether the samples of a pixel are stored apart.
        deflate: Whether each strip is compressed.
        packed: Bits of a sample, if they are not the ones of the type.
        tags: Further tags: their type and values. They replace those that follow from the samples.
        subs: Sub-directories.
    """

    samples: NDArray[Any]
    photometric: int = 1
    planes: bool = False
    deflate: bool = False
    packed: int = 0
    tags: Tags = field(default_factory=dict)
    subs: Sequence["TiffPage"] = ()

    def strips(self, order: str) -> list[bytes]:
        parts = np.split(self.samples, self.samples.shape[2], axis=2) if self.planes else [self.samples]
        rows = [part.reshape(len(part), -1) for part in parts]
        if self.packed:
            written = [pack(part, self.packed) for part in rows]
        else:
            written = [part.astype(part.dtype.newbyteorder(order)).tobytes() for part in rows]  # type: ignore[arg-type]
        return [zlib.compress(strip) for strip in written] if self.deflate else written


def pack(values: NDArray[Any], bits: int) -> bytes:
    """Return rows of samples of some bits, the most significant bit first; each row fills whole bytes."""
    single = (values[..., None].astype(np.uint32) >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(single.astype(np.uint8).reshape(len(values), -1), axis=1).tobytes()


def tiff(*pages: TiffPage, order: str = "<", big: bool = False) -> bytes:
    """Return a file with these pages."""
    head = struct.pack(f"{order}2sHHHQ", b"II", 43, 8, 0, 16) if big else struct.pack(f"{order}2sHI", b"II", 42, 8)
    encoded = bytearray(head if order == "<" else head.replace(b"II", b"MM", 1))
    _chain(encoded, pages, order, big, 8 if big else 4)
    return bytes(encoded)


def _chain(encoded: bytearray, pages: Sequence[TiffPage], order: str, big: bool, pointer: int) -> None:
    for page in pages:
        strips, offsets = page.strips(order), []
        for strip in strips:
            offsets.append(len(encoded))
            encoded += strip
        subs = []
        for sub in page.subs:
            subs.append(len(encoded) + 8)
            encoded += bytes(8)
            place = len(encoded) - 8
            _chain(encoded, [sub], order, big, place)
            subs[-1] = struct.unpack_from(f"{order}{'Q' if big else 'I'}", encoded, place)[0]
        encoded += bytes(len(encoded) % 2)
        position = len(encoded)
        pointer_code = "Q" if big else "I"
        struct.pack_into(order + pointer_code, encoded, pointer, position)
        encoded += _directory(_tags(page, strips, offsets, subs), order, big, position)
        pointer = position + (8 if big else 2) + len(_tags(page, strips, offsets, subs)) * (20 if big else 12)


def _tags(page: TiffPage, strips: list[bytes], offsets: list[int], subs: list[int]) -> Tags:
    height, width, samples = page.samples.shape
    kind = {"u": 1, "i": 2, "f": 3}[page.samples.dtype.kind]
    tags: dict[int, tuple[int, Sequence[float]]] = {
        256: (LONG, [width]),
        257: (LONG, [height]),
        258: (SHORT, [page.packed or page.samples.dtype.itemsize * 8] * samples),
        259: (SHORT, [8 if page.deflate else 1]),
        262: (SHORT, [page.photometric]),
        273: (LONG, offsets),
        277: (SHORT, [samples]),
        278: (LONG, [height]),
        279: (LONG, [len(strip) for strip in strips]),
        284: (SHORT, [2 if page.planes else 1]),
        339: (SHORT, [kind] * samples),
    }
    if subs:
        tags[330] = (LONG, subs)
    return dict(sorted({**tags, **page.tags}.items()))


def _directory(tags: Tags, order: str, big: bool, position: int) -> bytes:
    inline, count_code, entry = (8, "Q", "HHQ") if big else (4, "H", "HHI")
    pointer_code = "Q" if big else "I"
    end = position + struct.calcsize(f"<{count_code}") + len(tags) * struct.calcsize(f"<{entry}{pointer_code}")
    end += struct.calcsize(f"<{pointer_code}")
    entries, values = struct.pack(order + count_code, len(tags)), b""
    for tag, (kind, numbers) in tags.items():
        packed = struct.pack(f"{order}{len(numbers)}{_CODES[kind]}", *numbers)
        entries += struct.pack(order + entry, tag, kind, len(numbers))
        if len(packed) > inline:
            entries += struct.pack(order + pointer_code, end + len(values))
            values += packed
        else:
            entries += packed.ljust(inline, b"\0")
    return entries + bytes(struct.calcsize(f"<{pointer_code}")) + values
