"""TensorRT engines built for this GPU by `vultus engine`: pinned memory, one upload of uint8 crops per batch.

The module uses TensorRT 10.16, and the CUDA runtime of the package `cuda-bindings`.
An engine runs any batch size up to the maximum of its profile, so smaller batches are neither split nor padded.
"""

import ctypes
import importlib
import weakref
from pathlib import Path
from queue import LifoQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.artefact.digests import file_digest
from models.errors import EngineMissing, InferenceFailed
from models.runtime.engine_files import EngineKey, verified_engine
from models.runtime.gpu import find_gpu
from models.runtime.session import Arrays, BucketedSession, EngineName, Images, Precision, SessionDescription

ENGINE: EngineName = "tensorrt"

_PROFILE = 0
_NOT_BLOCKING = 1  # cudaStreamNonBlocking in driver_types.h: the stream does not wait for the default stream


def load_cuda() -> Any:
    """Import the CUDA runtime.

    Raises:
        EngineMissing: The package `cuda-bindings` is not installed, or its libraries cannot be loaded.
    """
    try:
        return importlib.import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise EngineMissing(f"TensorRT engines require the package `cuda-bindings`: {error}") from error


def select_gpu(cuda: Any, gpu: int) -> None:
    """Select the GPU on which the calling thread builds and loads engines.

    Raises:
        EngineMissing: The GPU cannot be used.
    """
    try:
        _value(cuda.cudaSetDevice(gpu))
    except InferenceFailed as error:
        raise EngineMissing(f"GPU {gpu} cannot be used: {error}") from error


class TensorRtSession(BucketedSession):
    """An engine with one execution context for each concurrent run."""

    def __init__(
        self,
        engines: Path,
        graph: Path,
        outputs: tuple[str, ...],
        precision: Precision,
        streams: int,
        gpu: int,
        trt: Any,
        cuda: Any,
    ) -> None:
        """Load the engine of a graph.

        Args:
            engines: Directory of engines.
            graph: ONNX file that the engine was built from.
            outputs: Names of the outputs to return.
            precision: Precision that the engine was built for.
            streams: Number of concurrent runs.
            gpu: Number of the GPU.
            trt: The module `tensorrt`.
            cuda: The module `cuda.bindings.runtime`.

        Raises:
            EngineMissing: No engine was built for this graph and machine, TensorRT cannot load it, or the GPU has not
                enough memory.
        """
        engine = verified_engine(engines, EngineKey(find_gpu(gpu), str(trt.__version__), file_digest(graph), precision))
        self._cuda, self._gpu = cuda, gpu
        select_gpu(cuda, gpu)
        try:
            runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
        except TypeError as error:  # the bindings raise it when the library returns no object
            raise EngineMissing("TensorRT does not start on this GPU; its log above gives the reason") from error
        plan = runtime.deserialize_cuda_engine(engine.read_bytes())
        if plan is None:
            raise EngineMissing(f"TensorRT {trt.__version__} cannot load {engine.name}; rebuild it: vultus engine")
        self._runtime = runtime  # the runtime must outlive the engine
        largest = tuple(plan.get_tensor_profile_shape("faces", _PROFILE)[2])
        self.largest, self._image_shape = int(largest[0]), tuple(int(side) for side in largest[1:])
        shapes = {name: tuple(int(size) for size in plan.get_tensor_shape(name)[1:]) for name in outputs}
        self._free: LifoQueue[_ExecutionContext] = LifoQueue()
        try:
            for _ in range(streams):
                self._free.put(_ExecutionContext(plan, cuda, (self.largest, *self._image_shape), shapes))
        except InferenceFailed as error:
            raise EngineMissing(f"{engine.name} cannot run on this GPU: {error}") from error
        self._description = SessionDescription(ENGINE, str(trt.__version__), "GPU", precision, 0, streams)

    def describe(self) -> SessionDescription:
        """See `Session.describe`."""
        return self._description

    def _bucket(self, count: int) -> int:
        return min(count, self.largest)

    def _run_bucket(self, images: Images) -> Arrays:
        if images.shape[1:] != self._image_shape:
            raise InferenceFailed(f"the engine was not built for images of {images.shape[1]} x {images.shape[2]}")
        _value(self._cuda.cudaSetDevice(self._gpu))  # of the calling thread
        context = self._free.get()
        try:
            return context.run(images)
        finally:
            self._free.put(context)


class _Buffer:
    """An array in pinned host memory and its copy on the GPU. Both are freed with the object."""

    def __init__(self, cuda: Any, shape: tuple[int, ...], kind: np.dtype[Any]) -> None:
        size = int(np.prod(shape)) * kind.itemsize
        self.pinned = int(_value(cuda.cudaHostAlloc(size, cuda.cudaHostAllocDefault)))
        weakref.finalize(self, cuda.cudaFreeHost, self.pinned)
        self.address = int(_value(cuda.cudaMalloc(size)))
        weakref.finalize(self, cuda.cudaFree, self.address)
        memory = memoryview((ctypes.c_uint8 * size).from_address(self.pinned))
        self.host: NDArray[Any] = np.frombuffer(memory, kind).reshape(shape)


class _ExecutionContext:
    """A TensorRT execution context with its CUDA stream and buffers for the largest batch."""

    def __init__(
        self, plan: Any, cuda: Any, input_shape: tuple[int, ...], output_shapes: dict[str, tuple[int, ...]]
    ) -> None:
        self._cuda = cuda
        self._context = plan.create_execution_context()
        if self._context is None:
            raise InferenceFailed("not enough GPU memory for an execution context")
        self._stream = _value(cuda.cudaStreamCreateWithFlags(_NOT_BLOCKING))
        weakref.finalize(self, cuda.cudaStreamDestroy, self._stream)
        self._input = _Buffer(cuda, input_shape, np.dtype(np.uint8))
        self._outputs = [
            _Buffer(cuda, (input_shape[0], *shape), np.dtype(np.float32)) for shape in output_shapes.values()
        ]
        for name, buffer in zip(("faces", *output_shapes), (self._input, *self._outputs), strict=True):
            self._context.set_tensor_address(name, buffer.address)

    def run(self, images: Images) -> Arrays:
        """Upload the images, run the engine and download the outputs. The caller owns the returned arrays."""
        try:
            return self._run(images)
        except InferenceFailed:
            self._cuda.cudaStreamSynchronize(self._stream)  # pending copies must end before the next batch
            raise

    def _run(self, images: Images) -> Arrays:
        count, cuda, stream = len(images), self._cuda, self._stream
        up, down = cuda.cudaMemcpyKind.cudaMemcpyHostToDevice, cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        source = self._input
        source.host[:count] = images
        _value(cuda.cudaMemcpyAsync(source.address, source.pinned, images.nbytes, up, stream))
        if not self._context.set_input_shape("faces", images.shape):
            raise InferenceFailed(f"the engine does not support a batch of {count} faces")
        if not self._context.execute_async_v3(int(stream)):
            raise InferenceFailed("TensorRT could not run the engine; see its log")
        for target in self._outputs:
            _value(cuda.cudaMemcpyAsync(target.pinned, target.address, target.host[:count].nbytes, down, stream))
        _value(cuda.cudaStreamSynchronize(stream))
        return tuple(target.host[:count].copy() for target in self._outputs)


def _value(returned: tuple[Any, ...]) -> Any:
    """Check the error code that a CUDA runtime function returned and return its value, or None.

    Raises:
        InferenceFailed: The code is not success.
    """
    code, *values = returned
    if int(code):
        raise InferenceFailed(f"CUDA failed with error {int(code)}")
    return values[0] if values else None
