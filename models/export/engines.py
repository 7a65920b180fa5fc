"""Build the TensorRT engines of an artefact for a GPU, in the data directory."""

from pathlib import Path
from typing import Any

from models.artefact.digests import file_digest
from models.artefact.integrity import open_artefact
from models.errors import StorageFailed
from models.export.tensorrt import Batches, build_engine
from models.runtime import Precision
from models.runtime.engine_files import EngineKey, write_record
from models.runtime.gpu import Gpu
from models.types import Progress

_PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")  # not int8-cpu, whose activations are unsigned


def build_engines(
    artefact: Path,
    trt: Any,
    gpu: Gpu,
    engines: Path,
    progress: Progress,
    batches: Batches | None = None,
    *,
    tf32: bool = False,
) -> list[Path]:
    """Build an engine for each graph of an artefact. Engines for other GPUs, drivers and TensorRT versions stay.

    Args:
        artefact: Directory of an intact, proven artefact.
        trt: The module `tensorrt`.
        gpu: The GPU to build for.
        engines: Directory of engines.
        progress: Called with the name of each graph before its build, then with TensorRT's phases.
        batches: Batch sizes of the engines.
        tf32: Whether to build a second engine of the float32 graph, with TF32 products.

    Returns:
        Paths of the built engines.

    Raises:
        PackDamaged: A file of the artefact is missing or altered.
        ArtefactUnfit: The artefact did not pass its proof or has a layout that is not served.
        EngineBuildFailed: TensorRT rejects a graph.
        StorageFailed: The file system refused to write.
    """
    card, _ = open_artefact(artefact)
    graphs: list[tuple[str, Precision]] = [
        (card.graphs[precision], precision) for precision in _PRECISIONS if precision in card.graphs
    ]
    if tf32:
        graphs.append((card.graphs["fp32"], "tf32"))
    built: list[Path] = []
    for graph, precision in graphs:
        progress(f"building {graph} in {precision}", 0, None)
        path, size = artefact / graph, (card.height, card.width)
        built.append(build_graph_engine(trt, gpu, path, size, precision, engines, progress, batches))
    return built


def build_graph_engine(
    trt: Any,
    gpu: Gpu,
    graph: Path,
    size: tuple[int, int],
    precision: Precision,
    engines: Path,
    progress: Progress,
    batches: Batches | None = None,
) -> Path:
    """Build the engine of one graph and write its record.

    Args:
        trt: The module `tensorrt`.
        gpu: The GPU to build for.
        graph: ONNX file in the contract of `models.graph`.
        size: (height, width) of a crop in pixels.
        precision: Precision of the arithmetic, which is that of the graph, or tf32.
        engines: Directory of engines.
        progress: Called with TensorRT's phases.
        batches: Batch sizes of the engine.

    Raises:
        EngineBuildFailed: TensorRT rejects the graph.
        StorageFailed: The file system refused to write.
    """
    key = EngineKey(gpu, str(trt.__version__), file_digest(graph), precision)
    target = key.path(engines)
    try:
        timing = target.with_name("kernels.timing")
        build_engine(trt, graph, size, target, timing, progress, batches, tf32=precision == "tf32")
        write_record(target, key)
    except OSError as error:
        raise StorageFailed(f"{engines} cannot be written: {error.strerror or error}") from error
    return target
