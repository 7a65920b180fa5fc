"""How many requests are let in: what would wait too long is refused at once, while a client can still go elsewhere."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service.errors import Overloaded

_MEMORY = 0.9  # of the moving average of the time between two answers


class Admission:
    """A bounded number of places. For use by the event loop alone.

    Attributes:
        places: Requests that may be inside, computing or waiting for their turn.
    """

    def __init__(self, places: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Open with all places free."""
        self.places = places
        self._inside = 0
        self._clock = clock
        self._left_at: float | None = None
        self._gap = 0.0

    def require_room(self) -> None:
        """Refuse what would find no place, before its body is read.

        Raises:
            Overloaded: All places are taken.
        """
        if self._inside >= self.places:
            raise Overloaded(f"{self._inside} requests are being dealt with, which is all at once", self._drained_in())

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place.

        Raises:
            Overloaded: All places are taken.
        """
        self.require_room()
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            self._note_answer()

    def _note_answer(self) -> None:
        now = self._clock()
        if self._left_at is not None:
            self._gap = _MEMORY * self._gap + (1 - _MEMORY) * (now - self._left_at)
        self._left_at = now if self._inside else None  # the next gap would count time without work

    def _drained_in(self) -> int:
        """Return the whole seconds, at least 1, after which what is inside should be answered."""
        return max(1, math.ceil(self._gap * self._inside))
