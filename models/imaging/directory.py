"""Reading of TIFF directories (TIFF 6.0, section 2; BigTIFF), which are also the form of EXIF.

Every read is bounded: a hostile file states a million entries or values, or directories that form a loop.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Number = int | float

_CODES = {  # struct code of each type; rational numbers are not read
    **{1: "B", 2: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 11: "f", 12: "d"},
    **{13: "I", 16: "Q", 17: "q", 18: "Q"},
}
_LENGTHS = {kind: struct.calcsize(f"<{code}") for kind, code in _CODES.items()}
_CLASSIC, _BIG = 42, 43
_SUB_DIRECTORIES = 330


class DirectoryDamaged(ValueError):
    """The bytes are not a TIFF directory."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Position of the values of a tag.

    Attributes:
        code: struct code of a value.
        count: Number of values that lie within the file.
        start: Position of the first value.
    """

    code: str
    count: int
    start: int


@dataclass(frozen=True, slots=True)
class Tiff:
    """A TIFF file or an EXIF block whose header has been read.

    Attributes:
        encoded: All bytes.
        order: `<` or `>`.
        big: Whether it is a BigTIFF.
        first: Position of the first directory.
    """

    encoded: bytes
    order: Literal["<", ">"]
    big: bool
    first: int

    @classmethod
    def read(cls, encoded: bytes) -> "Tiff":
        """Read the header.

        Raises:
            DirectoryDamaged: It is not the header of a TIFF.
        """
        versions = {
            int.from_bytes(encoded[2:4], "little"),
            int.from_bytes(encoded[2:4], "big"),
        }  # some err in the order
        if encoded[:2] not in (b"II", b"MM") or not versions & {_CLASSIC, _BIG}:
            raise DirectoryDamaged("no TIFF header")
        order: Literal["<", ">"] = "<" if encoded[:2] == b"II" else ">"
        big = _BIG in versions
        try:
            (first,) = struct.unpack_from(f"{order}Q" if big else f"{order}I", encoded, 8 if big else 4)
        except struct.error as error:
            raise DirectoryDamaged("the TIFF header is cut off") from error
        return cls(encoded, order, big, first)

    def directory(self, position: int, max_entries: int, complete: bool = True, only: int | None = None) -> "Directory":
        """Read the directory at a position.

        Args:
            position: Position of the directory.
            max_entries: Maximum number of entries.
            complete: Whether a directory that is cut off is an error; otherwise the entries before the end are read.
            only: The only tag that is needed; None for all.

        Raises:
            DirectoryDamaged: The directory has no entries, too many, or is cut off.
        """
        count_code, entry_size, pointer = ("Q", 20, "Q") if self.big else ("H", 12, "I")
        start = position + struct.calcsize(f"<{count_code}")
        try:
            (count,) = struct.unpack_from(self.order + count_code, self.encoded, position)
        except struct.error as error:
            raise DirectoryDamaged("a directory is cut off") from error
        there = min(count, max(0, len(self.encoded) - start) // entry_size)
        if not 0 < there <= max_entries or (complete and there < count):
            raise DirectoryDamaged(f"a directory of {count} entries, of which {there} lie within the file")
        end = start + there * entry_size
        following = 0
        if end + struct.calcsize(f"<{pointer}") <= len(self.encoded):
            (following,) = struct.unpack_from(self.order + pointer, self.encoded, end)
        return Directory(self, self._entries(start, there, only), there, position, following)

    def _entries(self, start: int, count: int, only: int | None) -> dict[int, Entry]:
        """Return the entries of known types; of a repeated tag, the first."""
        form, value, pointer = ("HHQ8x", 12, "Q") if self.big else ("HHI4x", 8, "I")
        size = struct.calcsize(f"<{form}")
        entries: dict[int, Entry] = {}
        rows = struct.iter_unpack(self.order + form, self.encoded[start : start + count * size])
        for number, (tag, kind, values) in enumerate(rows):
            if (only is None or tag == only) and kind in _CODES and tag not in entries:
                length = _LENGTHS[kind]
                place = start + number * size + value
                if values * length > size - value:
                    (place,) = struct.unpack_from(self.order + pointer, self.encoded, place)
                within = max(0, len(self.encoded) - place) // length
                entries[tag] = Entry(_CODES[kind], min(values, within), place)
        return entries


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory of a TIFF.

    Attributes:
        file: The file.
        entries: Position of the values of each tag.
        count: Number of entries, those of unknown types and repeated ones included.
        position: Position of the directory in the file.
        following: Position of the next directory; 0 if this is the last.
    """

    file: Tiff = field(repr=False)
    entries: dict[int, Entry]
    count: int
    position: int
    following: int

    def numbers(self, tag: int, at_most: int) -> tuple[Number, ...]:
        """Return the first values of a tag, at most so many; empty if the directory does not have the tag."""
        entry = self.entries.get(tag)
        if entry is None or entry.count == 0:
            return ()
        form = f"{self.file.order}{min(entry.count, at_most)}{entry.code}"
        return struct.unpack_from(form, self.file.encoded, entry.start)

    def number(self, tag: int, default: int) -> int:
        """Return the first value of a tag as an integer."""
        values = self.numbers(tag, 1)
        return int(values[0]) if values and values[0] == values[0] and abs(values[0]) < 2**63 else default

    def array(self, tag: int) -> NDArray[np.int64]:
        """Return all values of an integer tag; empty if the directory does not have the tag."""
        entry = self.entries.get(tag)
        if entry is None or entry.count == 0:
            return np.empty(0, np.int64)
        form = f"{self.file.order}{entry.code}"
        return np.frombuffer(self.file.encoded, form, entry.count, entry.start).astype(np.int64)

    def raw(self, tag: int) -> bytes:
        """Return the bytes of a tag; empty if the directory does not have the tag."""
        entry = self.entries.get(tag)
        if entry is None:
            return b""
        return self.file.encoded[entry.start : entry.start + entry.count * struct.calcsize(f"<{entry.code}")]


def directories(file: Tiff, max_directories: int, max_entries: int) -> Iterator[Directory]:
    """Yield the directories of a chain and their sub-directories (TIFF Tech Note 1), each once.

    A pointer that leads nowhere ends its chain, because many writers leave such a pointer behind the last page.

    Args:
        file: The file.
        max_directories: Number of directories after which no more are read.
        max_entries: Number of entries, of all directories together, after which no more directories are read.

    Raises:
        DirectoryDamaged: The first directory is corrupt.
    """
    waiting, visited, left = [file.first], set[int](), max_entries
    while waiting and len(visited) < max_directories:
        position = waiting.pop()
        if position in visited or not 0 < position < len(file.encoded):
            continue
        visited.add(position)
        try:
            directory = file.directory(position, left)
        except DirectoryDamaged:
            if position == file.first:
                raise
            continue
        left -= directory.count
        yield directory
        waiting.append(directory.following)
        waiting.extend(reversed([int(sub) for sub in directory.numbers(_SUB_DIRECTORIES, max_directories)]))
    if not visited:
        raise DirectoryDamaged("no directory")
