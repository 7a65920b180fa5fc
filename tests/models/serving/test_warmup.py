import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from models.alignment import TEMPLATES
from models.deadline import Deadline
from models.detection import DetectionOptions, canvases
from models.embedding import Embedder
from models.errors import InferenceFailed
from models.runtime.fake import FakeSession, fake_embedding
from models.runtime.session import Arrays, Images
from models.serving.warmup import DetectorWarmUp, warm_up
from tests.gates import GatedSession, until

OPTIONS = DetectionOptions()
SIZES = canvases(OPTIONS)


def embedder() -> Embedder:
    return Embedder(FakeSession(fake_embedding), TEMPLATES["arcface-112"])


class FailingSession(GatedSession):
    """A session that fails for one image size."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.gate.set()
        self._size = size

    def _run_bucket(self, images: Images) -> Arrays:
        if images.shape[1:3] == self._size:
            raise InferenceFailed("out of memory")
        return super()._run_bucket(images)


def test_every_size_is_run_once() -> None:
    detector = GatedSession()
    detector.gate.set()
    running = warm_up(detector, OPTIONS, embedder())
    running.wait()
    assert detector.batches == [(1, *size, 3) for size in SIZES]


def test_stopping_ends_the_thread_after_the_current_size() -> None:
    detector = GatedSession()
    running = DetectorWarmUp(detector, OPTIONS)
    assert detector.entered.acquire(timeout=10)
    with ThreadPoolExecutor(1) as other:
        stopped = other.submit(running.stop)
        until(running._stopping.is_set)
        assert not stopped.done()  # the current size still runs
        detector.gate.set()
        stopped.result(10)
    assert detector.batches == [(1, *SIZES[0], 3)]
    running.wait_ready()


class BlockedSession(GatedSession):
    """A session that waits for its gate at the third size only."""

    def run(self, images: Images, deadline: Deadline | None = None) -> Arrays:
        if images.shape[1:3] == SIZES[2]:
            return super().run(images, deadline)
        return FakeSession.run(self, images, deadline)


def test_readiness_does_not_wait_for_the_other_sizes() -> None:
    detector = BlockedSession()
    running = warm_up(detector, OPTIONS, embedder())
    assert detector.batches == []  # the third size is not finished, and the models are ready
    detector.gate.set()
    running.wait()
    assert detector.batches == [(1, *SIZES[2], 3)]


def test_a_size_of_the_readiness_probe_that_fails_ends_the_start() -> None:
    detector = FailingSession(SIZES[1])
    with pytest.raises(InferenceFailed, match="out of memory"):
        warm_up(detector, OPTIONS, embedder())
    assert len(detector.batches) == 2


def test_another_size_that_fails_is_left_to_its_first_request() -> None:
    detector = FailingSession(SIZES[2])
    warm_up(detector, OPTIONS, embedder()).wait()
    with pytest.raises(InferenceFailed):
        detector.run(np.zeros((1, *SIZES[2], 3), np.uint8))


def test_a_recognizer_that_fails_ends_the_start_and_the_thread() -> None:
    def fail(_: Images) -> Arrays:
        raise InferenceFailed("out of memory")

    broken = Embedder(FakeSession(fail), TEMPLATES["arcface-112"])
    detector = GatedSession()
    detector.gate.set()
    with pytest.raises(InferenceFailed):
        warm_up(detector, OPTIONS, broken)
    assert not [thread for thread in threading.enumerate() if thread.name == "warm-up"]
