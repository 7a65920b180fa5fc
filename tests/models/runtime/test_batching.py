"""Each caller receives the answers to its own images, also in a shared run, and no request waits needlessly."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest

from models.deadline import Deadline
from models.errors import DeadlineExceeded, EngineStopped, InferenceFailed, RequestCancelled
from models.runtime.arrivals import Arrivals
from models.runtime.batching import BatchedSession, Batching, _Entry
from models.runtime.fake import FakeSession
from models.runtime.session import Arrays, Images
from tests.gates import GatedSession, until


def images_of(*numbers: int, side: int = 2) -> Images:
    images = np.zeros((len(numbers), side, side, 3), np.uint8)
    for image, number in zip(images, numbers, strict=True):
        image[0, 0] = number % 251, number // 251, side
    return images


def numbers_of(answer: Arrays) -> list[int]:
    return [int(row[0]) + 251 * int(row[1]) for row in answer[0]]


@contextmanager
def batched(session: FakeSession, **options: float) -> Iterator[BatchedSession]:
    shared = BatchedSession(session, Batching(**{"wait_s": 0.0, **options}))  # type: ignore[arg-type]
    try:
        yield shared
    finally:
        if isinstance(session, GatedSession):
            session.gate.set()
        shared.close()


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(64) as pool:
        yield pool


def queued(shared: BatchedSession, count: int) -> None:
    """Wait until that many entries are in the queue."""
    until(lambda: len(shared._queue) == count)


def test_thousands_of_interleaved_requests_each_receive_their_own_answer(callers: ThreadPoolExecutor) -> None:
    rng = np.random.default_rng(0)
    session = FakeSession(lambda image: (np.asarray(image[0, 0], np.float32), np.asarray(image.sum(), np.float32)))
    sizes = []
    run = session.run

    def spy(images: Images, deadline: Deadline | None = None) -> Arrays:
        sizes.append(len(images))
        time.sleep(0.0002)  # so that more requests arrive during a run
        return run(images, deadline)

    session.run = spy  # type: ignore[method-assign]
    requests = [
        ([int(number) for number in rng.integers(0, 60_000, rng.integers(1, 12))], int(rng.integers(2, 5)))
        for _ in range(4000)
    ]
    with batched(session, largest=8, workers=3) as shared:
        answers = list(callers.map(lambda sent: shared.run(images_of(*sent[0], side=sent[1]), Deadline(30)), requests))
    for (numbers, side), answer in zip(requests, answers, strict=True):
        assert numbers_of(answer) == numbers
        np.testing.assert_array_equal(answer[1], images_of(*numbers, side=side).sum(axis=(1, 2, 3)))
    assert max(sizes) <= 8
    assert sum(sizes) == sum(len(numbers) for numbers, _ in requests)


def test_entries_queued_behind_a_busy_worker_share_runs_by_image_size(callers: ThreadPoolExecutor) -> None:
    session = GatedSession()
    with batched(session, largest=4) as shared:
        first = callers.submit(shared.run, images_of(1))
        session.entered.acquire()
        others = []
        for place, (number, side) in enumerate([(2, 2), (3, 3), (4, 2), (5, 3), (6, 2), (7, 2), (8, 2)]):
            others.append(callers.submit(shared.run, images_of(number, side=side)))
            queued(shared, place + 1)
        session.gate.set()
        assert [numbers_of(future.result()) for future in (first, *others)] == [[n] for n in range(1, 9)]
    assert session.batches == [(1, 2, 2, 3), (4, 2, 2, 3), (2, 3, 3, 3), (1, 2, 2, 3)]


def test_a_small_request_waits_for_a_few_runs_of_large_requests_only(callers: ThreadPoolExecutor) -> None:
    session = GatedSession()
    with batched(session, largest=4) as shared:
        large = [callers.submit(shared.run, images_of(*range(40)))]
        session.entered.acquire()
        queued(shared, 1)
        large.append(callers.submit(shared.run, images_of(*range(100, 140))))
        queued(shared, 3)
        small = callers.submit(shared.run, images_of(99))
        queued(shared, 4)
        session.gate.set()
        assert numbers_of(small.result()) == [99]
        assert [numbers_of(future.result()) for future in large] == [list(range(40)), list(range(100, 140))]
    assert session.first_pixels[:5] == [0, 4, 100, 104, 99]
    assert [shape[0] for shape in session.batches] == [4, 4, 4, 4, 1] + [4] * 16


def test_a_large_request_occupies_all_workers(callers: ThreadPoolExecutor) -> None:
    session = GatedSession()
    with batched(session, largest=4, workers=3) as shared:
        large = callers.submit(shared.run, images_of(*range(60)))
        for _ in range(3):
            assert session.entered.acquire(timeout=5)
        queued(shared, 1)  # so that no worker is idle until the caller has fetched an answer
        session.gate.set()
        assert numbers_of(large.result()) == list(range(60))


def test_closing_completes_an_accepted_large_request(callers: ThreadPoolExecutor) -> None:
    session = GatedSession()
    with batched(session, largest=4) as shared:
        large = callers.submit(shared.run, images_of(*range(40)))
        session.entered.acquire()
        closing = callers.submit(shared.close)
        until(lambda: not shared.alive)
        session.gate.set()
        closing.result(5)
        assert numbers_of(large.result()) == list(range(40))
        assert not any(worker.is_alive() for worker in shared._workers)


def test_closing_ends_after_a_large_request_failed(callers: ThreadPoolExecutor) -> None:
    def refuse(_: Images) -> Arrays:
        raise InferenceFailed("not finite")

    session = GatedSession(refuse)
    with batched(session, largest=4) as shared:
        large = callers.submit(shared.run, images_of(*range(40)))
        session.gate.set()
        with pytest.raises(InferenceFailed, match="not finite"):
            large.result(5)
        shared.close()
        assert not any(worker.is_alive() for worker in shared._workers)
        assert len(session.batches) <= 2, "batches of a failed call were run"


def test_a_cancelled_request_is_dropped_before_it_is_computed(callers: ThreadPoolExecutor) -> None:
    session, gone = GatedSession(), Deadline()
    with batched(session) as shared:
        first = callers.submit(shared.run, images_of(1))
        session.entered.acquire()
        left = callers.submit(shared.run, images_of(2), gone)
        stays = callers.submit(shared.run, images_of(3))
        queued(shared, 2)
        gone.cancel()
        session.gate.set()
        with pytest.raises(RequestCancelled):
            left.result()
        assert numbers_of(first.result()) == [1]
        assert numbers_of(stays.result()) == [3]
    assert [shape[0] for shape in session.batches] == [1, 1]


def test_a_deadline_expires_while_waiting(callers: ThreadPoolExecutor) -> None:
    session = GatedSession()
    with batched(session) as shared:
        running = callers.submit(shared.run, images_of(1))
        session.entered.acquire()
        waiting = callers.submit(shared.run, images_of(2), Deadline(0.05))
        with pytest.raises(DeadlineExceeded, match=r"within 0\.05 s"):
            waiting.result(5)
        session.gate.set()
        assert numbers_of(running.result()) == [1]
        assert numbers_of(shared.run(images_of(3))) == [3]
    assert [shape[0] for shape in session.batches] == [1, 1]  # the second request was never computed


def test_a_late_answer_does_not_affect_other_requests(callers: ThreadPoolExecutor) -> None:
    session = GatedSession()
    with batched(session, largest=1) as shared:
        first = callers.submit(shared.run, images_of(1, 1))  # two entries, so that a worker thread runs them
        session.entered.acquire()
        late = callers.submit(shared.run, images_of(2, 2), Deadline(0.2))
        with pytest.raises(DeadlineExceeded):
            late.result(5)
        session.gate.set()
        assert numbers_of(first.result()) == [1, 1]
        assert numbers_of(shared.run(images_of(3))) == [3]
        assert shared.alive


def test_an_image_that_the_engine_fails_on_fails_only_its_request(callers: ThreadPoolExecutor) -> None:
    class Picky(GatedSession):
        def run(self, images: Images, deadline: Deadline | None = None) -> Arrays:
            answer = super().run(images, deadline)
            if 13 in numbers_of(answer):
                raise InferenceFailed("13 is not finite")
            return answer

    session = Picky()
    with batched(session) as shared:
        first = callers.submit(shared.run, images_of(1))
        session.entered.acquire()
        others = [callers.submit(shared.run, images_of(number)) for number in (12, 13, 14)]
        queued(shared, 3)
        session.gate.set()
        assert numbers_of(first.result()) == [1]
        assert numbers_of(others[0].result()) == [12]
        assert numbers_of(others[2].result()) == [14]
        with pytest.raises(InferenceFailed, match="13 is not finite"):
            others[1].result()
        assert shared.alive


def test_a_worker_that_dies_fails_only_its_own_requests(callers: ThreadPoolExecutor) -> None:
    class Deadly(GatedSession):
        def run(self, images: Images, deadline: Deadline | None = None) -> Arrays:
            answer = super().run(images, deadline)
            if 13 in numbers_of(answer):
                raise SystemError("the engine is broken")
            return answer

    session = Deadly()
    with batched(session, workers=2, largest=1) as shared:
        assert shared.alive
        session.gate.set()
        with pytest.raises(InferenceFailed, match="failed with SystemError"):
            shared.run(images_of(13))
        until(lambda: not shared.alive)
        assert numbers_of(shared.run(images_of(5))) == [5]  # the other worker continues
        session.gate.clear()
        last = callers.submit(shared.run, images_of(13))
        session.entered.acquire()
        queued_behind = callers.submit(shared.run, images_of(6))
        queued(shared, 1)
        session.gate.set()
        for lost in (last, queued_behind):
            with pytest.raises(InferenceFailed):
                lost.result(5)
        with pytest.raises(EngineStopped):
            shared.run(images_of(7))


def test_closing_answers_accepted_requests_and_refuses_new_ones(callers: ThreadPoolExecutor) -> None:
    session = GatedSession()
    with batched(session) as shared:
        accepted: list[Future[Arrays]] = [callers.submit(shared.run, images_of(1))]
        session.entered.acquire()
        accepted += [callers.submit(shared.run, images_of(number)) for number in (2, 3)]
        queued(shared, 2)
        closing = callers.submit(shared.close)
        until(lambda: not shared.alive)
        with pytest.raises(EngineStopped):
            shared.run(images_of(4))
        session.gate.set()
        closing.result(5)
        assert [numbers_of(future.result()) for future in accepted] == [[1], [2], [3]]


def test_closing_ends_when_the_last_runs_end_in_callers_threads(callers: ThreadPoolExecutor) -> None:
    session = GatedSession()
    with batched(session, workers=2) as shared:
        direct = [callers.submit(shared.run, images_of(number)) for number in (1, 2)]
        for _ in direct:
            session.entered.acquire()
        queued_behind = callers.submit(shared.run, images_of(3))
        queued(shared, 1)
        closing = callers.submit(shared.close)
        until(lambda: not shared.alive)
        session.gate.set()
        closing.result(5)
        assert [numbers_of(future.result()) for future in (*direct, queued_behind)] == [[1], [2], [3]]
        assert not any(worker.is_alive() for worker in shared._workers)


def test_closing_does_not_wait_for_more_entries(callers: ThreadPoolExecutor) -> None:
    session = GatedSession()
    with batched(session, largest=1000, workers=2, wait_s=8.0) as shared:
        running = callers.submit(shared.run, images_of(1))
        session.entered.acquire()
        shared._arrivals._gap = 0.1  # ten arrivals per second justify a wait of seconds
        shared._arrivals._last = time.monotonic()
        waiting = callers.submit(shared.run, images_of(2))
        queued(shared, 1)
        session.gate.set()
        start = time.monotonic()
        shared.close()
        assert [numbers_of(future.result()) for future in (running, waiting)] == [[1], [2]]
        assert time.monotonic() - start < 4


def test_a_new_request_does_not_overtake_the_queue() -> None:
    session = GatedSession()
    with batched(session, largest=1, wait_s=0.3) as shared:
        for _ in range(40):  # frequent arrivals, so that a batch waits for more
            shared._arrivals.note(time.monotonic(), 1)
            time.sleep(0.002)
        session.gate.set()
        shared._queue.append(waiting := _Entry(images_of(1), None, time.monotonic()))
        assert numbers_of(shared.run(images_of(2))) == [2]
        assert waiting.answer.done()
    assert [shape[0] for shape in session.batches] == [1, 1]
    assert session.first_pixels == [1, 2]


def test_a_batch_that_does_not_fit_into_memory_is_run_one_by_one(callers: ThreadPoolExecutor) -> None:
    class Small(GatedSession):
        def run(self, images: Images, deadline: Deadline | None = None) -> Arrays:
            answer = super().run(images, deadline)
            if len(images) > 1 or numbers_of(answer) == [13]:
                raise MemoryError
            return answer

    session = Small()
    with batched(session) as shared:
        first = callers.submit(shared.run, images_of(1))
        session.entered.acquire()
        others = [callers.submit(shared.run, images_of(number)) for number in (12, 13)]
        queued(shared, 2)
        session.gate.set()
        assert numbers_of(first.result()) == [1]
        assert numbers_of(others[0].result()) == [12]
        with pytest.raises(InferenceFailed, match="not enough memory"):
            others[1].result()
        assert shared.alive


def test_the_deadline_records_the_time_in_the_queue(callers: ThreadPoolExecutor) -> None:
    session, deadline = GatedSession(), Deadline()
    with batched(session) as shared:
        first = callers.submit(shared.run, images_of(1))
        session.entered.acquire()
        waiting = callers.submit(shared.run, images_of(2), deadline)
        queued(shared, 1)
        time.sleep(0.02)
        session.gate.set()
        first.result()
        waiting.result()
    assert 20 <= deadline.stage_ms["queue"] < 5000


def test_waits_for_more_entries_only_at_a_high_arrival_rate() -> None:
    longest = 0.002
    arrivals = Arrivals(longest)
    assert arrivals.wait_s(0.0, 7) == 0  # no arrival yet
    now = 10.0
    arrivals.note(now, 1)
    assert arrivals.wait_s(now, 7) == 0  # a single arrival has no rate
    for _ in range(50):
        now += 0.0002
        arrivals.note(now, 1)
    assert arrivals.wait_s(now, 7) == pytest.approx(0.0014, rel=0.05)
    assert arrivals.wait_s(now, 100) == longest
    assert arrivals.wait_s(now, 0) == 0  # the batch is full
    assert arrivals.wait_s(now + 0.01, 7) == 0  # arrivals have stopped
    for _ in range(30):
        now += 0.05
        arrivals.note(now, 1)
    assert arrivals.wait_s(now, 7) == 0  # one arrival per 50 ms: the next comes too late
    now += 3600
    for _ in range(12):  # after an idle hour, a dozen arrivals are enough
        now += 0.0002
        arrivals.note(now, 1)
    assert arrivals.wait_s(now, 7) > 0
    for _ in range(30):
        now += 0.0002
        arrivals.note(now, 1, alone=True)
    assert arrivals.wait_s(now, 7) == 0  # a single client that sends one request after another
    together = Arrivals(longest)
    for _ in range(30):
        now += 0.004
        together.note(now, 4)  # four at once count as one arrival per millisecond
    assert together.wait_s(now, 1) == pytest.approx(0.001, rel=0.05)


def test_a_single_request_does_not_wait() -> None:
    session = FakeSession(lambda image: (np.asarray(image[0, 0], np.float32),))
    with batched(session, wait_s=5.0) as shared:
        start = time.monotonic()
        for _ in range(30):
            shared.run(images_of(1))
        assert time.monotonic() - start < 1


def test_closing_does_not_wait_for_an_engine_that_hangs(
    callers: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.runtime.batching._LAST_RUN_S", 0.05)
    session = GatedSession()
    with batched(session) as shared:
        hangs = callers.submit(shared.run, images_of(1))
        session.entered.acquire()
        waits = callers.submit(shared.run, images_of(2))
        queued(shared, 1)
        shared.close()
        assert not hangs.done()
        session.gate.set()
        assert [numbers_of(future.result()) for future in (hangs, waits)] == [[1], [2]]
