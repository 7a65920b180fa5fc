"""Slices of long key lists, each short enough for one SQL statement."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

_MAX_PARAMETERS = 900  # of one statement; older builds of SQLite accept 999

Key = TypeVar("Key")


def slices(keys: Sequence[Key]) -> Iterator[tuple[Sequence[Key], str]]:
    """Split a list into slices, each with its comma-separated SQL placeholders."""
    for start in range(0, len(keys), _MAX_PARAMETERS):
        part = keys[start : start + _MAX_PARAMETERS]
        yield part, ",".join("?" * len(part))
