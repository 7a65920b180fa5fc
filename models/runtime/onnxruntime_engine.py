"""ONNX Runtime on the CPU, on CUDA or on TensorRT, in the precision of the graph."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.artefact.digests import file_digest
from models.artefact.directories import make_directory
from models.errors import EngineMissing, InferenceFailed, PrecisionUnsupported
from models.runtime.cuda_libraries import missing_library, preload
from models.runtime.engine_files import EngineKey
from models.runtime.gpu import find_gpu, load_tensorrt
from models.runtime.session import (
    BATCH_BUCKETS,
    Arrays,
    BucketedSession,
    Device,
    EngineName,
    Images,
    Precision,
    SessionDescription,
    gpu_buckets,
    padded_bucket,
)

ENGINE: EngineName = "onnxruntime"
_CPU, _CUDA, _TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
_ERRORS_ONLY, _NOTHING = 3, 4  # severities of the log
_KINDS = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
_WORKSPACE_BYTES = 2 << 30  # without a limit TensorRT uses all memory of the device
_TF32 = "NVIDIA_TF32_OVERRIDE"  # 0 forbids TF32 in cuBLAS, cuDNN and TensorRT; read when they first start


@dataclass(frozen=True, slots=True)
class TensorRtBuild:
    """How ONNX Runtime builds TensorRT engines.

    Attributes:
        directory: Directory of the engines.
        optimum: Batch size for which TensorRT chooses kernels.
    """

    directory: Path
    optimum: int


class OrtSession(BucketedSession):
    """A graph in an `onnxruntime.InferenceSession`, which is thread-safe."""

    def __init__(
        self,
        graph: Path,
        outputs: tuple[str, ...],
        sizes: tuple[tuple[int, int], ...],
        precision: Precision | None,
        threads: int,
        streams: int,
        device: Device,
        gpu: int = 0,
        build: TensorRtBuild | None = None,
    ) -> None:
        """Load a graph.

        Args:
            graph: ONNX file that follows the contract of `models.graph`.
            outputs: Names of the outputs to return.
            sizes: (height, width) of the images that will be run.
            precision: Precision given by the types in the graph; None means float32.
            threads: Total number of threads of all runs on the CPU.
            streams: Number of concurrent runs.
            device: Device that computes.
            gpu: Number of the GPU.
            build: How TensorRT engines are built; if given, TensorRT runs the graph.

        Raises:
            EngineMissing: The provider is not in this build of ONNX Runtime, or does not start.
            EngineConflict: Another TensorRT is installed than the one that ONNX Runtime requires.
            PrecisionUnsupported: ONNX Runtime does not compute in the precision.
        """
        _refuse(precision, device, build)
        if device == "cpu":
            providers: Providers = [(_CPU, {})]
        else:
            self.buckets, arithmetic = gpu_buckets(sizes), precision or "fp32"
            providers = [(_CUDA, _cuda_options(arithmetic, gpu))]
            if build is not None:  # CUDA runs the layers that TensorRT does not support
                providers.insert(0, (_TENSORRT, _tensorrt_options(graph, outputs, arithmetic, sizes, gpu, build)))
        # All runs share one pool of threads, to which each run adds the thread of its caller.
        self._session = _open(graph, providers, max(1, threads - streams + 1))
        self._outputs = list(outputs)
        self._input = self._session.get_inputs()[0].name
        self._sizes = sizes
        self._pads = device != "cpu"
        self._description = SessionDescription(
            engine=ENGINE if build is None else "onnxruntime-tensorrt",
            version=ort.__version__,
            provider=self._session.get_providers()[0],
            precision=precision or "fp32",
            threads=threads if device == "cpu" else 0,
            streams=streams,
        )

    def describe(self) -> SessionDescription:
        """See `Session.describe`."""
        return self._description

    def _bucket(self, count: int) -> int:
        return padded_bucket(count, self.buckets) if self._pads else super()._bucket(count)

    def _run_bucket(self, images: Images) -> Arrays:
        if images.shape[1:3] not in self._sizes:
            raise InferenceFailed(f"the graph was not loaded for images of {images.shape[1]} x {images.shape[2]}")
        try:
            arrays = self._session.run(self._outputs, {self._input: images})
        except Exception as error:  # ONNX Runtime's exceptions have no common base class
            raise InferenceFailed(f"ONNX Runtime could not run the graph: {error}") from error
        return tuple(np.asarray(array, dtype=np.float32) for array in arrays)


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a graph.

    Attributes:
        name: Its name.
        kind: numpy name of the element type; the engine's own text if it is not a tensor that numpy holds.
        shape: Sizes of the axes, as far as the file states them; a text or None for a free axis.
    """

    name: str
    kind: str
    shape: tuple[int | str | None, ...]


