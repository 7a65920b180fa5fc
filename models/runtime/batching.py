"""Dynamic batching: images of concurrent callers share the runs of one session.

A session has a number of workers, which run side by side. A caller that finds a worker free and the queue empty runs at
once, in its own thread. Otherwise it queues; a worker's thread then takes the oldest entry and the others of the same
image size, up to the maximum batch, so batches grow while the workers are busy. A batch waits for more entries only
while the rate of arrivals promises some, and not at all when requests are rare.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from models.deadline import Deadline
from models.errors import CancellationError, EngineStopped, InferenceFailed, VultusError
from models.runtime.arrivals import Arrivals
from models.runtime.session import Arrays, Images, Session, SessionDescription

_LAST_RUN_S = 5.0  # longer than any run of an engine that works


@dataclass(frozen=True, slots=True)
class Batching:
    """How runs are shared.

    Attributes:
        largest: Most pictures of one run; more do not pay, or do not fit.
        workers: Runs side by side.
        wait_s: Longest wait for company, under a load that promises it.
    """

    largest: int = 8
    workers: int = 1
    wait_s: float = 0.002


@dataclass(slots=True, eq=False)
class _Entry:
    """Pictures of one caller, at most a batch."""

    images: Images
    deadline: Deadline | None
    arrived: float
    answer: Future[Arrays] = field(default_factory=Future)

    @property
    def size(self) -> tuple[int, ...]:
        """Entries of one size can share a run."""
        return self.images.shape[1:]

    @property
    def active(self) -> bool:
        """Whether somebody still waits for the answer."""
        return self.deadline is None or self.deadline.active

    def await_answer(self) -> Arrays:
        """Wait for the answer, no longer than the deadline may take."""
        try:
            return self.answer.result(None if self.deadline is None else self.deadline.remaining_s)
        except TimeoutError:
            self.refuse()
            return self.answer.result()

    def succeed(self, arrays: Arrays) -> None:
        """Answer, unless that came too late."""
        with suppress(InvalidStateError):
            self.answer.set_result(arrays)

    def fail(self, error: BaseException) -> None:
        """Answer with an error, unless there is an answer."""
        with suppress(InvalidStateError):
            self.answer.set_exception(error)

    def refuse(self) -> None:
        """Answer with the reason for which it is not wanted any more."""
        try:
            if self.deadline is not None:
                self.deadline.check()
        except CancellationError as error:
            self.fail(error)


class BatchedSession:
    """A session whose runs are shared by its callers. Safe for use by several threads at once."""

    def __init__(self, session: Session, batching: Batching, clock: Callable[[], float] = time.monotonic) -> None:
        """Start the workers.

        Args:
            session: What runs; called by as many threads at once as there are workers.
            batching: How runs are shared.
            clock: Tells the seconds.
        """
        self._session = session
        self._batching = batching
        self._clock = clock
        self._queue: deque[_Entry] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._arrivals = Arrivals(batching.wait_s)
        self._living = self._free = batching.workers
        self._workers = [
            threading.Thread(target=self._worker, name=f"worker-{number}", daemon=True)
            for number in range(batching.workers)
        ]
        for worker in self._workers:
            worker.start()

    @property
    def alive(self) -> bool:
        """Whether every worker still lives."""
        return self._living == self._batching.workers and not self._closing

    def describe(self) -> SessionDescription:
        """See `Session.describe`."""
        return self._session.describe()

    def run(self, images: Images, deadline: Deadline | None = None) -> Arrays:
        """See `Session.run`.

        Raises:
            EngineStopped: No worker lives any more.
        """
        now, most = self._clock(), self._batching.largest
        entries = [_Entry(images[start : start + most], deadline, now) for start in range(0, len(images) or 1, most)]
        with self._changed:
            if self._closing or not self._living:
                raise EngineStopped("the engine has stopped; it takes no more work")
            self._arrivals.note(now, len(entries), lone=self._free == self._living and not self._queue)
            alone = len(entries) == 1 and self._free > 0 and not self._queue and not self._patience(entries[0])
            if alone:
                self._free -= 1
            else:
                self._queue.extend(entries)
                self._changed.notify_all()
        if alone:
            self._run_worker(entries)
        answers = [entry.await_answer() for entry in entries]
        return answers[0] if len(answers) == 1 else _joined(answers)

    def close(self) -> None:
        """Take no more work, finish what was taken, and end the workers; a run that hangs is not waited for."""
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
        """Answer a batch on a worker that was taken for it, and free the worker; tell whether it lives."""
        try:
            self._answer(batch)
        except BaseException as error:  # whatever it was, the engine cannot be trusted: readiness must know
            self._die(batch, error)
            return False
        with self._changed:
            self._free += 1
            if self._queue or self._closing:
                self._changed.notify_all()
        return True

    def _next_batch(self) -> list[_Entry]:
        """Wait for work and a free worker, take both; nothing when closed and all is done, or no worker is left."""
        with self._changed:
            while True:
                self._drop_unwanted()
                if not self._living or (self._closing and not self._queue):
                    self._changed.notify_all()  # the other workers may be waiting for work that will not come
                    return []
                if not self._queue or not self._free:
                    self._changed.wait()
                    continue
                oldest = self._queue[0]
                left = oldest.arrived + self._patience(oldest) - self._clock()
                if left <= 0:
                    self._free -= 1
                    return self._take(oldest)
                self._changed.wait(left)

    def _patience(self, oldest: _Entry) -> float:
        """Return the seconds that an entry should wait for others of its size."""
        if self._closing:
            return 0.0
        waiting = [entry for entry in self._queue if entry.size == oldest.size] or [oldest]
        room = self._batching.largest - sum(len(entry.images) for entry in waiting)
        return self._arrivals.patience(self._clock(), room)

    def _take(self, oldest: _Entry) -> list[_Entry]:
        batch: list[_Entry] = []
        pictures = 0
        for entry in list(self._queue):
            if entry.size == oldest.size and pictures + len(entry.images) <= self._batching.largest:
                batch.append(entry)
                pictures += len(entry.images)
                self._queue.remove(entry)
                if entry.deadline is not None:
                    entry.deadline.add("queue", (self._clock() - entry.arrived) * 1000)
        return batch

    def _drop_unwanted(self) -> None:
        for entry in [entry for entry in self._queue if not entry.active]:
            self._queue.remove(entry)
            entry.refuse()

    def _answer(self, batch: Sequence[_Entry]) -> None:
        images = batch[0].images if len(batch) == 1 else np.concatenate([entry.images for entry in batch])
        try:
            arrays = self._session.run(images)
        except (VultusError, MemoryError) as error:
            if len(batch) == 1:
                own = error if isinstance(error, VultusError) else InferenceFailed("there is not enough memory")
                batch[0].fail(own)
                return
            for entry in batch:  # alone, so that a picture that the engine fails on fails its own request only
                self._answer([entry])
            return
        start = 0
        for entry in batch:
            stop = start + len(entry.images)
            entry.succeed(tuple(array[start:stop] for array in arrays))
            start = stop

    def _die(self, batch: Sequence[_Entry], error: BaseException) -> None:
        with self._changed:
            self._living -= 1
            orphans = [] if self._living else list(self._queue)
            if not self._living:
                self._queue.clear()
            self._changed.notify_all()
        failure = InferenceFailed(f"the thread that ran the engine died of {type(error).__name__}")
        failure.__cause__ = error  # for the log
        for entry in (*batch, *orphans):
            entry.fail(failure)


def _joined(answers: Sequence[Arrays]) -> Arrays:
    return tuple(np.concatenate(parts) for parts in zip(*answers, strict=True))
