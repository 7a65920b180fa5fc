"""A piece of work on somebody's behalf: whether it is still wanted, and what it has cost so far."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from models.errors import DeadlineExceeded, JobAbandoned


class Job:
    """What the steps of one request share. Safe for use by several threads at once.

    Every step asks first whether the work is still wanted, so that what nobody waits for ends between two steps.

    Attributes:
        milliseconds: Spent by stage; several photos of one request add up.
    """

    def __init__(self, limit_s: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin.

        Args:
            limit_s: Seconds from now after which nobody waits any more; None for work that may take as long as it does.
            clock: Tells the seconds.
        """
        self.milliseconds: dict[str, float] = {}
        self._limit_s = limit_s
        self._clock = clock
        self._deadline = None if limit_s is None else clock() + limit_s
        self._abandoned = False
        self._lock = threading.Lock()

    @property
    def remaining_s(self) -> float | None:
        """Seconds until the deadline, not below 0; None if there is none."""
        return None if self._deadline is None else max(0.0, self._deadline - self._clock())

    @property
    def wanted(self) -> bool:
        """Whether somebody still waits for it."""
        return not self._abandoned and self.remaining_s != 0

    def abandon(self) -> None:
        """Note that whoever wanted it has left."""
        self._abandoned = True

    def require_wanted(self) -> None:
        """End work that nobody waits for.

        Raises:
            JobAbandoned: Whoever wanted it has left.
            DeadlineExceeded: The time that it was given is over.
        """
        if self._abandoned:
            raise JobAbandoned("whoever sent the request has left")
        if self.remaining_s == 0:
            raise self.late()

    def late(self) -> DeadlineExceeded:
        """Return the error of an answer that did not come in time."""
        return DeadlineExceeded(f"there was no answer within {self._limit_s:g} s")

    def add(self, stage: str, milliseconds: float) -> None:
        """Add time to a stage."""
        with self._lock:
            self.milliseconds[stage] = self.milliseconds.get(stage, 0.0) + milliseconds

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the time of the enclosed block, which is not entered if nobody waits for it.

        Raises:
            JobAbandoned, DeadlineExceeded: As `require_wanted`.
        """
        self.require_wanted()
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, (time.perf_counter() - start) * 1000)
