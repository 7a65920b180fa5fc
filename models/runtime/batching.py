"""Dynamic batching: images of concurrent callers share the runs of one session.

A session has a number of workers, which run concurrently. If a worker is free and the queue is empty, a caller runs the
session at once in its own thread. Otherwise the caller queues. A worker's thread then takes the oldest entry and the
other entries of the same image size, up to the maximum batch, so batches grow while the workers are busy. A batch waits
for more entries only if the arrival rate makes them likely, and does not wait when requests are rare.

A caller with many images has a few batches in the queue at a time, just enough for all workers, so that other callers
wait for a few of its runs and not for all of them.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from models.deadline import Deadline
from models.errors import CancellationError, EngineStopped, InferenceFailed, VultusError
from models.runtime.arrivals import Arrivals
from models.runtime.session import Arrays, Images, Session, SessionDescription

RunObserver = Callable[[int, float, Sequence[Deadline | None]], None]
"""Called after each run with its number of images, its seconds and the deadlines of its callers, in its thread."""

_LAST_RUN_S = 5.0  # longer than any run of a working engine


@dataclass(frozen=True, slots=True)
class Batching:
    """How callers share runs.

    Attributes:
        largest: Maximum number of images of one run; larger runs are not faster, or exceed the memory.
        workers: Number of concurrent runs.
        wait_s: Maximum time that an entry waits for others, under a load that makes others likely.
    """

    largest: int = 8
    workers: int = 1
    wait_s: float = 0.002


@dataclass(slots=True, eq=False)
class _Entry:
    """Images of one caller, at most one batch."""

    images: Images
    deadline: Deadline | None
    arrived: float
    answer: Future[Arrays] = field(default_factory=Future)

    @property
    def size(self) -> tuple[int, ...]:
        """Shape (H, W, 3) of the images; entries of equal size can share a run."""
        return self.images.shape[1:]

    @property
    def active(self) -> bool:
        """Whether the caller still waits for the answer."""
        return self.deadline is None or self.deadline.active

    def await_answer(self) -> Arrays:
        """Wait for the answer until the deadline."""
        try:
            return self.answer.result(None if self.deadline is None else self.deadline.remaining_s)
        except TimeoutError:
            self.refuse()
            return self.answer.result()

    def succeed(self, arrays: Arrays) -> None:
        """Set the answer, unless the entry was answered before."""
        with suppress(InvalidStateError):
            self.answer.set_result(arrays)

    def fail(self, error: BaseException) -> None:
        """Set an error as the answer, unless the entry was answered before."""
        with suppress(InvalidStateError):
            self.answer.set_exception(error)

    def refuse(self) -> None:
        """Set the cancellation as the answer, if the request was cancelled or its deadline has passed."""
        try:
            if self.deadline is not None:
                self.deadline.check()
        except CancellationError as error:
            self.fail(error)


class RunProgress(NamedTuple):
    """The progress of a session.

    Attributes:
        completed_runs: Number of runs that ended since the start.
        busy: Whether a run is in progress or an entry waits for one.
    """

    completed_runs: int
    busy: bool


class BatchedSession:
    """A session that runs the images of several callers together. Thread-safe."""

    def __init__(
        self,
        session: Session,
        batching: Batching,
        clock: Callable[[], float] = time.monotonic,
        observe: RunObserver | None = None,
    ) -> None:
        """Start the workers.

        Args:
            session: The session that runs the batches; called by at most `workers` threads at once.
            batching: How callers share runs.
            clock: Monotonic clock in seconds.
            observe: Called after each run that succeeded; None for nobody.
        """
        self._session = session
        self._observe = observe
        self._batching = batching
        self._clock = clock
        self._queue: deque[_Entry] = deque()
        self._unqueued = 0  # batches of accepted calls that are not in the queue yet
        self._changed = threading.Condition()
        self._closing = False
        self._completed_runs = 0
        self._arrivals = Arrivals(batching.wait_s)
        self._alive_workers = self._free = batching.workers
        self._workers = [
            threading.Thread(target=self._worker, name=f"worker-{number}", daemon=True)
            for number in range(batching.workers)
        ]
        for worker in self._workers:
            worker.start()

    @property
    def alive(self) -> bool:
        """Whether every worker is alive and the session is open."""
        return self._alive_workers == self._batching.workers and not self._closing

    def progress(self) -> "RunProgress":
        """Return what was done so far, and whether there is more to do."""
        with self._changed:
            return RunProgress(
                self._completed_runs, bool(self._queue or self._unqueued) or self._free < self._alive_workers
            )

    def describe(self) -> SessionDescription:
        """See `Session.describe`."""
        return self._session.describe()

    def run(self, images: Images, deadline: Deadline | None = None) -> Arrays:
        """See `Session.run`.

        Raises:
            EngineStopped: The session is closed, or no worker is alive.
        """
        now, size = self._clock(), self._batching.largest
        batches = deque(images[start : start + size] for start in range(0, len(images) or 1, size))
        first = _Entry(batches[0], deadline, now)
        with self._changed:
            if self._closing or not self._alive_workers:
                raise EngineStopped("the engine has stopped and accepts no more work")
            self._arrivals.note(now, len(batches), alone=self._free == self._alive_workers and not self._queue)
            runs_now = len(batches) == 1 and self._free > 0 and not self._queue and not self._wait_limit_s(first)
            if runs_now:
                self._free -= 1
            else:
                self._unqueued += len(batches)
        if not runs_now:
            return self._run_queued(batches, deadline)
        self._run_worker([first])
        return first.await_answer()

    def _run_queued(self, batches: deque[Images], deadline: Deadline | None) -> Arrays:
        """Run the batches of an accepted call, of which one more than there are workers is queued or runs at a time."""
        entries: deque[_Entry] = deque()
        answers = []
        try:
            while batches or entries:
                self._enqueue(batches, entries, deadline)
                answers.append(entries.popleft().await_answer())
        finally:
            with self._changed:
                self._unqueued -= len(batches)  # of a call that failed
                self._changed.notify_all()
        return answers[0] if len(answers) == 1 else _joined(answers)

    def _enqueue(self, batches: deque[Images], entries: deque[_Entry], deadline: Deadline | None) -> None:
        with self._changed:
            while batches and len(entries) <= self._batching.workers:
                if not self._alive_workers:
                    raise EngineStopped("the engine has stopped and accepts no more work")
                entries.append(_Entry(batches.popleft(), deadline, self._clock()))
                self._queue.append(entries[-1])
                self._unqueued -= 1
            self._changed.notify_all()

    def close(self) -> None:
        """Accept no more work, finish the accepted work and end the workers. Does not wait for a run that hangs."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        end = time.monotonic() + _LAST_RUN_S
        for worker in self._workers:
            worker.join(max(0.0, end - time.monotonic()))

    def _worker(self) -> None:
        while batch := self._next_batch():
            if not self._run_worker(batch):
                return

    def _run_worker(self, batch: Sequence[_Entry]) -> bool:
        """Answer a batch on a worker reserved for it and free the worker. Return whether the worker is still alive."""
        try:
            self._answer(batch)
        except BaseException as error:  # after an unexpected error the engine cannot be trusted, so readiness must fail
            self._fail_worker(batch, error)
            return False
        with self._changed:
            self._free += 1
            self._completed_runs += 1
            if self._queue or self._closing:
                self._changed.notify_all()
        return True

    def _next_batch(self) -> list[_Entry]:
        """Wait for a batch and reserve a worker for it.

        Returns:
            The batch; empty if the session is closed and all work is done, or if no worker is alive.
        """
        with self._changed:
            while True:
                self._drop_cancelled()
                if not self._alive_workers or (self._closing and not self._queue and not self._unqueued):
                    self._changed.notify_all()  # wake the workers that wait for work, so that they end
                    return []
                if not self._queue or not self._free:
                    self._changed.wait()
                    continue
                oldest = self._queue[0]
                left = oldest.arrived + self._wait_limit_s(oldest) - self._clock()
                if left <= 0:
                    self._free -= 1
                    return self._take(oldest)
                self._changed.wait(left)

    def _wait_limit_s(self, oldest: _Entry) -> float:
        """Return the seconds that an entry should wait for other entries of its size."""
        if self._closing:
            return 0.0
        waiting = [entry for entry in self._queue if entry.size == oldest.size] or [oldest]
        room = self._batching.largest - sum(len(entry.images) for entry in waiting)
        return self._arrivals.wait_s(self._clock(), room)

    def _take(self, oldest: _Entry) -> list[_Entry]:
        batch: list[_Entry] = []
        count = 0
        for entry in list(self._queue):
            if entry.size == oldest.size and count + len(entry.images) <= self._batching.largest:
                batch.append(entry)
                count += len(entry.images)
                self._queue.remove(entry)
                if entry.deadline is not None:
                    entry.deadline.add("queue", (self._clock() - entry.arrived) * 1000)
        return batch

    def _drop_cancelled(self) -> None:
        for entry in [entry for entry in self._queue if not entry.active]:
            self._queue.remove(entry)
            entry.refuse()

    def _answer(self, batch: Sequence[_Entry]) -> None:
        images = batch[0].images if len(batch) == 1 else np.concatenate([entry.images for entry in batch])
        began = time.perf_counter()
        try:
            arrays = self._session.run(images)
            if self._observe is not None:
                self._observe(len(images), time.perf_counter() - began, [entry.deadline for entry in batch])
        except (VultusError, MemoryError) as error:
            if len(batch) == 1:
                failure = error if isinstance(error, VultusError) else InferenceFailed("not enough memory")
                batch[0].fail(failure)
                return
            for entry in batch:  # each entry alone, so that an image that fails affects only its own request
                self._answer([entry])
            return
        start = 0
        for entry in batch:
            stop = start + len(entry.images)
            entry.succeed(tuple(array[start:stop] for array in arrays))
            start = stop

    def _fail_worker(self, batch: Sequence[_Entry], error: BaseException) -> None:
        with self._changed:
            self._alive_workers -= 1
            queued = [] if self._alive_workers else list(self._queue)
            if not self._alive_workers:
                self._queue.clear()
            self._changed.notify_all()
        failure = InferenceFailed(f"a worker of the engine failed with {type(error).__name__}")
        failure.__cause__ = error  # the log shows the cause
        for entry in (*batch, *queued):
            entry.fail(failure)


def _joined(answers: Sequence[Arrays]) -> Arrays:
    return tuple(np.concatenate(parts) for parts in zip(*answers, strict=True))
