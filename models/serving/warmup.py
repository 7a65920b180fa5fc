"""Warm-up: run the models before the first request, so that requests do not wait for compilation."""

import threading

import numpy as np

from models.alignment import align
from models.detection import DetectionOptions, canvases
from models.embedding import Embedder
from models.errors import VultusError
from models.imaging import load_decoders
from models.runtime import BATCH_BUCKETS, Session
from models.runtime.pool import members_of
from models.runtime.session import GPU_BUCKETS

_READINESS_SIZES = 2
_MAX_FACES = 8  # the first run of a larger batch adds little to its time


def warm_up(detector: Session, options: DetectionOptions, embedder: Embedder) -> "DetectorWarmUp":
    """Run both models until a readiness probe needs no compilation, and return the rest of the detector's warm-up.

    Raises:
        EngineError: A model cannot run.
    """
    running = DetectorWarmUp(detector, options)
    try:
        warm_up_embedder(embedder)
        running.wait_ready()
    except BaseException:
        running.stop()
        raise
    return running


def warm_up_embedder(embedder: Embedder) -> None:
    """Load the image decoders, and run the recognizer and the alignment once for each batch size."""
    load_decoders()
    template = embedder.template
    photo = np.zeros((template.height, template.width, 3), np.uint8)
    for count in (bucket for bucket in BATCH_BUCKETS if bucket <= _MAX_FACES):
        embedder.embed(align(photo, np.array([template.points] * count, np.float32), template))


def warm_up_gpus(recognizer: Session, crop: tuple[int, int], largest: int) -> None:
    """Run a recognizer on each of its GPUs once for each batch size, because kernels are chosen for each."""
    for member in members_of(recognizer):
        for count in (bucket for bucket in GPU_BUCKETS if bucket <= largest):
            member.run(np.zeros((count, *crop, 3), np.uint8))


class DetectorWarmUp:
    """A thread that runs a detector once for each image size.

    The two smallest sizes come first, because a readiness probe runs them. Compiling a size takes 0.1 to 0.3 seconds. A
    request for a size that is not compiled yet waits until that size is compiled.
    """

    def __init__(self, session: Session, options: DetectionOptions) -> None:
        """Start the thread."""
        self._session = session
        self._sizes = canvases(options)
        self._ready = threading.Event()
        self._stopping = threading.Event()
        self._error: VultusError | None = None
        self._thread = threading.Thread(target=self._run_all, name="warm-up")
        self._thread.start()

    def wait_ready(self) -> None:
        """Wait until the sizes that a readiness probe uses have run.

        Raises:
            EngineError: One of them could not be run.
        """
        self._ready.wait()
        if self._error is not None:
            raise self._error

    def wait(self) -> None:
        """Wait until every size has run."""
        self._thread.join()

    def stop(self) -> None:
        """End the thread after its current size."""
        self._stopping.set()
        self._thread.join()

    def _run_all(self) -> None:
        try:
            for number, (height, width) in enumerate(self._sizes):
                if self._stopping.is_set():
                    return
                for member in members_of(self._session):
                    member.run(np.zeros((1, height, width, 3), np.uint8))
                if number + 1 == _READINESS_SIZES:
                    self._ready.set()
        except VultusError as error:  # after the sizes of the probe: the first request for this size reports the error
            if not self._ready.is_set():
                self._error = error
        finally:
            self._ready.set()
