"""The time limit of a request, its cancellation and the duration of its stages."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from models.errors import DeadlineExceeded, RequestCancelled


class StageObserver(Protocol):
    """Learns of the stages of a request. Thread-safe."""

    def stage(self, name: str, milliseconds: float) -> None:
        """Note a stage that has just ended."""


class Deadline:
    """Time limit and cancellation of one request, shared by its steps. Thread-safe.

    Each step checks the deadline first, so a cancelled or expired request ends at its next step. `settle` precedes a
    change that cannot be taken back. From then on, the request neither expires nor is cancelled, so that its answer
    reports the change.

    Attributes:
        stage_ms: Milliseconds by stage, summed over all photos of the request.
        observer: Learns of each stage; None for nobody.
    """

    def __init__(
        self,
        limit_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        observer: StageObserver | None = None,
    ) -> None:
        """Start the time limit.

        Args:
            limit_s: Time limit in seconds from now; None for no limit.
            clock: Clock that returns monotonic seconds.
            observer: Learns of each stage; None for nobody.
        """
        self.observer = observer
        self.stage_ms: dict[str, float] = {}
        self._limit_s = limit_s
        self._clock = clock
        self._end = None if limit_s is None else clock() + limit_s
        self._cancelled = False
        self._expired = False
        self._settled = False
        self._lock = threading.Lock()

    @property
    def remaining_s(self) -> float | None:
        """Remaining seconds, at least 0; None without a limit."""
        return None if self._end is None else max(0.0, self._end - self._clock())

    @property
    def active(self) -> bool:
        """Whether the request is neither cancelled nor out of time."""
        return self._settled or not (self._cancelled or self._expired or self.remaining_s == 0)

    def cancel(self) -> None:
        """Cancel the request because its client disconnected."""
        self._cancelled = True

    def check(self) -> None:
        """Raise an error if the request is cancelled or out of time.

        Raises:
            RequestCancelled: The client disconnected.
            DeadlineExceeded: The time limit is exceeded.
        """
        if self.active:
            return
        raise RequestCancelled("the client disconnected") if self._cancelled else self.exceeded()

    def settle(self) -> None:
        """Check the deadline for the last time, immediately before a change that cannot be taken back.

        Raises:
            RequestCancelled: The client disconnected.
            DeadlineExceeded: The time limit is exceeded, or `expire` was called.
        """
        with self._lock:
            self.check()
            self._settled = True

    def expire(self) -> bool:
        """End the request because its time limit is exceeded, unless it is settled.

        Returns:
            Whether the request has ended. If not, its change has begun, and the caller must wait for the outcome.
        """
        with self._lock:
            self._expired = not self._settled
            return self._expired

    def exceeded(self) -> DeadlineExceeded:
        """Return the error of a request that exceeded its time limit."""
        return DeadlineExceeded(f"the request was not completed within {self._limit_s:g} s")

    def add(self, stage: str, milliseconds: float) -> None:
        """Add milliseconds to a stage, which has just ended."""
        with self._lock:
            self.stage_ms[stage] = self.stage_ms.get(stage, 0.0) + milliseconds
        if self.observer is not None:
            self.observer.stage(stage, milliseconds)

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
