"""Reading of TIFF samples of any width, by Pillow as bytes and by numpy as numbers.

Pillow has no mode for colours of more than 8 bits, and misreads some others (compressed big-endian float, samples
stored apart). Its decompression is complete. So the page is restated as a grey picture of bytes, which Pillow
decompresses; the predictor is undone and the bytes become samples here.
"""

import struct
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.errors import ImageDamaged
from models.imaging.tiff.page import FLOAT, SIGNED, UNSIGNED, Page

BYTE_COMPRESSIONS = {1, 5, 8, 32773, 32946, 34925, 50000}
"""Compressions that know only bytes: none, LZW, deflate, PackBits, LZMA, Zstandard."""

WHOLE_BITS = (8, 16, 32, 64)
PACKED_BITS = tuple(range(9, 16))

_BAND_BYTES = 2**22
_WITH_PREDICTOR = {5, 8, 32946, 34925, 50000}  # the others ignore the tag
_DIFFERENCES, _FLOAT_DIFFERENCES = 2, 3  # TIFF 6.0, section 14; TIFF Technical Note 3
_SHORT, _LONG = 3, 4
_FULL_HEIGHT = 2**32 - 1
_LETTERS = {UNSIGNED: "u", SIGNED: "i", FLOAT: "f"}


class Samples:
    """The decompressed samples of a page.

    The bytes are kept as Pillow decompressed them, and only bands of rows become numbers, because a small file can hold
    40 million pixels of 8 bytes each: the numbers of a whole page, their copies and its pixels took 1.3 GB.

    Attributes:
        height: Number of rows.
    """

    def __init__(self, page: Page) -> None:
        """Decompress a page.

        Raises:
            ImageDamaged: The page is cut off or corrupt.
        """
        self._page = page
        self._across = tiling(page)[0]
        self._columns = -(-page.width // self._across)
        self._samples = 1 if page.planes == 2 else page.samples
        planes = page.samples if page.planes == 2 else 1
        bytes_across = -(-self._across * self._samples * page.bits[0] // 8)
        self._planes = [_bytes(page, number, self._columns, bytes_across) for number in range(planes)]
        self.height = page.height
        self._band = max(1, _BAND_BYTES // (planes * self._columns * bytes_across))

    def bands(self, step: int = 1) -> Iterator[tuple[slice, NDArray[Any]]]:
        """Yield bands of rows, with every `step`-th of their rows.

        Yields:
            The rows of the band, and (R, W, S) uint8 to uint64, int8 to int64, or float16 to float64.
        """
        for start in range(0, self.height, self._band):
            rows = slice(start, min(start + self._band, self.height))
            first = -start % step
            if rows.start + first < rows.stop:
                planes = [self._numbers(plane, rows, first, step) for plane in self._planes]
                yield rows, planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)

    def some(self, most: int) -> NDArray[Any]:
        """Return (R, W, S), rows at equal distances with about `most` colour samples, from which white is estimated."""
        step = max(1, self.height * self._page.width * self._page.colours // most)
        return np.concatenate([numbers for _, numbers in self.bands(step)])

    def highest(self, position: int) -> float:
        """Return the largest value of a sample of the pixels; at least 0."""
        return max((float(numbers[..., position].max(initial=0)) for _, numbers in self.bands()), default=0.0)

    def _numbers(self, plane: Image.Image, rows: slice, first: int, step: int) -> NDArray[Any]:
        band = np.asarray(plane.crop((0, rows.start, plane.width, rows.stop)))[first::step]
        tiles = band.reshape(len(band) * self._columns, -1)  # the part of a row in a tile, as a row of its own
        numbers = _samples(tiles, self._page, self._across, self._samples)
        return numbers.reshape(len(band), -1, self._samples)[:, : self._page.width]


def tiling(page: Page) -> tuple[int, int]:
    """Return the width and height of the strips or tiles of a page in pixels."""
    directory = page.directory
    if 322 in directory.entries:
        return max(1, directory.number(322, 0)), max(1, directory.number(323, 0))
    return page.width, min(max(1, directory.number(278, _FULL_HEIGHT)), page.height)


def _bytes(page: Page, number: int, columns: int, bytes_across: int) -> Image.Image:
    """Return the decompressed rows of a plane as a grey picture of bytes; tiles at the right edge are complete."""
    restated = Image.open(BytesIO(_restate(page, number, columns, bytes_across)), formats=["TIFF"])
    restated.load()
    return restated


def _samples(rows: NDArray[np.uint8], page: Page, width: int, samples: int) -> NDArray[Any]:
    """Turn rows of tiles, (N, B) uint8, into (N, width, samples)."""
    bits, predictor = page.bits[0], page.predictor if page.compression in _WITH_PREDICTOR else 1
    if bits in PACKED_BITS:
        return _unpack(rows, bits, width * samples).reshape(len(rows), width, samples)
    letter = _LETTERS[page.formats[0]]
    if predictor == _FLOAT_DIFFERENCES:
        sums = np.add.accumulate(rows.reshape(len(rows), -1, samples), axis=1, dtype=np.uint8)
        planes = sums.reshape(len(rows), bits // 8, width * samples)  # the most significant bytes come first
        whole = np.ascontiguousarray(planes.transpose(0, 2, 1)).view(f">{letter}{bits // 8}")
        return whole.reshape(len(rows), width, samples).astype(f"{letter}{bits // 8}")
    order = page.directory.file.order
    kind = "u" if predictor == _DIFFERENCES else letter
    whole = np.ascontiguousarray(rows).view(f"{order}{kind}{bits // 8}").reshape(len(rows), width, samples)
    if predictor == _DIFFERENCES:
        whole = np.add.accumulate(whole, axis=1, dtype=f"u{bits // 8}")
    return whole.astype(f"{kind}{bits // 8}", copy=False).view(f"{letter}{bits // 8}")


def _unpack(rows: NDArray[np.uint8], bits: int, count: int) -> NDArray[np.uint16]:
    """Return (H, count) uint16 from rows of samples of 9 to 15 bits, the most significant bit first."""
    groups = -(-count // 8)  # eight samples fill whole bytes
    padded = np.zeros((len(rows), groups * bits + 2), np.uint8)
    padded[:, : rows.shape[1]] = rows[:, : groups * bits]
    values = np.empty((len(rows), groups, 8), np.uint16)
    for phase in range(8):
        byte, bit = divmod(phase * bits, 8)
        three = [
            padded[:, byte + part : byte + part + groups * bits : bits][:, :groups].astype(np.uint32)
            for part in range(3)
        ]
        window = three[0] << 16 | three[1] << 8 | three[2]
        values[..., phase] = window >> (24 - bit - bits) & ((1 << bits) - 1)
    return values.reshape(len(rows), -1)[:, :count]


def _restate(page: Page, number: int, columns: int, bytes_across: int) -> bytes:
    """Return the file with a new first directory, which describes one plane as a grey picture of its bytes."""
    directory = page.directory
    height = tiling(page)[1]
    parts = columns * -(-page.height // height)
    tiled = 322 in directory.entries
    offsets, counts = directory.array(324 if tiled else 273), directory.array(325 if tiled else 279)
    offsets, counts = offsets[number * parts :][:parts], counts[number * parts :][:parts]
    if len(offsets) < parts or (len(counts) < parts and page.compression != 1):
        raise ImageDamaged("the TIFF image is truncated or corrupt: it states too few strips")
    fill_order = directory.number(266, 1)
    tags: dict[int, tuple[int, list[int]]] = {
        256: (_LONG, [columns * bytes_across]),
        257: (_LONG, [page.height]),
        258: (_SHORT, [8]),
        259: (_SHORT, [page.compression]),
        262: (_SHORT, [1]),
        266: (_SHORT, [fill_order if fill_order == 2 else 1]),
        277: (_SHORT, [1]),
    }
    if tiled:
        tags |= {322: (_LONG, [bytes_across]), 323: (_LONG, [height])}
    else:
        tags[278] = (_LONG, [height])
    tags[324 if tiled else 273] = (_LONG, np.clip(offsets, 0, _FULL_HEIGHT).tolist())
    if len(counts) == parts:
        tags[325 if tiled else 279] = (_LONG, np.clip(counts, 0, _FULL_HEIGHT).tolist())
    return _with_directory(directory.file.encoded, tags)


def _with_directory(encoded: bytes, tags: dict[int, tuple[int, list[int]]]) -> bytes:
    """Return a file, as little-endian classic TIFF, with a directory appended that becomes its first."""
    position = len(encoded) + len(encoded) % 2
    values_at = position + 2 + 12 * len(tags) + 4
    entries, values = b"", b""
    for tag, (kind, numbers) in sorted(tags.items()):
        packed = struct.pack(f"<{len(numbers)}{'H' if kind == _SHORT else 'I'}", *numbers)
        if len(packed) > 4:
            inline = struct.pack("<I", values_at + len(values))
            values += packed
        else:
            inline = packed.ljust(4, b"\0")
        entries += struct.pack("<HHI", tag, kind, len(numbers)) + inline
    header = b"II*\0" + struct.pack("<I", position)
    body = encoded[8:].ljust(position - 8, b"\0")
    return header + body + struct.pack("<H", len(tags)) + entries + bytes(4) + values
