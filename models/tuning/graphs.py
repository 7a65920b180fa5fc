"""What there is to tune of a model: every way that its proof covers and this machine has, with a check of answers."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import embedding
from models.artefact import DETECTOR_GRAPH, Card, DetectorCard
from models.detection.detector import OUTPUTS as DETECTOR_OUTPUTS
from models.detection.detector import DetectionOptions, canvases
from models.digests import value_digest
from models.embedding import Embeddings
from models.export.parity import compare
from models.proven import proven_runtime
from models.runtime import RuntimeOptions, Session, cpu_options, open_session, usable_cores
from models.runtime.session import Precision
from models.tuning.machine import describe_machine
from models.tuning.records import Subject, Way
from models.tuning.tuner import TunedGraph, layouts

FACE_BATCHES, PHOTO_BATCHES = (1, 2, 4, 8, 16), (1, 2, 4)

_CPU_PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")
_MAX_SCORE_DIFFERENCE = 0.05  # of a detector in bfloat16; a face begins at 0.5 or 0.6
_REFERENCE = RuntimeOptions("onnxruntime", precision="fp32")

Images = NDArray[np.uint8]


def tuning_subject(card: Card, detector: DetectorCard, detection: DetectionOptions) -> Subject:
    """Name what a choice is made for: this machine, these graphs, photos looked at this closely."""
    graphs = {kind: card.files.get(file, "") for kind, file in card.graphs.items()}
    return Subject(describe_machine(), value_digest(graphs), value_digest(detector.files), detection.max_side_px)


def recognizer_to_tune(
    directory: Path, card: Card, proof: dict[str, Any], faces: Images, real: bool
) -> tuple[TunedGraph, list[str]]:
    """List the ways to run a recognizer.

    Args:
        directory: Of the artefact.
        card: Of it.
        proof: Of it.
        faces: (N, H, W, 3) uint8, RGB, aligned; what answers are compared on.
        real: Whether they show faces: int8 is calibrated on faces, and judged by nothing else.

    Returns:
        What to tune, and what is left out of it.
    """
    size = (card.height, card.width)
    reference = Embeddings(
        *open_session(directory / card.graphs["fp32"], embedding.OUTPUTS, (size,), _REFERENCE).run(faces)
    )
    raw = reference.embedding * reference.norm[:, None]

    def check(way: Way, session: Session) -> str | None:
        return "; ".join(compare(raw, Embeddings(*session.run(faces))).failures(way.precision)) or None

    def file(way: Way) -> Path:
        return directory / proven_runtime(card, proof, way.options)[0]

    passed = {(row["precision"].partition("-")[0], row["engine"]) for row in proof["measured"] if row["passed"]}
    ways = [way for way in _ways() if (way.precision, way.engine) in passed]
    left_out = []
    if not real and any(way.precision == "int8" for way in ways):
        ways = [way for way in ways if way.precision != "int8"]
        left_out.append("int8: there are no photos of faces to check it on, name some with --photos")
    return TunedGraph(file, embedding.OUTPUTS, size, ways, FACE_BATCHES, check), left_out


def detector_to_tune(directory: Path, detection: DetectionOptions, photos: Images) -> TunedGraph:
    """List the ways to run a detector.

    Args:
        directory: Of the detector.
        detection: How closely photos are looked at.
        photos: (N, H, W, 3) uint8, RGB, of the size `common_canvas(detection)`; what scores are compared on.
    """
    graph, size = directory / DETECTOR_GRAPH, common_canvas(detection)
    expected = open_session(graph, DETECTOR_OUTPUTS, (size,), _REFERENCE).run(photos)[0]

    def check(_: Way, session: Session) -> str | None:
        worst = float(np.abs(session.run(photos)[0] - expected).max())
        return None if worst <= _MAX_SCORE_DIFFERENCE else f"scores differ by {worst:.2g}"  # NaN must not pass

    ways = [way for way in _ways() if way.precision != "int8"]
    return TunedGraph(lambda _: graph, DETECTOR_OUTPUTS, size, ways, PHOTO_BATCHES, check)


def common_canvas(detection: DetectionOptions) -> tuple[int, int]:
    """Return the (height, width) at which most cameras' photos are looked at: 4 to 3."""
    return min(
        (size for size in canvases(detection) if size[1] == detection.max_side_px and size[0] * 4 >= size[1] * 3),
        key=lambda size: size[0],
    )


def _ways() -> Iterator[Way]:
    cores = usable_cores()
    for precision in _CPU_PRECISIONS:
        for options in cpu_options(precision, cores):
            for streams in layouts(cores):
                own = replace(options, streams=streams)
                assert own.engine != "auto"
                yield Way(own.engine, own.device, precision, own.threads, own.streams)
