"""Build TensorRT engines from an artefact's graphs: for this GPU and this version of TensorRT, and no other.

The calls are those that TensorRT 10.16 and 11.4 have in common. Precision is in the types of the graph: networks are
strongly typed, the flags for float16 and int8 are gone since 11. The first layer casts the uint8 pictures to float32,
which is all that TensorRT takes uint8 for.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import EngineBuildFailed
from models.types import Progress

WORKSPACE_BYTES = 2 << 30  # without a limit TensorRT takes all memory of the device
OPTIMIZATION_LEVEL = 3  # of 0..5, TensorRT's own default


@dataclass(frozen=True, slots=True)
class Batches:
    """Numbers of faces for which an engine is made: fewest, most common, most."""

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
    """Build an engine and write it, whole or not at all.

    Args:
        trt: The module `tensorrt`.
        graph: ONNX in the contract of `models.graph`.
        size: (height, width) of a crop.
        target: File of the engine.
        timing_cache: File that keeps what was timed, so that the next build is quicker; made if absent.
        progress: Called with TensorRT's phases and their steps.
        batches: Numbers of faces to build for.

    Raises:
        EngineBuildFailed: TensorRT refuses the graph or the build.
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
        raise EngineBuildFailed(f"TensorRT refuses {graph.name} for {batches.fewest} to {batches.most} faces")
    cache = config.create_timing_cache(timing_cache.read_bytes() if timing_cache.is_file() else b"")
    config.set_timing_cache(cache, ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineBuildFailed(f"TensorRT could not build {graph.name}; its log above says why")
    _write(timing_cache, bytes(config.get_timing_cache().serialize()))
    _write(target, bytes(plan))


def _monitor(trt: Any, progress: Progress) -> Any:
    """Make an object of TensorRT's own class that passes progress on; without one a build is silent for minutes."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # a class of a module that need not be there
        def __init__(self) -> None:
            super().__init__()
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:  # noqa: ARG002
            self._steps[phase_name] = num_steps
            progress(phase_name, 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            progress(phase_name, step + 1, self._steps.get(phase_name, step + 1))
            return True  # go on

        def phase_finish(self, phase_name: str) -> None:
            steps = self._steps.pop(phase_name, 1)
            progress(phase_name, steps, steps)

    return Monitor()


def _write(path: Path, content: bytes) -> None:
    scratch = path.with_name(f".{path.name}+")
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch.write_bytes(content)
    scratch.replace(path)
