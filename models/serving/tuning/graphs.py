"""The graphs to tune: every choice that the proof covers and this machine supports, with a check of its outputs."""

from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from models.artefact.card import DETECTOR_GRAPH, PROOF, Card, DetectorCard
from models.artefact.digests import value_digest
from models.artefact.parity import compare
from models.detection.detector import DETECTOR_OUTPUTS, DetectionOptions, canvases
from models.embedding import EMBEDDER_OUTPUTS
from models.errors import ArtefactUnfit
from models.runtime import RuntimeOptions, Session, cpu_options, open_session, usable_cores
from models.runtime.session import Device, Engine, Precision
from models.serving.choice import ProvenRuntime, proven_runtimes
from models.serving.comparison import is_proven_here, reference_embeddings
from models.serving.tuning.machine import describe_machine
from models.serving.tuning.records import RuntimeChoice, TuningKey
from models.serving.tuning.tuner import TunedGraph, stream_counts
from models.types import Embeddings, Floats, Images

FACE_BATCHES: dict[Device, tuple[int, ...]] = {"cpu": (1, 2, 4, 8, 16), "cuda": (1, 2, 4, 8, 16, 32, 64, 128)}
PHOTO_BATCHES: dict[Device, tuple[int, ...]] = {"cpu": (1,), "cuda": (1, 4, 8, 16)}

_CPU_PRECISIONS: tuple[Precision, ...] = ("bf16", "fp32", "int8")  # first what an untuned machine runs
_GPU_PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
_ENGINES_ON_GPU: tuple[Engine, ...] = ("onnxruntime", "onnxruntime-tensorrt", "tensorrt")
_GPU_STREAMS = (1, 2)  # a second stream uploads while the first computes
_FACE_SCORE = 0.5  # boxes and landmarks are compared where the reference score is at least this
_MAX_OFFSET_DIFFERENCE = 0.1  # of boxes and landmarks, in units of a stride (8 to 32 pixels)
_MAX_SCORE_DIFFERENCE = 0.05  # needed for bfloat16; the score thresholds of the detectors are 0.5 and 0.6
_REFERENCE = RuntimeOptions("onnxruntime", precision="fp32")


def tuning_key(card: Card, detector: DetectorCard, detection: DetectionOptions, device: Device) -> TuningKey:
    """Return the key of a tuning: this machine and device, the graphs, and the image size of the detector."""
    graphs = {kind: card.files.get(file, "") for kind, file in (*card.graphs.items(), ("proof", PROOF))}
    graph_digests = value_digest(graphs), value_digest(detector.files)
    return TuningKey(describe_machine(), device, *graph_digests, detection.max_side_px)


def recognizer_tuning(
    directory: Path,
    card: Card,
    proof: dict[str, Any],
    device: Device,
    faces: Images,
    precisions: Collection[Precision] | None = None,
) -> TunedGraph:
    """Return a recognizer's graph with the choices to measure.

    Args:
        directory: Directory of the artefact.
        card: Card of the artefact.
        proof: Content of the artefact's `parity.json`.
        device: Device that computes.
        faces: (N, H, W, 3) uint8, RGB, aligned crops on which outputs are compared where the proof does not hold.
        precisions: Precisions to measure; None measures all.
    """

    def runtime_of(choice: RuntimeChoice) -> ProvenRuntime:
        return proven_runtimes(card, proof, choice.options())[0]

    def file(choice: RuntimeChoice) -> Path:
        return directory / runtime_of(choice).graph

    @cache
    def reference(graph: str, precision: Precision) -> Floats:
        return reference_embeddings(directory, card, graph, precision, faces)

    def check(choice: RuntimeChoice, session: Session) -> str | None:
        runtime = runtime_of(choice)
        if is_proven_here(session.describe(), runtime.isa, device):
            return None
        is_int8 = choice.precision == "int8"
        expected = reference(runtime.graph, "int8") if is_int8 else reference(card.graphs["fp32"], "fp32")
        return "; ".join(compare(expected, Embeddings(*session.run(faces))).failures(choice.precision)) or None

    available = {"int8" if kind == "int8-cpu" and device == "cpu" else kind for kind in card.graphs}
    choices = [
        choice
        for choice in _choices(device, available)
        if (precisions is None or choice.precision in precisions) and _is_proven(card, proof, choice)
    ]
    return TunedGraph(file, EMBEDDER_OUTPUTS, (card.height, card.width), choices, FACE_BATCHES[device], check)


def detector_tuning(directory: Path, detection: DetectionOptions, device: Device, photos: Images) -> TunedGraph:
    """Return a detector's graph with the choices to measure.

    Args:
        directory: Directory of the detector.
        detection: Detector options, such as the image size.
        device: Device that computes.
        photos: (N, H, W, 3) uint8, RGB, of size `common_canvas(detection)`; outputs are compared on them.
    """
    graph, size = directory / DETECTOR_GRAPH, common_canvas(detection)
    expected = open_session(graph, DETECTOR_OUTPUTS, (size,), _REFERENCE).run(photos)
    is_face = expected[0] >= _FACE_SCORE

    def check(_: RuntimeChoice, session: Session) -> str | None:
        scores, *offsets = session.run(photos)
        worst = float(np.abs(scores - expected[0]).max())
        if not worst <= _MAX_SCORE_DIFFERENCE:  # written so that NaN fails
            return f"scores differ by {worst:.2g}"
        for actual, reference in zip(offsets, expected[1:], strict=True):
            moved = float(np.abs(actual - reference)[is_face].max(initial=0.0))
            if not moved <= _MAX_OFFSET_DIFFERENCE:
                return f"boxes or landmarks differ by {moved:.2g} strides"
        return None

    choices = [choice for choice in _choices(device, ("fp32",)) if choice.engine != "tensorrt"]  # has one image size
    single_image, batches = device == "cpu", PHOTO_BATCHES[device]
    return TunedGraph(lambda _: graph, DETECTOR_OUTPUTS, size, choices, batches, check, single_image=single_image)


def common_canvas(detection: DetectionOptions) -> tuple[int, int]:
    """Return the (height, width) of the detector input for photos of 4 to 3, the format of most cameras."""
    return min(
        (size for size in canvases(detection) if size[1] == detection.max_side_px and size[0] * 4 >= size[1] * 3),
        key=lambda size: size[0],
    )


def _is_proven(card: Card, proof: dict[str, Any], choice: RuntimeChoice) -> bool:
    try:
        proven_runtimes(card, proof, choice.options())
    except ArtefactUnfit:
        return False
    return True


def _choices(device: Device, graphs: Collection[str]) -> Iterator[RuntimeChoice]:
    """List the ways to run graphs of these precisions. On CUDA, missing engines fail when they are measured."""
    if device == "cuda":
        for engine in _ENGINES_ON_GPU:
            for precision in [precision for precision in _GPU_PRECISIONS if precision in graphs]:
                yield from (RuntimeChoice(engine, device, precision, 0, streams) for streams in _GPU_STREAMS)
        return
    cores = usable_cores()
    for precision in [precision for precision in _CPU_PRECISIONS if precision in (*graphs, "bf16")]:
        for options in sorted(cpu_options(precision, cores), key=lambda options: options.engine != "openvino"):
            for streams in stream_counts(cores):
                assert options.engine != "auto"
                yield RuntimeChoice(options.engine, device, precision, cores, streams)
