"""The interface between Vultus and an inference engine: one protocol, fixed batch sizes.

A graph takes uint8 RGB images `[N, H, W, 3]` and returns named float32 arrays with N as first axis. An engine keeps
memory for every shape that it has seen, so only batches of fixed sizes reach an engine. Batches of other sizes are
split or padded.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from models.deadline import Deadline
from models.errors import InferenceFailed

BATCH_BUCKETS = (32, 16, 8, 4, 2, 1)
GPU_BUCKETS = (128, 64, *BATCH_BUCKETS)  # a GPU is busy only with many images

_CROP_SIDE, _MOST_CROPS, _MOST_PHOTOS = 256, 128, 16

Engine = Literal["openvino", "onnxruntime", "onnxruntime-tensorrt", "tensorrt"]
EngineName = Literal[Engine, "fake"]
Device = Literal["cpu", "cuda"]
Precision = Literal["fp32", "tf32", "bf16", "fp16", "int8"]
Images = NDArray[np.uint8]
Arrays = tuple[NDArray[np.float32], ...]


@dataclass(frozen=True, slots=True)
class SessionDescription:
    """The actual configuration of a session, as reported by the engine.

    Attributes:
        engine: Name of the engine.
        version: Version of the engine.
        provider: The engine's name for the device it computes on, read from the loaded graph.
        precision: Precision of the arithmetic. fp16 and int8 are the types in the graph; layers without such a type run
            in the precision that the engine chooses. tf32 is the float32 graph with TensorFloat-32 products on a GPU.
        threads: Total number of threads of all runs; 0 on a device without CPU threads.
        streams: Number of concurrent runs, which share the threads.
    """

    engine: EngineName
    version: str
    provider: str
    precision: Precision
    threads: int
    streams: int = 1


class Session(Protocol):
    """A loaded graph. Thread-safe."""

    def run(self, images: Images, deadline: Deadline | None = None) -> Arrays:
        """Run the graph.

        Args:
            images: (N, H, W, 3) uint8, RGB, N at least 1.
            deadline: Deadline of the request that the images belong to, if any.

        Returns:
            The graph's outputs in the order given when the graph was loaded, float32, first axis N.

        Raises:
            InferenceFailed: The engine failed, or returned a number that is not finite.
            RequestCancelled: The client disconnected.
            DeadlineExceeded: The deadline has passed.
        """

    def describe(self) -> SessionDescription:
        """Return the actual configuration of this session."""


class BucketedSession(ABC):
    """A session that runs batches in fixed sizes.

    Batches are split by default: on a CPU the time grows with the batch, so five images cost less as 4 + 1 than as 8.
    On a GPU the time hardly grows, so a subclass may pad batches.
    """

    buckets: tuple[int, ...] = BATCH_BUCKETS  # largest first

    def run(self, images: Images, deadline: Deadline | None = None) -> Arrays:
        """See `Session.run`."""
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8 or not len(images):
            raise InferenceFailed(f"expected images as uint8 [N, H, W, 3], not {images.dtype} {list(images.shape)}")
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
            raise InferenceFailed(f"{self.describe().engine} returned numbers that are not finite")
        return arrays

    def _bucket(self, count: int) -> int:
        """Return the batch size of the next run for `count` images; a larger size is padded with black images."""
        return next(bucket for bucket in self.buckets if bucket <= count)

    @abstractmethod
    def _run_bucket(self, images: Images) -> Arrays:
        """Run a contiguous batch of one of the fixed sizes. The caller owns the returned arrays."""

    @abstractmethod
    def describe(self) -> SessionDescription:
        """See `Session.describe`."""


def padded_bucket(count: int, buckets: tuple[int, ...]) -> int:
    """Return the smallest fixed batch size that holds `count` images, or the largest size if none does."""
    return min((bucket for bucket in buckets if bucket >= count), default=max(buckets))


def gpu_buckets(sizes: tuple[tuple[int, int], ...]) -> tuple[int, ...]:
    """Return the batch sizes on a GPU for images of these (height, width): crops in large batches, photos in small."""
    largest = _MOST_CROPS if max(max(size) for size in sizes) <= _CROP_SIDE else _MOST_PHOTOS
    return tuple(bucket for bucket in GPU_BUCKETS if bucket <= largest)


def _padded(images: Images, size: int) -> Images:
    if len(images) >= size:
        return images
    filled = np.zeros((size, *images.shape[1:]), np.uint8)
    filled[: len(images)] = images
    return filled
