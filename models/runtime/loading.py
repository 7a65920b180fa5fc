"""Choose an engine and load a graph into it. A requested engine that is missing is an error, without a fallback."""

import os
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from models.errors import EngineConflict, EngineMissing
from models.runtime.gpu import find_gpus, load_tensorrt
from models.runtime.pool import SessionPool
from models.runtime.session import Device, Engine, Precision, Session

TENSORRT_ENGINES = ("onnxruntime-tensorrt", "tensorrt")

_ONNXRUNTIME_BUILDS = {"onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino"}


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """How graphs run.

    Attributes:
        engine: `auto` selects OpenVINO on the CPU and ONNX Runtime on CUDA. With `onnxruntime-tensorrt`, ONNX Runtime
            builds TensorRT engines at the first start; `tensorrt` runs the engines built by `vultus engine`.
        device: Device that computes.
        precision: `auto` selects bf16 if engine and processor support it, else fp32. `fp16` and `int8` require a graph
            of that type. `tf32` runs the float32 graph on a GPU.
        threads: Total number of CPU threads of all runs; 0 uses all cores available to this process.
        streams: Number of concurrent runs, which share the threads. One stream has the lowest latency for a single
            request; one stream per thread has the least waiting between threads. 0 means one.
        engines: Directory of the TensorRT engines of this machine.
        gpus: Numbers of the GPUs that compute on the device cuda, in the order of the driver; empty for all.
        optimum: Batch size for which ONNX Runtime lets TensorRT choose kernels.
    """

    engine: Literal["auto", Engine] = "auto"
    device: Device = "cpu"
    precision: Literal["auto", Precision] = "auto"
    threads: int = 0
    streams: int = 0
    engines: Path | None = None
    gpus: tuple[int, ...] = (0,)
    optimum: int = 32


def usable_cores() -> int:
    """Return the number of cores available to this process."""
    return len(os.sched_getaffinity(0))


def open_session(
    graph: Path,
    outputs: tuple[str, ...],
    sizes: tuple[tuple[int, int], ...],
    options: RuntimeOptions,
    *,
    single_image: bool = False,
) -> Session:
    """Load a graph, on each of the chosen GPUs.

    Args:
        graph: ONNX file that follows the contract of `models.graph`; `tensorrt` runs the engine built from it.
        outputs: Names of the outputs, in the order in which `run` returns them.
        sizes: (height, width) of every image size that will be run; `run` refuses other sizes.
        options: How to run the graph.
        single_image: Optimise for one image per run, if that makes the engine faster. Batches are still accepted.

    Raises:
        EngineMissing: The engine is not installed, cannot start, or does not support the device.
        EngineConflict: Two builds of ONNX Runtime are installed.
        PrecisionUnsupported: The engine or the processor does not support the precision.
    """
    _refuse_two_builds()
    engine = _choose(options)
    sessions = [_open_on(gpu, engine, graph, outputs, sizes, options, single_image) for gpu in chosen_gpus(options)]
    return sessions[0] if len(sessions) == 1 else SessionPool(sessions)


def chosen_gpus(options: RuntimeOptions) -> tuple[int, ...]:
    """Return the numbers of the GPUs on which a graph is loaded; one number that has no meaning on a CPU.

    Raises:
        EngineMissing: All GPUs are requested, and there is no driver or no GPU.
    """
    if options.device == "cpu":
        return (0,)
    return options.gpus or tuple(range(len(find_gpus())))


def _open_on(
    gpu: int,
    engine: Engine,
    graph: Path,
    outputs: tuple[str, ...],
    sizes: tuple[tuple[int, int], ...],
    options: RuntimeOptions,
    single_image: bool,
) -> Session:
    precision: Precision | None = None if options.precision == "auto" else options.precision
    threads, streams = options.threads or usable_cores(), options.streams or 1
    engines = options.engines or graph.parent
    if engine == "tensorrt":
        from models.runtime.tensorrt_engine import TensorRtSession, load_cuda

        trt = load_tensorrt()
        return TensorRtSession(engines, graph, outputs, precision or "fp32", streams, gpu, trt, load_cuda())
    package = "onnxruntime" if engine == "onnxruntime-tensorrt" else engine
    if find_spec(package) is None:
        raise EngineMissing(f"{package} is not installed; install Vultus with one of the extras `cpu` and `gpu`")
    if engine == "openvino":  # imported on use, because every engine is optional
        from models.runtime.openvino_engine import OpenVinoSession

        return OpenVinoSession(graph, outputs, sizes, precision, threads, streams, single_image)
    from models.runtime.onnxruntime_engine import OrtSession, TensorRtBuild

    build = TensorRtBuild(engines, options.optimum) if engine == "onnxruntime-tensorrt" else None
    return OrtSession(graph, outputs, sizes, precision, threads, streams, options.device, gpu, build)


def cpu_options(precision: Precision, threads: int = 0) -> list[RuntimeOptions]:
    """List the options with which this machine's CPU can run a graph in a precision."""
    options: list[RuntimeOptions] = []
    if precision == "tf32":
        return options
    if find_spec("onnxruntime") is not None and precision != "bf16":
        options.append(RuntimeOptions("onnxruntime", precision=precision, threads=threads))
    if find_spec("openvino") is not None:
        from models.runtime.openvino_engine import has_bf16

        if precision != "bf16" or has_bf16():
            options.append(RuntimeOptions("openvino", precision=precision, threads=threads))
    return options


def engines_for(options: RuntimeOptions) -> list[Engine]:
    """List the engines that may serve, best first: the requested engine, or with `auto` all installed engines.

    Raises:
        EngineMissing: The requested engine does not support the device.
    """
    first = _choose(options)
    has_second = options.engine == "auto" and options.device == "cpu" and find_spec("onnxruntime") is not None
    return [first, "onnxruntime"] if has_second and first != "onnxruntime" else [first]


def _choose(options: RuntimeOptions) -> Engine:
    if options.engine == "openvino" and options.device == "cuda":
        raise EngineMissing("OpenVINO does not run on CUDA; use the engine onnxruntime")
    if options.engine in TENSORRT_ENGINES and options.device == "cpu":
        raise EngineMissing("TensorRT runs on CUDA only; set the device to cuda")
    if options.engine != "auto":
        return options.engine
    return "openvino" if options.device == "cpu" and find_spec("openvino") else "onnxruntime"


def _refuse_two_builds() -> None:
    """Refuse two builds of ONNX Runtime: they contain the same files, so the build installed last would run."""
    found = []
    for name in sorted(_ONNXRUNTIME_BUILDS):
        try:
            metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        found.append(name)
    if len(found) > 1:
        raise EngineConflict(
            f"{' and '.join(found)} are both installed and overwrite each other; "
            "uninstall all of them, then install exactly one of the extras `cpu` and `gpu`"
        )
