"""The time limit of a request, its cancellation and the duration of its stages."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from models.errors import DeadlineExceeded, RequestCancelled


class Deadline:
    """Time limit and cancellation of one request, shared by its steps. Thread-safe.

    Each step checks the deadline first, so a cancelled or expired request ends at its next step.

    Attributes:
        stage_ms: Milliseconds by stage, summed over all photos of the request.
    """

    def __init__(self, limit_s: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Start the time limit.

        Args:
            limit_s: Time limit in seconds from now; None for no limit.
            clock: Clock that returns monotonic seconds.
        """
        self.stage_ms: dict[str, float] = {}
        self._limit_s = limit_s
        self._clock = clock
        self._end = None if limit_s is None else clock() + limit_s
        self._cancelled = False
        self._lock = threading.Lock()

    @property
    def remaining_s(self) -> float | None:
        """Remaining seconds, at least 0; None without a limit."""
        return None if self._end is None else max(0.0, self._end - self._clock())

    @property
    def active(self) -> bool:
        """Whether the request is neither cancelled nor out of time."""
        return not self._cancelled and self.remaining_s != 0

    def cancel(self) -> None:
        """Cancel the request because its client disconnected."""
        self._cancelled = True

    def check(self) -> None:
        """Raise an error if the request is cancelled or out of time.

        Raises:
            RequestCancelled: The client disconnected.
            DeadlineExceeded: The time limit is exceeded.
        """
        if self._cancelled:
            raise RequestCancelled("the client disconnected")
        if self.remaining_s == 0:
            raise self.exceeded()

    def exceeded(self) -> DeadlineExceeded:
        """Return the error of a request that exceeded its time limit."""
        return DeadlineExceeded(f"the request was not completed within {self._limit_s:g} s")

    def add(self, stage: str, milliseconds: float) -> None:
        """Add milliseconds to a stage."""
        with self._lock:
            self.stage_ms[stage] = self.stage_ms.get(stage, 0.0) + milliseconds

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Check the deadline, then add the duration of the enclosed block to a stage.

        Raises:
            RequestCancelled: The client disconnected before the block was entered.
            DeadlineExceeded: The time limit was exceeded before the block was entered.
        """
        self.check()
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, (time.perf_counter() - start) * 1000)
