"""Build TensorRT engines from an artefact's graphs.

An engine runs only on the GPU and the version of TensorRT that it was built for. Networks are strongly typed, so the
types of the graph set the precision; only TF32 has a flag, which is set by default. The first layer casts the uint8
faces to float32, the only use of uint8 that TensorRT supports.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import EngineBuildFailed
from models.types import Progress

WORKSPACE_BYTES = 2 << 30  # without a limit, TensorRT uses all memory of the GPU
OPTIMIZATION_LEVEL = 3  # TensorRT's default, of 0..5
LARGEST = 128  # faces of one run


@dataclass(frozen=True, slots=True)
class Batches:
    """Batch sizes of an engine.

    Attributes:
        fewest: Smallest batch that the engine accepts.
        common: Batch size for which kernels are chosen.
        most: Largest batch that the engine accepts.
    """

    fewest: int = 1
    common: int = 32
    most: int = LARGEST


def build_engine(
    trt: Any,
    graph: Path,
    size: tuple[int, int],
    target: Path,
    timing_cache: Path,
    progress: Progress,
    batches: Batches | None = None,
    *,
    tf32: bool = False,
) -> None:
    """Build an engine and write it atomically.

    Args:
        trt: The module `tensorrt`.
        graph: ONNX file in the contract of `models.graph`.
        size: (height, width) of a crop in pixels.
        target: File of the engine.
        timing_cache: File of TensorRT's kernel timings, which makes the next build faster; created if missing.
        progress: Called with TensorRT's phases and their steps.
        batches: Batch sizes to build for; 1 to 128, optimised for 32, if None.
        tf32: Whether float32 products may be computed with the 10-bit mantissas of TF32.

    Raises:
        EngineBuildFailed: TensorRT rejects the graph or fails to build the engine.
        OSError: A file cannot be read or written.
    """
    batches = batches or Batches()
    logger = trt.Logger(trt.Logger.WARNING)
    try:
        builder = trt.Builder(logger)
    except TypeError as error:  # the bindings raise it when the library returns no object
        raise EngineBuildFailed("TensorRT does not start on this GPU; its log above gives the reason") from error
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(graph)):
        errors = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
        raise EngineBuildFailed(f"TensorRT cannot read {graph.name}: {errors}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    config.builder_optimization_level = OPTIMIZATION_LEVEL
    if tf32:
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)
    config.progress_monitor = _monitor(trt, progress)
    profile = builder.create_optimization_profile()
    shapes = [(number, *size, 3) for number in (batches.fewest, batches.common, batches.most)]
    profile.set_shape("faces", *shapes)
    if config.add_optimization_profile(profile) < 0:
        raise EngineBuildFailed(f"TensorRT rejects {graph.name} for {batches.fewest} to {batches.most} faces")
    _use_timings(config, timing_cache)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineBuildFailed(f"TensorRT could not build {graph.name}; its log above gives the reason")
    timings = config.get_timing_cache()
    if timings is not None:
        _write(timing_cache, bytes(timings.serialize()))
    _write(target, bytes(plan))


def _use_timings(config: Any, file: Path) -> None:
    """Use the timings of earlier builds; empty ones if TensorRT refuses them, as it does those of another GPU."""
    for content in (file.read_bytes() if file.is_file() else b"", b""):
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
            return


def _monitor(trt: Any, progress: Progress) -> Any:
    """Return an `IProgressMonitor` that reports to `progress`; without a monitor, a build is silent for minutes."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # tensorrt is an optional module without types
        def __init__(self) -> None:
            super().__init__()
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:  # noqa: ARG002
            self._steps[phase_name] = num_steps
            progress(phase_name, 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            progress(phase_name, step + 1, self._steps.get(phase_name, step + 1))
            return True  # False would cancel the build

        def phase_finish(self, phase_name: str) -> None:
            steps = self._steps.pop(phase_name, 1)
            progress(phase_name, steps, steps)

    return Monitor()


def _write(path: Path, content: bytes) -> None:
    scratch = path.with_name(f".{path.name}+")
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch.write_bytes(content)
    scratch.replace(path)
