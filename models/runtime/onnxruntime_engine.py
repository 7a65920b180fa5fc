"""ONNX Runtime on the CPU, on CUDA or on TensorRT, in the precision of the graph."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.artefact.directories import make_directory
from models.errors import EngineMissing, InferenceFailed, PrecisionUnsupported
from models.runtime.session import (
    BATCH_BUCKETS,
    Arrays,
    BucketedSession,
    Device,
    EngineName,
    Images,
    Precision,
    SessionDescription,
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
        engines: Path | None = None,
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
            engines: Directory for TensorRT engines; if given, TensorRT runs the graph.

        Raises:
            EngineMissing: The provider is not in this build of ONNX Runtime, or does not start.
            PrecisionUnsupported: The precision is bf16.
        """
        if precision == "bf16":
            raise PrecisionUnsupported("ONNX Runtime computes this graph in fp32; bf16 requires the engine openvino")
        provider = _CPU if device == "cpu" else _CUDA if engines is None else _TENSORRT
        if provider == _TENSORRT and engines is not None:
            make_directory(engines)
        # All runs share one thread pool beside the callers' threads. With one thread, each run uses only its caller.
        options = _provider_options(provider, precision or "fp32", sizes, engines)
        self._session = _open(graph, provider, options, max(1, threads // streams))
        self._outputs = list(outputs)
        self._input = self._session.get_inputs()[0].name
        self._sizes = sizes
        self._pads = device != "cpu"
        self._description = SessionDescription(
            engine=ENGINE if engines is None else "onnxruntime-tensorrt",
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
        return padded_bucket(count) if self._pads else super()._bucket(count)

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
    """Return the first line of an error without the engine's codes and source files."""
    line = str(error).strip().partition("\n")[0]
    line = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", line)
    line = re.sub(r"^Load model from .* failed:", "", line)
    line = re.sub(r"Name:'[^']*' Status Message: (\S*onnxruntime\S*:\d+ .*?\) )?", "", line)
    return line[:300].strip()


def _provider_options(
    provider: str, precision: Precision, sizes: tuple[tuple[int, int], ...], engines: Path | None
) -> dict[str, str]:
    """Return the options of a provider. ONNX Runtime silently accepts a mistyped name, so all names are kept here."""
    if provider == _CUDA:
        # Memory grows by the requested size instead of doubling. An exhaustive search would delay the first run of each
        # size by seconds.
        return {"arena_extend_strategy": "kSameAsRequested", "cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}
    if provider != _TENSORRT or engines is None:
        return {}
    (height, width), maximum = sizes[0], max(BATCH_BUCKETS)
    shape = f"x{height}x{width}x3"
    return {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(engines),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(engines),
        "trt_max_workspace_size": str(_WORKSPACE_BYTES),
        "trt_fp16_enable": "1" if precision == "fp16" else "0",
        "trt_int8_enable": "1" if precision == "int8" else "0",
        "trt_profile_min_shapes": f"faces:1{shape}",
        "trt_profile_opt_shapes": f"faces:8{shape}",
        "trt_profile_max_shapes": f"faces:{maximum}{shape}",
    }


def _open(graph: Path, provider: str, options: dict[str, str], threads: int) -> ort.InferenceSession:
    if provider not in ort.get_available_providers():
        raise EngineMissing(f"this build of ONNX Runtime lacks {provider}; install the extra `gpu` instead of `cpu`")
    session_options = ort.SessionOptions()
    session_options.intra_op_num_threads = threads
    session_options.log_severity_level = _ERRORS_ONLY
    if provider != _CPU:
        session_options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = ort.InferenceSession(str(graph), session_options, providers=[(provider, options)], enable_fallback=0)
    except Exception as error:  # a missing CUDA library raises a plain exception
        raise EngineMissing(f"{provider} does not start on this machine: {error}") from error
    if session.get_providers()[0] != provider:  # ONNX Runtime silently replaces a provider that cannot load by the CPU
        raise EngineMissing(f"{provider} was requested, but ONNX Runtime selected {session.get_providers()[0]}")
    return session
