"""The seam between Vultus and an inference engine: one protocol, fixed batch sizes.

A graph takes uint8 RGB pictures `[N, H, W, 3]` and gives named float32 arrays whose first axis is N. Engines that see
ever new shapes keep memory for each of them, so only batches of fixed sizes reach an engine: a larger one is cut up.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from models.deadline import Deadline
from models.errors import InferenceFailed

BATCH_BUCKETS = (32, 16, 8, 4, 2, 1)

EngineName = Literal["openvino", "onnxruntime", "onnxruntime-tensorrt", "tensorrt", "fake"]
Device = Literal["cpu", "cuda"]
Precision = Literal["fp32", "bf16", "fp16", "int8"]
Images = NDArray[np.uint8]
Arrays = tuple[NDArray[np.float32], ...]


@dataclass(frozen=True, slots=True)
class SessionDescription:
    """What really runs, as the engine itself says.

    Attributes:
        engine: Name of the engine.
        version: Its version.
        provider: What the engine calls the device it computes on, read back from the loaded graph.
        precision: Of the arithmetic; of fp16 and int8 graphs what their types say, the rest as the engine likes.
        threads: Threads of all runs together; 0 where the device has none to count.
        streams: Runs side by side, which share the threads.
    """

    engine: EngineName
    version: str
    provider: str
    precision: Precision
    threads: int
    streams: int = 1


class Session(Protocol):
    """A loaded graph. Safe for use by several threads at once."""

    def run(self, images: Images, deadline: Deadline | None = None) -> Arrays:
        """Run the graph.

        Args:
            images: (N, H, W, 3) uint8, RGB, N at least 1.
            deadline: Whose work it is.

        Returns:
            The graph's outputs in the order in which they were named at loading, float32, first axis N.

        Raises:
            InferenceFailed: The engine refused, or gave a number that is not finite.
            RequestCancelled, DeadlineExceeded: Nobody waits for the answer any more.
        """

    def describe(self) -> SessionDescription:
        """Tell what really runs."""


class BucketedSession(ABC):
    """A session that runs batches in the fixed sizes of `BATCH_BUCKETS`.

    They are cut, not padded: on a CPU time grows with the batch, so 5 costs less as 4 + 1 than as 8. On a GPU it hardly
    does, and a session may pad.
    """

    def run(self, images: Images, deadline: Deadline | None = None) -> Arrays:
        """See `Session.run`."""
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8 or not len(images):
            raise InferenceFailed(f"a graph takes uint8 [N, H, W, 3], not {images.dtype} {list(images.shape)}")
        pieces, start = [], 0
        while start < len(images):
            if deadline is not None:
                deadline.check()
            size = self._bucket(len(images) - start)
            piece = images[start : start + size]
            arrays = self._run_bucket(np.ascontiguousarray(_padded(piece, size)))
            pieces.append(tuple(array[: len(piece)] for array in arrays))
            start += len(piece)
        arrays = pieces[0] if len(pieces) == 1 else tuple(np.concatenate(parts) for parts in zip(*pieces, strict=True))
        if not all(np.isfinite(array).all() for array in arrays):
            raise InferenceFailed(f"{self.describe().engine} gave numbers that are not finite")
        return arrays

    def _bucket(self, count: int) -> int:
        """Return the size of the next run for that many pictures; if it is larger, black ones fill it up."""
        return next(bucket for bucket in BATCH_BUCKETS if bucket <= count)

    @abstractmethod
    def _run_bucket(self, images: Images) -> Arrays:
        """Run a contiguous batch of one of the fixed sizes; the arrays returned belong to the caller."""

    @abstractmethod
    def describe(self) -> SessionDescription:
        """See `Session.describe`."""


def padded_bucket(count: int) -> int:
    """Return the smallest fixed size that holds so many pictures, the largest if none does."""
    return min((bucket for bucket in BATCH_BUCKETS if bucket >= count), default=max(BATCH_BUCKETS))


def _padded(images: Images, size: int) -> Images:
    if len(images) >= size:
        return images
    filled = np.zeros((size, *images.shape[1:]), np.uint8)
    filled[: len(images)] = images
    return filled