class PlainGraph:
    """An unmodified graph on the CPU, in batches of the caller's choice, for proofs and calibration.

    Attributes:
        inputs, outputs: What the graph takes and returns; weights that the file lists as inputs are left out.
        batch: Maximum number of images of one run; 1 for a graph published with a fixed batch of one.
        version: Name and version of the engine.
    """

    def __init__(self, graph: Path | bytes, *, exact: bool = False) -> None:
        """Load a graph from a file or from its bytes.

        Args:
            graph: The ONNX file, or its content.
            exact: Compute int8 layers in float32 from the rounded values, as the graph defines them. Without it, the
                kernels for int8 run, whose sums saturate on some processors.

        Raises:
            InferenceFailed: ONNX Runtime cannot load the graph.
        """
        options = ort.SessionOptions()
        if exact:
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        options.log_severity_level = _NOTHING  # what fails is raised as well
        source = graph if isinstance(graph, bytes) else str(graph)
        try:
            self._session = ort.InferenceSession(source, options, providers=[_CPU])
            self.inputs = _ports(self._session.get_inputs())
            self.outputs = _ports(self._session.get_outputs())
        except Exception as error:  # ONNX Runtime's exceptions have no common base class
            raise InferenceFailed(f"ONNX Runtime cannot load the graph: {_cause(error)}") from error
        first = self.inputs[0].shape[:1] if self.inputs else ()
        self.batch = next((size for size in first if isinstance(size, int) and size > 0), max(BATCH_BUCKETS))
        self.version = f"onnxruntime {ort.__version__}"

    def run(self, pictures: NDArray[Any], names: Sequence[str] | None = None) -> list[NDArray[np.float32]]:
        """Run the graph and return the outputs with these names, or all outputs if None.

        Raises:
            InferenceFailed: ONNX Runtime cannot run the graph on this input.
        """
        try:
            arrays = self._session.run(names, {self.inputs[0].name: pictures})
        except Exception as error:  # ONNX Runtime's exceptions have no common base class
            raise InferenceFailed(f"ONNX Runtime could not run the graph: {_cause(error)}") from error
        return [np.asarray(array, dtype=np.float32) for array in arrays]


