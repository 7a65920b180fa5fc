"""The time limit of a request, its cancellation, and the time that its stages took."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from models.errors import DeadlineExceeded, RequestCancelled


class Deadline:
    """Shared by the steps of one request. Safe for use by several threads at once.

    Each step checks it first, so work that nobody waits for ends at the next step.

    Attributes:
        stage_ms: Milliseconds by stage; those of several photos add up.
    """

    def __init__(self, limit_s: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Start the time limit.

        Args:
            limit_s: Seconds from now; None for work without a limit.
            clock: Returns monotonic seconds.
        """
        self.stage_ms: dict[str, float] = {}
        self._limit_s = limit_s
        self._clock = clock
        self._end = None if limit_s is None else clock() + limit_s
        self._cancelled = False
        self._lock = threading.Lock()

    @property
    def remaining_s(self) -> float | None:
        """Seconds left, not below 0; None without a limit."""
        return None if self._end is None else max(0.0, self._end - self._clock())

    @property
    def active(self) -> bool:
        """Whether the request was not cancelled and has time left."""
        return not self._cancelled and self.remaining_s != 0

    def cancel(self) -> None:
        """Note that the client has left."""
        self._cancelled = True

    def check(self) -> None:
        """End the work of a request that nobody waits for.

        Raises:
            RequestCancelled: The client has left.
            DeadlineExceeded: No time is left.
        """
        if self._cancelled:
            raise RequestCancelled("the client has left")
        if self.remaining_s == 0:
            raise self.exceeded()

    def exceeded(self) -> DeadlineExceeded:
        """Return the error of a request that ran out of time."""
        return DeadlineExceeded(f"there was no answer within {self._limit_s:g} s")

    def add(self, stage: str, milliseconds: float) -> None:
        """Add time to a stage."""
        with self._lock:
            self.stage_ms[stage] = self.stage_ms.get(stage, 0.0) + milliseconds

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Check the deadline, then add the time of the enclosed block to a stage.

        Raises:
            RequestCancelled, DeadlineExceeded: As `check`; the block is not entered.
        """
        self.check()
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, (time.perf_counter() - start) * 1000)
