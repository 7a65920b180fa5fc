"""An engine that waits until a test lets it run, so that what happens meanwhile happens for sure."""

import threading
import time
from collections.abc import Callable

import numpy as np

from models.deadline import Deadline
from models.runtime.fake import FakeSession
from models.runtime.session import Arrays, Images


class GatedSession(FakeSession):
    """Answers, by default with the first pixel of each picture, once its gate is open; keeps what it ran."""

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
        assert time.monotonic() < end, "it did not happen within 10 s"
        time.sleep(0.001)