def exact_embeddings(graph: Path, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Embed faces with an int8 recognizer in exact arithmetic, see `PlainGraph`.

    Args:
        graph: ONNX file in the contract of `models.graph`.
        faces: (N, H, W, 3) uint8, RGB.

    Returns:
        (N, D) float32, embeddings before normalisation.

    Raises:
        InferenceFailed: ONNX Runtime cannot run the graph.
    """
    embedding, norm = PlainGraph(graph, exact=True).run(faces, ["embedding", "norm"])
    return embedding * norm[:, None]


def write_as_onnx(graph: bytes, target: Path) -> None:
    """Write a graph of ONNX Runtime's own format (`.ort`) as an ONNX file.

    Raises:
        InferenceFailed: ONNX Runtime cannot load or write the graph.
    """
    options = ort.SessionOptions()
    options.log_severity_level = _NOTHING
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.optimized_model_filepath = str(target)
    options.add_session_config_entry("session.save_model_format", "ONNX")
    try:
        ort.InferenceSession(graph, options, providers=[_CPU])
    except Exception as error:  # ONNX Runtime's exceptions have no common base class
        raise InferenceFailed(f"ONNX Runtime cannot load the graph: {_cause(error)}") from error


def _ports(arguments: Sequence[Any]) -> tuple[Port, ...]:
    return tuple(
        Port(item.name, _KINDS.get(item.type, item.type), tuple(getattr(item, "shape", None) or ()))
        for item in arguments
    )


def _cause(error: Exception) -> str:
    """Return the error of CUDA, or the first line of another error without the engine's codes and source files."""
    if failure := re.search(r"CUDA failure \d+: [^;\n]+", str(error)):
        return failure[0].strip()
    line = str(error).strip().partition("\n")[0]
    line = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", line)
    line = re.sub(r"^Load model from .* failed:", "", line)
    line = re.sub(r"Name:'[^']*' Status Message: (\S*onnxruntime\S*:\d+ .*?\) )?", "", line)
    return line[:300].strip()


Providers = list[tuple[str, dict[str, str]]]


def _refuse(precision: Precision | None, device: Device, build: TensorRtBuild | None) -> None:
    """Refuse a precision in which ONNX Runtime does not compute.

    Raises:
        PrecisionUnsupported: The precision is bf16, or tf32 elsewhere than on CUDA.
    """
    if precision == "bf16":
        raise PrecisionUnsupported("ONNX Runtime computes this graph in fp32; bf16 requires the engine openvino")
    if precision == "tf32" and device == "cpu":
        raise PrecisionUnsupported("tf32 is a precision of GPUs; on a CPU use fp32, bf16 or auto")
    if precision == "tf32" and build is not None:
        raise PrecisionUnsupported(
            "ONNX Runtime cannot choose tf32 for TensorRT; use the engine tensorrt or onnxruntime, or fp16"
        )
    if precision == "tf32" and os.environ.get(_TF32) == "0":
        raise PrecisionUnsupported(f"{_TF32}=0 forbids tf32; unset it, or use the precision fp32")


def _cuda_options(precision: Precision, gpu: int) -> dict[str, str]:
    """Return the options of the CUDA provider.

    Memory grows by the requested size instead of doubling. An exhaustive search for kernels would delay the first run
    of each batch size by seconds.
    """
    return {
        "device_id": str(gpu),
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": "1" if precision == "tf32" else "0",
    }


def _tensorrt_options(
    graph: Path,
    outputs: tuple[str, ...],
    precision: Precision,
    sizes: tuple[tuple[int, int], ...],
    gpu: int,
    build: TensorRtBuild,
) -> dict[str, str]:
    """Return the options of the TensorRT provider, whose booleans are `True` and `False` and nothing else.

    ONNX Runtime names its engines after the names in a graph and not after its weights, so each graph has a directory.
    The provider has no option for TF32, which TensorRT uses by default, so the environment forbids it.
    """
    if precision == "fp32":
        os.environ[_TF32] = "0"
    key = EngineKey(find_gpu(gpu), str(load_tensorrt().__version__), file_digest(graph), precision)
    name, largest = "images" if "scores" in outputs else "faces", gpu_buckets(sizes)[0]
    heights, widths = sorted(size[0] for size in sizes), sorted(size[1] for size in sizes)
    middle = sorted(sizes, key=lambda size: size[0] * size[1])[len(sizes) // 2]
    optimum = min(build.optimum, largest)
    shapes = [
        f"{batch}x{height}x{width}x3"
        for batch, height, width in ((1, heights[0], widths[0]), (optimum, *middle), (largest, heights[-1], widths[-1]))
    ]
    parent = build.directory / key.directory / f"onnxruntime-{ort.__version__}"
    directory = parent / f"{key.name}.{'-'.join(shapes)}"
    make_directory(directory)
    return {
        "device_id": str(gpu),
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(directory),
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": str(parent),
        "trt_max_workspace_size": str(_WORKSPACE_BYTES),
        "trt_fp16_enable": str(precision == "fp16"),
        "trt_int8_enable": str(precision == "int8"),
        "trt_profile_min_shapes": f"{name}:{shapes[0]}",
        "trt_profile_opt_shapes": f"{name}:{shapes[1]}",
        "trt_profile_max_shapes": f"{name}:{shapes[2]}",
    }


def _open(graph: Path, providers: Providers, threads: int) -> ort.InferenceSession:
    provider = providers[0][0]
    if provider not in ort.get_available_providers():
        raise EngineMissing(f"this build of ONNX Runtime lacks {provider}; install the extra `gpu` instead of `cpu`")
    session_options = ort.SessionOptions()
    session_options.intra_op_num_threads = threads
    session_options.log_severity_level = _ERRORS_ONLY
    if provider != _CPU:
        preload(ort)
        session_options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = ort.InferenceSession(str(graph), session_options, providers=providers, enable_fallback=0)
    except Exception as error:  # a missing CUDA library raises a plain exception, which does not name it
        reason = _missing(providers) or _cause(error)
        raise EngineMissing(f"{provider} does not start on this machine: {reason}") from error
    if session.get_providers()[0] != provider:  # ONNX Runtime silently replaces a provider that cannot load by the CPU
        reason = _missing(providers) or f"ONNX Runtime selected {session.get_providers()[0]}"
        raise EngineMissing(f"{provider} does not start on this machine: {reason}")
    return session


def _missing(providers: Providers) -> str | None:
    return next((reason for name, _ in providers if name != _CPU and (reason := missing_library(ort, name))), None)
