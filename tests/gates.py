"""A fake session that waits for the test, so that the order of events is deterministic."""

import threading
import time
from collections.abc import Callable

import numpy as np

from models.deadline import Deadline
from models.runtime.fake import FakeSession
from models.runtime.session import Arrays, Images


class GatedSession(FakeSession):
    """A session that runs only while its gate is open and records its batches.

    By default it returns the first pixel of each image.

    Attributes:
        gate: Event that opens the gate.
        entered: Semaphore that is released at the start of each run.
        batches: Shapes of the batches that were run.
        first_pixels: First value of each batch that was run.
    """

    def __init__(self, answer: Callable[[Images], Arrays] | None = None) -> None:
        super().__init__(answer or (lambda image: (np.asarray(image[0, 0], np.float32),)))
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.batches: list[tuple[int, ...]] = []
        self.first_pixels: list[int] = []

    def run(self, images: Images, deadline: Deadline | None = None) -> Arrays:
        self.entered.release()
        assert self.gate.wait(10)
        self.batches.append(images.shape)
        self.first_pixels.append(int(images[0, 0, 0, 0]))
        return super().run(images, deadline)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "the condition was not met within 10 s"
        time.sleep(0.001)
