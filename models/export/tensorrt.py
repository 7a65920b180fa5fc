"""Build TensorRT engines from an artefact's graphs.

An engine runs only on the GPU and the version of TensorRT that it was built for. The code uses calls that TensorRT
10.16 and 11.4 have in common. Networks are strongly typed, so the types of the graph set the precision; TensorRT 11
removed the flags for float16 and int8. The first layer casts the uint8 faces to float32, the only use of uint8 that
TensorRT supports.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import EngineBuildFailed
from models.types import Progress

WORKSPACE_BYTES = 2 << 30  # without a limit, TensorRT uses all memory of the GPU
OPTIMIZATION_LEVEL = 3  # TensorRT's default, of 0..5


@dataclass(frozen=True, slots=True)
class Batches:
    """Batch sizes of an engine.

    Attributes:
        fewest: Smallest batch that the engine accepts.
        common: Batch size that the engine is optimised for.
        most: Largest batch that the engine accepts.
    """

    fewest: int = 1
    common: int = 8
    most: int = 32


def build_engine(
    trt: Any,
    graph: Path,
    size: tuple[int, int],
    target: Path,
    timing_cache: Path,
    progress: Progress,
    batches: Batches | None = None,
) -> None:
    """Build an engine and write it atomically.

    Args:
        trt: The module `tensorrt`.
        graph: ONNX file in the contract of `models.graph`.
        size: (height, width) of a crop in pixels.
        target: File of the engine.
        timing_cache: File of TensorRT's kernel timings, which makes the next build faster; created if missing.
        progress: Called with TensorRT's phases and their steps.
        batches: Batch sizes to build for; 1 to 32, optimised for 8, if None.

    Raises:
        EngineBuildFailed: TensorRT rejects the graph or fails to build the engine.
        OSError: A file cannot be read or written.
    """
    batches = batches or Batches()
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(graph)):
        errors = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
        raise EngineBuildFailed(f"TensorRT cannot read {graph.name}: {errors}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    config.builder_optimization_level = OPTIMIZATION_LEVEL
    config.progress_monitor = _monitor(trt, progress)
    profile = builder.create_optimization_profile()
    shapes = [(number, *size, 3) for number in (batches.fewest, batches.common, batches.most)]
    profile.set_shape("faces", *shapes)
    if config.add_optimization_profile(profile) < 0:
        raise EngineBuildFailed(f"TensorRT rejects {graph.name} for {batches.fewest} to {batches.most} faces")
    cache = config.create_timing_cache(timing_cache.read_bytes() if timing_cache.is_file() else b"")
    config.set_timing_cache(cache, ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineBuildFailed(f"TensorRT could not build {graph.name}; its log above gives the reason")
    _write(timing_cache, bytes(config.get_timing_cache().serialize()))
    _write(target, bytes(plan))


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
