"""What can be tuned: every runtime choice that the proof covers and this machine has, with a check of its answers."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.artefact.card import DETECTOR_GRAPH, PROOF, Card, DetectorCard
from models.artefact.digests import value_digest
from models.artefact.parity import compare
from models.detection.detector import DETECTOR_OUTPUTS, DetectionOptions, canvases
from models.embedding import EMBEDDER_OUTPUTS
from models.errors import ArtefactUnfit
from models.runtime import RuntimeOptions, Session, cpu_options, open_session, usable_cores
from models.runtime.loading import TENSORRT_ENGINES, Engine
from models.runtime.session import Device, Precision
from models.serving.choice import engine_of, proven_runtime
from models.serving.tuning.machine import describe_machine
from models.serving.tuning.records import RuntimeChoice, TuningKey
from models.serving.tuning.tuner import TunedGraph, layouts
from models.types import Embeddings

FACE_BATCHES: dict[Device, tuple[int, ...]] = {"cpu": (1, 2, 4, 8, 16), "cuda": (1, 2, 4, 8, 16, 32)}
PHOTO_BATCHES: dict[Device, tuple[int, ...]] = {"cpu": (1,), "cuda": (1, 4, 8, 16)}

_CPU_PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")
_GPU_PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
_ENGINES_ON_GPU: tuple[Engine, ...] = ("onnxruntime", "onnxruntime-tensorrt", "tensorrt")
_GPU_STREAMS = (1, 2)  # the second uploads while the first computes
_SURE_SCORE = 0.5  # where there is a face
_MAX_OFFSET_DIFFERENCE = 0.1  # of boxes and landmarks there, in strides of 8 to 32 pixels
_MAX_SCORE_DIFFERENCE = 0.05  # of a detector in bfloat16; a face begins at 0.5 or 0.6
_REFERENCE = RuntimeOptions("onnxruntime", precision="fp32")

Images = NDArray[np.uint8]


def tuning_key(card: Card, detector: DetectorCard, detection: DetectionOptions, device: Device) -> TuningKey:
    """Name what a choice is made for: this machine and device, these graphs, photos looked at this closely."""
    graphs = {kind: card.files.get(file, "") for kind, file in (*card.graphs.items(), ("proof", PROOF))}
    graph_digests = value_digest(graphs), value_digest(detector.files)
    return TuningKey(describe_machine(), device, *graph_digests, detection.max_side_px)


def recognizer_tuning(
    directory: Path, card: Card, proof: dict[str, Any], device: Device, faces: Images, real: bool
) -> tuple[TunedGraph, list[str]]:
    """List the choices to run a recognizer.

    Args:
        directory: Of the artefact.
        card: Of it.
        proof: Of it.
        device: Where to compute.
        faces: (N, H, W, 3) uint8, RGB, aligned; what answers are compared on.
        real: Whether they show faces: int8 is calibrated on faces, and judged by nothing else.

    Returns:
        What to tune, and what is left out of it.
    """
    size = (card.height, card.width)
    reference = Embeddings(
        *open_session(directory / card.graphs["fp32"], EMBEDDER_OUTPUTS, (size,), _REFERENCE).run(faces)
    )
    raw = reference.embedding * reference.norm[:, None]

    def check(choice: RuntimeChoice, session: Session) -> str | None:
        return "; ".join(compare(raw, Embeddings(*session.run(faces))).failures(choice.precision)) or None

    def file(choice: RuntimeChoice) -> Path:
        graph, _ = proven_runtime(card, proof, choice.options())
        return engine_of(directory, graph) if choice.engine == "tensorrt" else directory / graph

    choices = [choice for choice in _choices(device, card.graphs) if _is_proven(card, proof, choice)]
    excluded = []
    if not real and any(choice.precision == "int8" for choice in choices):
        choices = [choice for choice in choices if choice.precision != "int8"]
        excluded.append("int8: there are no photos of faces to check it on, name some with --photos")
    return TunedGraph(file, EMBEDDER_OUTPUTS, size, choices, FACE_BATCHES[device], check), excluded


def detector_tuning(directory: Path, detection: DetectionOptions, device: Device, photos: Images) -> TunedGraph:
    """List the choices to run a detector.

    Args:
        directory: Of the detector.
        detection: How closely photos are looked at.
        device: Where to compute.
        photos: (N, H, W, 3) uint8, RGB, of the size `common_canvas(detection)`; what scores are compared on.
    """
    graph, size = directory / DETECTOR_GRAPH, common_canvas(detection)
    expected = open_session(graph, DETECTOR_OUTPUTS, (size,), _REFERENCE).run(photos)
    sure = expected[0] >= _SURE_SCORE

    def check(_: RuntimeChoice, session: Session) -> str | None:
        scores, *places = session.run(photos)
        worst = float(np.abs(scores - expected[0]).max())
        if not worst <= _MAX_SCORE_DIFFERENCE:  # NaN must not pass
            return f"scores differ by {worst:.2g}"
        for found, wanted in zip(places, expected[1:], strict=True):
            moved = float(np.abs(found - wanted)[sure].max(initial=0.0))
            if not moved <= _MAX_OFFSET_DIFFERENCE:
                return f"faces lie elsewhere by {moved:.2g} strides"
        return None

    choices = [choice for choice in _choices(device, ("fp32",)) if choice.engine not in TENSORRT_ENGINES]
    one_by_one, batches = device == "cpu", PHOTO_BATCHES[device]
    return TunedGraph(lambda _: graph, DETECTOR_OUTPUTS, size, choices, batches, check, one_by_one=one_by_one)


def common_canvas(detection: DetectionOptions) -> tuple[int, int]:
    """Return the (height, width) at which most cameras' photos are looked at: 4 to 3."""
    return min(
        (size for size in canvases(detection) if size[1] == detection.max_side_px and size[0] * 4 >= size[1] * 3),
        key=lambda size: size[0],
    )


def _is_proven(card: Card, proof: dict[str, Any], choice: RuntimeChoice) -> bool:
    try:
        proven_runtime(card, proof, choice.options())
    except ArtefactUnfit:
        return False
    return True


def _choices(device: Device, graphs: Collection[str]) -> Iterator[RuntimeChoice]:
    """List the choices to run graphs of these precisions; what is not installed fails when it is tried."""
    if device == "cuda":
        for engine in _ENGINES_ON_GPU:
            for precision in [one for one in _GPU_PRECISIONS if one in graphs]:
                yield from (RuntimeChoice(engine, device, precision, 0, streams) for streams in _GPU_STREAMS)
        return
    cores = usable_cores()
    for precision in [one for one in _CPU_PRECISIONS if one in (*graphs, "bf16")]:
        for options in cpu_options(precision, cores):
            for streams in layouts(cores):
                assert options.engine != "auto"
                yield RuntimeChoice(options.engine, device, precision, cores, streams)
