"""The keys of erased rows, by which an erasure is applied to a backup that still has the rows.

Keys are numbers that are never reused, so they identify nobody once the rows are gone.
"""

import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.errors import ErasuresDamaged

_KINDS = ("galleries", "subjects", "templates")
_OPTIONAL = ("parted", "spared")  # left out if empty, as in the lists of earlier versions


@dataclass(frozen=True, slots=True)
class ErasedKeys:
    """The rows that an erasure removed.

    Attributes:
        galleries, subjects: Keys. Rows that depend on them are erased with them.
        templates: First and last keys of ranges of templates.
        parted: Keys of subjects whose templates were moved to others before. Templates that a backup still has there
            are not erased with them, and their data keys are not destroyed, because those templates need them.
        spared: First and last keys of ranges of templates that were moved from `subjects` to others before, and are
            not erased with them.
    """

    galleries: tuple[int, ...] = ()
    subjects: tuple[int, ...] = ()
    templates: tuple[tuple[int, int], ...] = ()
    parted: tuple[int, ...] = ()
    spared: tuple[tuple[int, int], ...] = ()

    def as_json(self) -> str:
        """Return the keys as a JSON object."""
        kinds = (*_KINDS, *(kind for kind in _OPTIONAL if getattr(self, kind)))
        return json.dumps({kind: getattr(self, kind) for kind in kinds}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "ErasedKeys":
        """Read what `as_json` returned."""
        found: dict[str, Any] = json.loads(text)
        galleries, subjects, templates = (found[kind] for kind in _KINDS)
        return cls(
            tuple(galleries),
            tuple(subjects),
            _ranges(templates),
            tuple(found.get("parted", ())),
            _ranges(found.get("spared", ())),
        )


@dataclass(frozen=True, slots=True)
class Erasure:
    """An erasure of a store.

    Attributes:
        store: Id of the store.
        number: Number of the erasure in its store.
        keys: The erased rows.
    """

    store: str
    number: int
    keys: ErasedKeys

    def line(self) -> str:
        """Return the line of a list of erasures: a checksum (CRC-32) and a JSON object."""
        text = f'{{"store":"{self.store}","erasure":{self.number},"keys":{self.keys.as_json()}}}'
        return f"{zlib.crc32(text.encode()):08x} {text}\n"


def read_line(line: str) -> Erasure:
    """Read a line of a list of erasures.

    Raises:
        ErasuresDamaged: The line is malformed, or its checksum is another one.
    """
    checksum, _, text = line.rstrip("\n").partition(" ")
    try:
        if int(checksum, 16) != zlib.crc32(text.encode()):
            raise ValueError
        found = json.loads(text)
        return Erasure(str(found["store"]), int(found["erasure"]), ErasedKeys.from_json(json.dumps(found["keys"])))
    except (ValueError, KeyError, TypeError) as error:
        raise ErasuresDamaged("a line of the list of erasures is damaged") from error


def read_list_file(path: Path) -> list[Erasure]:
    """Read a list of erasures; a missing file is an empty list.

    A last line without an end was never acknowledged and is ignored.

    Raises:
        ErasuresDamaged: A line is damaged.
        OSError: The file system refused the read.
    """
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(read_line(line.decode("utf-8", "replace")))
        except ErasuresDamaged as error:
            raise ErasuresDamaged(
                f"line {number} of {path} is damaged; replace the file by another copy of it, because without the line "
                "a restored backup would bring back who was erased"
            ) from error
    return found


def merged(*lists: Iterable[Erasure]) -> list[Erasure]:
    """Return the erasures of several lists, each once; those of a store are in the order of their numbers."""
    found = {erasure for erasures in lists for erasure in erasures}
    return sorted(found, key=lambda erasure: (erasure.store, erasure.number, erasure.line()))


def _ranges(found: Iterable[Sequence[int]]) -> tuple[tuple[int, int], ...]:
    return tuple((first, last) for first, last in found)


def in_ranges(keys: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return keys as the first and last keys of ranges, ascending."""
    ranges: list[tuple[int, int]] = []
    for key in sorted(keys):
        if ranges and key == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], key)
        else:
            ranges.append((key, key))
    return tuple(ranges)
