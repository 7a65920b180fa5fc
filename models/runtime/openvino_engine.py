"""OpenVINO on the CPU: bfloat16 where the processor has it, float32 elsewhere."""

from pathlib import Path
from queue import LifoQueue

import numpy as np
import openvino as ov
from openvino import opset13

from models.errors import EngineMissing, InferenceFailed, PrecisionUnsupported
from models.runtime.session import Arrays, BucketedSession, EngineName, Images, Precision, SessionDescription

ENGINE: EngineName = "openvino"


def has_bf16() -> bool:
    """Tell whether this processor has bfloat16 arithmetic."""
    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVinoSession(BucketedSession):
    """A graph compiled for each picture size that was declared.

    A fixed picture size lets the plugin choose better kernels than a free one (YuNet at 640 x 640: 2.1 against 2.6 ms).
    A free batch costs a recognizer little and keeps one copy of its weights; a detector, whose weights are small and
    whose pictures are large, is compiled for one picture and takes a batch one by one.
    """

    def __init__(
        self,
        graph: Path,
        outputs: tuple[str, ...],
        sizes: tuple[tuple[int, int], ...],
        precision: Precision | None,
        threads: int,
        streams: int,
        one_by_one: bool,
    ) -> None:
        core = ov.Core()
        if "CPU" not in core.available_devices:
            raise EngineMissing("OpenVINO finds no CPU plugin; reinstall the package `openvino`")
        if precision == "bf16" and not has_bf16():
            raise PrecisionUnsupported(
                "this processor has no bfloat16 arithmetic; use fp32 or leave the choice to auto"
            )
        chosen: Precision = precision or ("bf16" if has_bf16() else "fp32")
        config = {
            "NUM_STREAMS": streams,
            "INFERENCE_PRECISION_HINT": "bf16" if chosen == "bf16" else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,  # pinned, detector and recognizer queue for one core while another idles
        }
        self._one_by_one = one_by_one
        self._pools: dict[tuple[int, int], _RequestPool] = {}
        for height, width in sizes:
            model = core.read_model(graph)
            if one_by_one:
                _convert_before_transposing(model)
            model.reshape([1 if one_by_one else -1, height, width, 3])
            compiled = core.compile_model(model, "CPU", config)
            self._pools[height, width] = _RequestPool(compiled, outputs)
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
        pool = self._pools.get(images.shape[1:3])
        if pool is None:
            raise InferenceFailed(f"the graph was not loaded for pictures of {images.shape[1]} x {images.shape[2]}")
        return pool.run(images)


class _RequestPool:
    """Inference requests of one compiled graph, as many as it runs side by side."""

    def __init__(self, compiled: ov.CompiledModel, outputs: tuple[str, ...]) -> None:
        self._ports = [compiled.output(name) for name in outputs]
        self._free: LifoQueue[ov.InferRequest] = LifoQueue()
        for _ in range(int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))):
            self._free.put(compiled.create_infer_request())

    def run(self, images: Images) -> Arrays:
        request = self._free.get()
        try:
            request.infer({0: images}, share_inputs=True)
            # Copied: the request's own memory is written again by its next run.
            return tuple(request.get_tensor(port).data.astype(np.float32) for port in self._ports)
        except RuntimeError as error:
            raise InferenceFailed(f"OpenVINO could not run the graph: {error}") from error
        finally:
            self._free.put(request)


def _convert_before_transposing(model: ov.Model) -> None:
    """Put a ReLU, which changes no pixel, behind the conversion of the picture; all sizes must be fixed.

    The plugin would transpose the bytes first and convert them then, and as its convolutions want channels last it
    would transpose all of it back. Behind the ReLU the two transpositions meet and vanish: YuNet at 640 x 640, one
    thread, 2.8 ms instead of 3.4. With a free batch they stay, and are slower for numbers than for bytes.
    """
    for picture in model.inputs:
        for conversion in (use.get_node() for use in picture.get_target_inputs()):
            if conversion.get_type_name() == "Convert":
                uses = conversion.output(0).get_target_inputs()
                rectified = opset13.relu(conversion).output(0)
                for use in uses:
                    use.replace_source_output(rectified)


def _read_precision(compiled: ov.CompiledModel) -> Precision:
    return "bf16" if compiled.get_property("INFERENCE_PRECISION_HINT") == ov.Type.bf16 else "fp32"
