"""Long lists of keys, in pieces that SQLite takes."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

_MOST = 900  # parameters of one statement; older builds of SQLite take 999

Key = TypeVar("Key")


def slices(keys: Sequence[Key]) -> Iterator[tuple[Sequence[Key], str]]:
    """Cut a list into pieces, each with as many question marks."""
    for start in range(0, len(keys), _MOST):
        some = keys[start : start + _MOST]
        yield some, ",".join("?" * len(some))
