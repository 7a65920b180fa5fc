"""How many requests are let in: what would wait too long is refused at once, while a client can still go elsewhere.

Many clients that each wait for their answer fill a queue and never overflow it: for them it is long, and keeps the
machine busy. Requests that come at a rate of their own, faster than they can be answered, overflow any queue and then
wait in all of it for nothing: from the first refusal on it is short, until none was refused for a second.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service.errors import Overloaded

_MEMORY = 0.9  # of the moving average of the time between two answers
_RELIEF_S = 1.0  # without a refusal, after which the rush is over


class Admission:
    """A bounded number of places. For use by the event loop alone."""

    def __init__(self, places: int, pressed: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Open with all places free.

        Args:
            places: Requests that may be inside, computing or waiting for their turn.
            pressed: The same while more come than can be dealt with.
            clock: Tells the seconds.
        """
        self._places = places
        self._pressed = min(pressed, places)
        self._inside = 0
        self._clock = clock
        self._refused_at = -math.inf
        self._left_at: float | None = None
        self._gap = 0.0

    def require_room(self) -> None:
        """Refuse what would find no place, before its body is read.

        Raises:
            Overloaded: All places are taken.
        """
        now = self._clock()
        places = self._places if now - self._refused_at > _RELIEF_S else self._pressed
        if self._inside >= places:
            self._refused_at = now
            raise Overloaded("more requests come than can be dealt with", self._drained_in())

    @contextmanager
    def place(self, admitted: bool = False) -> Iterator[None]:
        """Hold a place.

        Args:
            admitted: Whether it is held in any case: of a stream that was let in before.

        Raises:
            Overloaded: All places are taken.
        """
        if not admitted:
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


class BodyBudget:
    """How many bytes of bodies may lie in memory, those that are still coming included. For the event loop alone."""

    def __init__(self, most_bytes: int) -> None:
        """Begin with none."""
        self._left = most_bytes

    @contextmanager
    def account(self) -> Iterator[Callable[[int], None]]:
        """Give a function that takes bytes, which are given back at the end of the block.

        Raises:
            Overloaded: The function raises it when there are too many.
        """
        taken = 0

        def take(count: int) -> None:
            nonlocal taken
            if count > self._left:
                raise Overloaded("the bodies of other requests fill the memory that they may have", 1)
            self._left -= count
            taken += count

        try:
            yield take
        finally:
            self._left += taken
