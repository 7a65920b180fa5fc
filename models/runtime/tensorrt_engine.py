"""TensorRT engines that `vultus engine` built for this GPU: pinned memory, one upload of uint8 crops for each batch.

The calls are those that TensorRT 10.16 and 11.4 have in common, and of CUDA's runtime those of the package
`cuda-bindings`. An engine runs any number of faces that its profile allows, so batches are neither cut nor padded.
"""

import ctypes
import importlib
import weakref
from pathlib import Path
from queue import LifoQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import EngineMissing, InferenceFailed
from models.runtime.session import Arrays, BucketedSession, EngineName, Images, Precision, SessionDescription

ENGINE: EngineName = "tensorrt"

_PROFILE = 0
_NOT_BLOCKING = 1  # cudaStreamNonBlocking of driver_types.h: such a stream does not wait for the default one


def load_cuda() -> Any:
    """Import CUDA's runtime.

    Raises:
        EngineMissing: It is not installed, or its libraries are not.
    """
    try:
        return importlib.import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise EngineMissing(f"the package `cuda-bindings` is needed for TensorRT engines: {error}") from error


class TensorRtSession(BucketedSession):
    """An engine with as many execution contexts as runs are made side by side."""

    def __init__(
        self, engine: Path, outputs: tuple[str, ...], precision: Precision, streams: int, trt: Any, cuda: Any
    ) -> None:
        """Load an engine.

        Args:
            engine: File, built for this GPU and this version of TensorRT.
            outputs: Names of the outputs wanted.
            precision: Of the graph that it was built from.
            streams: Runs side by side.
            trt: The module `tensorrt`.
            cuda: The module `cuda.bindings.runtime`.

        Raises:
            EngineMissing: TensorRT does not take the file, or the GPU has no memory left.
        """
        runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
        plan = runtime.deserialize_cuda_engine(engine.read_bytes())
        if plan is None:
            raise EngineMissing(f"TensorRT {trt.__version__} does not take {engine.name}; build it anew: vultus engine")
        self._runtime = runtime  # an engine must not outlive it
        largest = tuple(plan.get_tensor_profile_shape("faces", _PROFILE)[2])
        self.largest, self._picture = int(largest[0]), tuple(int(side) for side in largest[1:])
        shapes = {name: tuple(int(size) for size in plan.get_tensor_shape(name)[1:]) for name in outputs}
        self._lanes: LifoQueue[_Lane] = LifoQueue()
        try:
            for _ in range(streams):
                self._lanes.put(_Lane(plan, cuda, (self.largest, *self._picture), shapes))
        except InferenceFailed as error:
            raise EngineMissing(f"{engine.name} cannot be run on this GPU: {error}") from error
        self._description = SessionDescription(ENGINE, str(trt.__version__), "GPU", precision, 0, streams)

    def describe(self) -> SessionDescription:
        """See `Session.describe`."""
        return self._description

    def _bucket(self, count: int) -> int:
        return min(count, self.largest)

    def _run_bucket(self, images: Images) -> Arrays:
        if images.shape[1:] != self._picture:
            raise InferenceFailed(f"the engine was not built for pictures of {images.shape[1]} x {images.shape[2]}")
        lane = self._lanes.get()
        try:
            return lane.run(images)
        finally:
            self._lanes.put(lane)


class _Buffer:
    """The same array twice: in pinned memory of the host, and on the GPU. Freed with its object."""

    def __init__(self, cuda: Any, shape: tuple[int, ...], kind: np.dtype[Any]) -> None:
        size = int(np.prod(shape)) * kind.itemsize
        self.pinned = int(_value(cuda.cudaHostAlloc(size, cuda.cudaHostAllocDefault)))
        weakref.finalize(self, cuda.cudaFreeHost, self.pinned)
        self.address = int(_value(cuda.cudaMalloc(size)))
        weakref.finalize(self, cuda.cudaFree, self.address)
        memory = memoryview((ctypes.c_uint8 * size).from_address(self.pinned))
        self.host: NDArray[Any] = np.frombuffer(memory, kind).reshape(shape)


class _Lane:
    """An execution context, its CUDA stream and buffers for the largest batch."""

    def __init__(
        self, plan: Any, cuda: Any, input_shape: tuple[int, ...], output_shapes: dict[str, tuple[int, ...]]
    ) -> None:
        self._cuda = cuda
        self._context = plan.create_execution_context()
        if self._context is None:
            raise InferenceFailed("TensorRT has no memory for an execution context")
        self._stream = _value(cuda.cudaStreamCreateWithFlags(_NOT_BLOCKING))
        weakref.finalize(self, cuda.cudaStreamDestroy, self._stream)
        self._input = _Buffer(cuda, input_shape, np.dtype(np.uint8))
        self._outputs = [
            _Buffer(cuda, (input_shape[0], *shape), np.dtype(np.float32)) for shape in output_shapes.values()
        ]
        for name, buffer in zip(("faces", *output_shapes), (self._input, *self._outputs), strict=True):
            self._context.set_tensor_address(name, buffer.address)

    def run(self, images: Images) -> Arrays:
        """Upload, run, download; the arrays returned belong to the caller."""
        try:
            return self._run(images)
        except InferenceFailed:
            self._cuda.cudaStreamSynchronize(self._stream)  # nothing must still be copied when the next batch is
            raise

    def _run(self, images: Images) -> Arrays:
        count, cuda, stream = len(images), self._cuda, self._stream
        up, down = cuda.cudaMemcpyKind.cudaMemcpyHostToDevice, cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        source = self._input
        source.host[:count] = images
        _value(cuda.cudaMemcpyAsync(source.address, source.pinned, images.nbytes, up, stream))
        if not self._context.set_input_shape("faces", images.shape):
            raise InferenceFailed(f"the engine does not take {count} faces")
        if not self._context.execute_async_v3(int(stream)):
            raise InferenceFailed("TensorRT could not run the engine; its log says why")
        for target in self._outputs:
            _value(cuda.cudaMemcpyAsync(target.pinned, target.address, target.host[:count].nbytes, down, stream))
        _value(cuda.cudaStreamSynchronize(stream))
        return tuple(target.host[:count].copy() for target in self._outputs)


def _value(answer: tuple[Any, ...]) -> Any:
    """Take what a function of CUDA's runtime gives beside its error code.

    Raises:
        InferenceFailed: The code is none of success.
    """
    code, *values = answer
    if int(code):
        raise InferenceFailed(f"CUDA failed with error {int(code)}")
    return values[0] if values else None
