"""The graphs, engines and precisions to measure, each in a process of its own.

A setting of TF32 holds for a process, and an engine that crashes ends one, so no case affects another.
"""

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from models.artefact.card import DETECTOR_GRAPH, EMBEDDER_GRAPH
from models.artefact.parity import MAX_DETECTOR_DIFFERENCE, compare
from models.detection.detector import DETECTOR_OUTPUTS
from models.embedding import EMBEDDER_OUTPUTS
from models.errors import VultusError
from models.packs.store import DETECTOR_DIRECTORY, RECOGNIZER_DIRECTORY
from models.runtime import RuntimeOptions, Session, open_session
from models.runtime.gpu import find_gpu, load_tensorrt
from models.runtime.session import Device, Engine, Precision
from models.synthetic import synthetic_pictures
from models.types import Embeddings, no_progress

CROP, CANVAS = (112, 112), (640, 640)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)

_GRAPHS: dict[Precision, str] = {
    "fp32": EMBEDDER_GRAPH,
    "tf32": EMBEDDER_GRAPH,
    "fp16": "embedder.fp16.onnx",
    "int8": "embedder.int8.onnx",
}
_ENGINES: dict[Device, dict[Engine, tuple[Precision, ...]]] = {
    "cpu": {"onnxruntime": ("fp32", "fp16", "int8")},
    "cuda": {
        "onnxruntime": ("fp32", "tf32", "fp16", "int8"),
        "onnxruntime-tensorrt": ("fp32", "fp16", "int8"),
        "tensorrt": ("fp32", "tf32", "fp16", "int8"),
    },
}
_FACES = 32
_STREAMS = 2  # one uploads while the other computes


class Case(NamedTuple):
    """A graph in an engine.

    Attributes:
        network: Name of the network.
        graph, reference: The graph to run, and the float32 graph that it is compared with on the CPU.
        options: How to run it.
        seconds: Time to measure each batch size.
        batches: Batch sizes to measure.
    """

    network: str
    graph: Path
    reference: Path
    options: RuntimeOptions
    seconds: float
    batches: tuple[int, ...]

    @property
    def is_detector(self) -> bool:
        """Whether the graph is a detector."""
        return self.graph.name == DETECTOR_GRAPH


@dataclass(frozen=True, slots=True)
class Measured:
    """The measurements of a case.

    Attributes:
        network, engine, precision: The case.
        parity: Measures of the difference from the reference.
        failures: Why the outputs differ too much, or why the case did not run; empty if it passed.
        rates: Images per second with two concurrent runs, by batch size.
    """

    network: str
    engine: str
    precision: str
    parity: dict[str, Any] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    rates: dict[int, float] = field(default_factory=dict)


def cases(
    networks: dict[str, Path], pack: Path, engines: Path, device: Device, seconds: float, batches: tuple[int, ...]
) -> Iterator[Case]:
    """List the cases of the exported networks and of a pack, of those precisions that have a graph."""
    recognizers = {**networks, f"{pack.name} recognizer": pack / RECOGNIZER_DIRECTORY}
    for engine, precisions in _ENGINES[device].items():
        options = RuntimeOptions(engine, device, streams=_STREAMS, engines=engines)
        for name, directory in recognizers.items():
            for precision in precisions:
                graph = directory / _GRAPHS[precision]
                if graph.is_file():
                    wanted = replace(options, precision=precision)
                    yield Case(name, graph, directory / EMBEDDER_GRAPH, wanted, seconds, batches)
        if engine != "tensorrt":  # has one image size
            graph = pack / DETECTOR_DIRECTORY / DETECTOR_GRAPH
            photos = tuple(batch for batch in batches if batch <= 16)
            yield Case(f"{pack.name} detector", graph, graph, replace(options, precision="fp32"), seconds, photos)


def measure_all(cases: Iterator[Case], tell: Callable[[str], None]) -> list[Measured]:
    """Measure cases one after another, each in a process of its own."""
    found = []
    for case in cases:
        tell(f"{case.network} in {case.options.precision} on {case.options.engine}")
        found.append(_isolated(case))
    return found


def _isolated(case: Case) -> Measured:
    empty = Measured(case.network, case.options.engine, case.options.precision)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        try:
            return process.submit(_measure, case).result()
        except BrokenProcessPool:
            return replace(empty, failures=["the process ended, see its messages above"])


def _measure(case: Case) -> Measured:
    """Compare a case with the reference and measure its speed; runs in the process of the case."""
    measured = Measured(case.network, case.options.engine, case.options.precision)
    size = CANVAS if case.is_detector else CROP
    outputs = DETECTOR_OUTPUTS if case.is_detector else EMBEDDER_OUTPUTS
    pictures = synthetic_pictures(4 if case.is_detector else _FACES, *size)
    try:
        reference = open_session(case.reference, outputs, (size,), RuntimeOptions("onnxruntime", precision="fp32"))
        expected = reference.run(pictures)
        session = open_case(case)
        actual = session.run(pictures)
        if case.is_detector:
            worst = max(float(np.abs(one - other).max()) for one, other in zip(actual, expected, strict=True))
            parity: dict[str, Any] = {"worst": worst}
            failures = [] if worst <= MAX_DETECTOR_DIFFERENCE else [f"outputs differ by {worst:.2g}"]
        else:
            found = compare(Embeddings(*expected).raw, Embeddings(*actual))
            precision = session.describe().precision
            parity, failures = found.record(), found.failures(precision)
        rates = {batch: round(rate(session, batch, size, case.seconds), 1) for batch in case.batches}
        return replace(measured, parity=parity, failures=failures, rates=rates)
    except (VultusError, OSError) as error:
        return replace(measured, failures=[str(error)])


def open_case(case: Case) -> Session:
    """Load the graph of a case; `tensorrt` builds its engine first."""
    size = CANVAS if case.is_detector else CROP
    options = case.options
    if options.engine == "tensorrt":
        from models.export.engines import build_graph_engine  # the other engines build none

        assert options.engines is not None
        assert options.precision != "auto"
        trt = load_tensorrt()
        build_graph_engine(trt, find_gpu(), case.graph, size, options.precision, options.engines, no_progress)
    outputs = DETECTOR_OUTPUTS if case.is_detector else EMBEDDER_OUTPUTS
    return open_session(case.graph, outputs, (size,), options)


def rate(session: Session, batch: int, size: tuple[int, int], seconds: float) -> float:
    """Return the images per second of concurrent callers, one for each stream."""
    images = np.random.default_rng(0).integers(0, 256, (batch, *size, 3), np.uint8)
    session.run(images)
    counts: list[int] = []
    start = time.perf_counter()

    def call() -> None:
        count = 0
        while not count or time.perf_counter() - start < seconds:
            session.run(images)
            count += 1
        counts.append(count)

    callers = [threading.Thread(target=call) for _ in range(_STREAMS)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    if len(counts) < _STREAMS:
        raise OSError("a concurrent run failed, see its messages above")
    return sum(counts) * batch / (time.perf_counter() - start)
