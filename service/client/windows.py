"""Windows of a stream of lines: each is a request of its own, of which several are on their way at once.

httpx sends the whole body of a request before it reads the response, and the service stops reading while its answers
are not read, so one request for a long stream would wait for ever: both sides would send, and neither read. A window
cannot: the service receives `MAX_BYTES` of a body whether or not its answers are read, and it answers a single longer
line only when the line is complete. Several windows at once keep the service as busy as one stream would, and a lost
connection costs the repetition of a window, not of the stream.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Entry = TypeVar("Entry")

MAX_BYTES = 2**16  # `HIGH_WATER_LIMIT` of uvicorn: more of a body is read from the connection only as it is used


@dataclass(frozen=True, slots=True)
class Window(Generic[Entry]):
    """What one request carries: entries of the stream, and their lines."""

    entries: tuple[Entry, ...]
    lines: tuple[bytes, ...]


class Windows(Generic[Entry]):
    """Gathers lines into windows."""

    def __init__(self) -> None:
        self._gathered: list[tuple[Entry, bytes]] = []
        self._size = 0

    def add(self, entry: Entry, line: bytes, idle: bool) -> Iterator[Window[Entry]]:
        """Add a line, and yield the windows that are complete.

        Args:
            entry: Entry of the stream.
            line: Its line.
            idle: Whether no window is on its way. A line does not wait for others then, so that a slow stream is
                answered at once, and a fast one has full windows (as in Nagle's algorithm, RFC 896).
        """
        if self._size + len(line) > MAX_BYTES:
            yield from self.rest()
        self._gathered.append((entry, line))
        self._size += len(line)
        if idle or self._size >= MAX_BYTES:
            yield from self.rest()

    def rest(self) -> Iterator[Window[Entry]]:
        """Yield the window of what is left, if there is any."""
        if self._gathered:
            entries, lines = zip(*self._gathered, strict=True)
            self._gathered, self._size = [], 0
            yield Window(entries, lines)
