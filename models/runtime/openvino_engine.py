"""OpenVINO on the CPU, in bfloat16 if the processor supports it, else in float32."""

import threading
from pathlib import Path
from queue import LifoQueue

import numpy as np
import openvino as ov
from openvino import opset13

from models.errors import EngineMissing, InferenceFailed, PrecisionUnsupported
from models.runtime.instructions import bf16_is_disabled
from models.runtime.session import Arrays, BucketedSession, EngineName, Images, Precision, SessionDescription

ENGINE: EngineName = "openvino"


def has_bf16() -> bool:
    """Return whether this processor has bfloat16 arithmetic that is not disabled."""
    return not bf16_is_disabled() and "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVinoSession(BucketedSession):
    """A graph compiled once for each declared image size: the first size at loading, the others at their first run.

    A fixed image size lets the plugin choose better kernels than a dynamic size (YuNet at 640 x 640: 2.1 ms instead of
    2.6 ms). A dynamic batch costs a recognizer little and needs one copy of the weights. A detector has small weights
    and large images, so it is compiled for one image and runs a batch image by image.
    """

    def __init__(
        self,
        graph: Path,
        outputs: tuple[str, ...],
        sizes: tuple[tuple[int, int], ...],
        precision: Precision | None,
        threads: int,
        streams: int,
        single_image: bool,
    ) -> None:
        core = ov.Core()
        if "CPU" not in core.available_devices:
            raise EngineMissing("OpenVINO does not find its CPU plugin; reinstall the package `openvino`")
        if precision == "tf32":
            raise PrecisionUnsupported("tf32 is a precision of GPUs; on a CPU use fp32, bf16 or auto")
        if precision == "bf16" and not has_bf16():
            raise PrecisionUnsupported("this processor has no bfloat16 arithmetic; use the precision fp32 or auto")
        chosen: Precision = precision or ("bf16" if has_bf16() else "fp32")
        self._core, self._model, self._outputs = core, _read(core, graph), outputs
        self._config = {
            "NUM_STREAMS": streams,
            "INFERENCE_PRECISION_HINT": "bf16" if chosen == "bf16" else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,  # pinned threads of both models wait for one core while another idles
        }
        self._one_by_one = single_image
        if single_image:
            _convert_before_transposing(self._model)
        self._pools: dict[tuple[int, int], _RequestPool] = {}
        self._compiling = {size: threading.Lock() for size in sizes}
        compiled = self._pool(*sizes[0]).compiled
        self._description = SessionDescription(
            engine=ENGINE,
            version=ov.get_version().split("-")[0],
            provider=", ".join(compiled.get_property("EXECUTION_DEVICES")),
            precision=chosen if chosen in ("fp16", "int8") else _read_precision(compiled),
            threads=int(compiled.get_property("INFERENCE_NUM_THREADS")),
            streams=int(compiled.get_property("NUM_STREAMS")),
        )

    def describe(self) -> SessionDescription:
        """See `Session.describe`."""
        return self._description

    def _bucket(self, count: int) -> int:
        return 1 if self._one_by_one else super()._bucket(count)

    def _run_bucket(self, images: Images) -> Arrays:
        return self._pool(*images.shape[1:3]).run(images)

    def _pool(self, height: int, width: int) -> "_RequestPool":
        """Return the requests for an image size, which is compiled when it is first run."""
        lock = self._compiling.get((height, width))
        if lock is None:
            raise InferenceFailed(f"the graph was not loaded for images of {height} x {width}")
        with lock:
            pool = self._pools.get((height, width))
            if pool is None:
                pool = self._pools[height, width] = self._compile(height, width)
            return pool

    def _compile(self, height: int, width: int) -> "_RequestPool":
        try:
            model = self._model.clone()
            model.reshape([1 if self._one_by_one else -1, height, width, 3])
            return _RequestPool(self._core.compile_model(model, "CPU", self._config), self._outputs)
        except RuntimeError as error:
            raise InferenceFailed(f"OpenVINO could not compile the graph: {error}") from error


class _RequestPool:
    """Inference requests of one compiled graph, one for each concurrent run."""

    def __init__(self, compiled: ov.CompiledModel, outputs: tuple[str, ...]) -> None:
        self.compiled = compiled
        self._ports = [compiled.output(name) for name in outputs]
        self._free: LifoQueue[ov.InferRequest] = LifoQueue()
        for _ in range(int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))):
            self._free.put(compiled.create_infer_request())

    def run(self, images: Images) -> Arrays:
        """Run in the plugin's own thread.

        `infer` would run in the thread of the caller. On a busy machine, its work for the other threads then piles up
        in memory that is never released: 8 callers took 11 KB more at each run of YuNet.
        """
        request = self._free.get()
        try:
            request.start_async({0: images}, share_inputs=True)
            request.wait()
            # Copied, because the next run of the request overwrites its memory.
            return tuple(request.get_tensor(port).data.astype(np.float32) for port in self._ports)
        except RuntimeError as error:
            raise InferenceFailed(f"OpenVINO could not run the graph: {error}") from error
        finally:
            self._free.put(request)


def _read(core: ov.Core, graph: Path) -> ov.Model:
    try:
        return core.read_model(graph)
    except RuntimeError as error:  # several lines; the last one that says something names the operators
        lines = [line.strip(" -") for line in str(error).splitlines() if line.strip(" -")]
        raise InferenceFailed(f"OpenVINO could not read the graph: {lines[-1][:300]}") from error


def _convert_before_transposing(model: ov.Model) -> None:
    """Insert a ReLU after the conversion of the image to float, for a model that is compiled with fixed sizes.

    The ReLU changes no pixel, because pixels are not negative. Without it, the plugin transposes the bytes before it
    converts them, and transposes the floats back for its channels-last convolutions. With it, the two transpositions
    are adjacent and cancel out: YuNet at 640 x 640 on one thread takes 2.8 ms instead of 3.4 ms. With a dynamic batch
    both transpositions remain, and transposing floats is slower than transposing bytes.
    """
    for image in model.inputs:
        for conversion in (use.get_node() for use in image.get_target_inputs()):
            if conversion.get_type_name() == "Convert":
                uses = conversion.output(0).get_target_inputs()
                rectified = opset13.relu(conversion).output(0)
                for use in uses:
                    use.replace_source_output(rectified)


def _read_precision(compiled: ov.CompiledModel) -> Precision:
    return "bf16" if compiled.get_property("INFERENCE_PRECISION_HINT") == ov.Type.bf16 else "fp32"
