"""Choose an engine and load a graph into it; what was asked for and is not there is an error, never a substitute."""

import os
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from models.errors import EngineConflict, EngineMissing
from models.runtime.gpu import load_tensorrt
from models.runtime.session import Device, Precision, Session

Engine = Literal["openvino", "onnxruntime", "onnxruntime-tensorrt", "tensorrt"]

TENSORRT_ENGINES = ("onnxruntime-tensorrt", "tensorrt")

_ONNXRUNTIME_BUILDS = {"onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino"}


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """How graphs are run.

    Attributes:
        engine: `auto` takes OpenVINO on the CPU and ONNX Runtime on CUDA. `onnxruntime-tensorrt` has ONNX Runtime build
            engines of TensorRT at the first start, `tensorrt` runs those of `vultus engine`.
        device: Where to compute.
        precision: `auto` takes bf16 where engine and processor have it, else fp32. `fp16` and `int8` are said of graphs
            that have those types in them.
        threads: Threads for all runs on the CPU; 0 takes all cores that this process may use.
        streams: Runs side by side, which share the threads: one is quickest for a lone request, one for each thread
            loses nothing to waiting for each other; 0 is one.
        engines: Directory in which ONNX Runtime keeps the engines that it has TensorRT build.
    """

    engine: Literal["auto"] | Engine = "auto"
    device: Device = "cpu"
    precision: Literal["auto"] | Precision = "auto"
    threads: int = 0
    streams: int = 0
    engines: Path | None = None


def usable_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0))


def open_session(
    graph: Path,
    outputs: tuple[str, ...],
    sizes: tuple[tuple[int, int], ...],
    options: RuntimeOptions,
    *,
    one_by_one: bool = False,
) -> Session:
    """Load a graph.

    Args:
        graph: ONNX file in the contract of `models.graph`; for the engine `tensorrt` the engine that was built of it.
        outputs: Names of the outputs wanted, in the order in which `run` shall give them.
        sizes: (height, width) of every picture that will be given; others are refused at run.
        options: How to run it.
        one_by_one: Prepare for one picture a run, where the engine is faster so; batches are taken nevertheless.

    Raises:
        EngineMissing, EngineConflict, PrecisionUnsupported: As named.
    """
    _refuse_two_builds()
    precision: Precision | None = None if options.precision == "auto" else options.precision
    threads, streams = options.threads or usable_cores(), options.streams or 1
    engine = _choose(options)
    if engine == "tensorrt":
        from models.runtime.tensorrt_engine import TensorRtSession, load_cuda

        return TensorRtSession(graph, outputs, precision or "fp32", streams, load_tensorrt(), load_cuda())
    package = "onnxruntime" if engine == "onnxruntime-tensorrt" else engine
    if find_spec(package) is None:
        raise EngineMissing(f"{package} is not installed; install Vultus with one of the extras `cpu` and `gpu`")
    if engine == "openvino":  # each engine is imported only where it is wanted: none of them has to be installed
        from models.runtime.openvino_engine import OpenVinoSession

        return OpenVinoSession(graph, outputs, sizes, precision, threads, streams, one_by_one)
    from models.runtime.onnxruntime_engine import OrtSession

    engines = (options.engines or graph.parent) if engine == "onnxruntime-tensorrt" else None
    return OrtSession(graph, outputs, sizes, precision, threads, streams, options.device, engines)


def cpu_options(precision: Precision, threads: int = 0) -> list[RuntimeOptions]:
    """List the ways in which this machine's CPU can run a graph of a precision."""
    options = []
    if find_spec("onnxruntime") is not None and precision != "bf16":
        options.append(RuntimeOptions("onnxruntime", precision=precision, threads=threads))
    if find_spec("openvino") is not None:
        from models.runtime.openvino_engine import has_bf16

        if precision != "bf16" or has_bf16():
            options.append(RuntimeOptions("openvino", precision=precision, threads=threads))
    return options


def engines_for(options: RuntimeOptions) -> list[Engine]:
    """List the engines that may serve, best first: the one that is asked for, or under `auto` all that are installed.

    Raises:
        EngineMissing: The engine that is asked for does not run on that device.
    """
    first = _choose(options)
    others = options.engine == "auto" and options.device == "cpu" and find_spec("onnxruntime") is not None
    return [first, "onnxruntime"] if others and first != "onnxruntime" else [first]


def _choose(options: RuntimeOptions) -> Engine:
    if options.engine == "openvino" and options.device == "cuda":
        raise EngineMissing("OpenVINO does not run on CUDA; use the engine onnxruntime")
    if options.engine in TENSORRT_ENGINES and options.device == "cpu":
        raise EngineMissing("TensorRT runs on CUDA only; set the device to cuda")
    if options.engine != "auto":
        return options.engine
    return "openvino" if options.device == "cpu" and find_spec("openvino") else "onnxruntime"


def _refuse_two_builds() -> None:
    """Refuse two builds of ONNX Runtime: they own the same files, and the one that was written last runs."""
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
