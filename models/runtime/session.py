"""The seam between Vultus and an inference engine: one protocol, fixed batch sizes.

A graph takes uint8 RGB pictures `[N, H, W, 3]` and gives named float32 arrays whose first axis is N. Engines that see
ever new shapes keep memory for each of them, so only batches of fixed sizes reach an engine: a larger one is cut up.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from models.errors import InferenceFailed
from models.job import Job

BATCH_BUCKETS = (32, 16, 8, 4, 2, 1)

EngineName = Literal["openvino", "onnxruntime", "fake"]
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

    def run(self, images: Images, job: Job | None = None) -> Arrays:
        """Run the graph.

        Args:
            images: (N, H, W, 3) uint8, RGB, N at least 1.
            job: Whose work it is.

        Returns:
            The graph's outputs in the order in which they were named at loading, float32, first axis N.

        Raises:
            InferenceFailed: The engine refused, or gave a number that is not finite.
            JobAbandoned, DeadlineExceeded: Nobody waits for the answer any more.
        """

    def describe(self) -> SessionDescription:
        """Tell what really runs."""


class BucketedSession(ABC):
    """A session that cuts batches into the fixed sizes of `BATCH_BUCKETS`.

    Cut, not padded: on a CPU time grows with the batch, so 5 costs less as 4 + 1 than as 8.
    """

    def run(self, images: Images, job: Job | None = None) -> Arrays:
        """See `Session.run`."""
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8 or not len(images):
            raise InferenceFailed(f"a graph takes uint8 [N, H, W, 3], not {images.dtype} {list(images.shape)}")
        pieces, start = [], 0
        while start < len(images):
            if job is not None:
                job.require_wanted()
            size = next(bucket for bucket in BATCH_BUCKETS if bucket <= len(images) - start)
            pieces.append(self._run_bucket(np.ascontiguousarray(images[start : start + size])))
            start += size
        arrays = pieces[0] if len(pieces) == 1 else tuple(np.concatenate(parts) for parts in zip(*pieces, strict=True))
        if not all(np.isfinite(array).all() for array in arrays):
            raise InferenceFailed(f"{self.describe().engine} gave numbers that are not finite")
        return arrays

    @abstractmethod
    def _run_bucket(self, images: Images) -> Arrays:
        """Run a contiguous batch of one of the fixed sizes; the arrays returned belong to the caller."""

    @abstractmethod
    def describe(self) -> SessionDescription:
        """See `Session.describe`."""
