"""The graphs to tune: every choice that the proof covers and this machine supports, with a check of its outputs."""

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
from models.runtime.session import Device, Engine, Precision
from models.serving.choice import proven_runtimes
from models.serving.tuning.machine import describe_machine
from models.serving.tuning.records import RuntimeChoice, TuningKey
from models.serving.tuning.tuner import TunedGraph, stream_counts
from models.types import Embeddings

FACE_BATCHES: dict[Device, tuple[int, ...]] = {"cpu": (1, 2, 4, 8, 16), "cuda": (1, 2, 4, 8, 16, 32, 64, 128)}
PHOTO_BATCHES: dict[Device, tuple[int, ...]] = {"cpu": (1,), "cuda": (1, 4, 8, 16)}

_CPU_PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")
_GPU_PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
_ENGINES_ON_GPU: tuple[Engine, ...] = ("onnxruntime", "onnxruntime-tensorrt", "tensorrt")
_GPU_STREAMS = (1, 2)  # a second stream uploads while the first computes
_FACE_SCORE = 0.5  # boxes and landmarks are compared where the reference score is at least this
_MAX_OFFSET_DIFFERENCE = 0.1  # of boxes and landmarks, in units of a stride (8 to 32 pixels)
_MAX_SCORE_DIFFERENCE = 0.05  # needed for bfloat16; the score thresholds of the detectors are 0.5 and 0.6
_REFERENCE = RuntimeOptions("onnxruntime", precision="fp32")

Images = NDArray[np.uint8]


def tuning_key(card: Card, detector: DetectorCard, detection: DetectionOptions, device: Device) -> TuningKey:
    """Return the key of a tuning: this machine and device, the graphs, and the image size of the detector."""
    graphs = {kind: card.files.get(file, "") for kind, file in (*card.graphs.items(), ("proof", PROOF))}
    graph_digests = value_digest(graphs), value_digest(detector.files)
    return TuningKey(describe_machine(), device, *graph_digests, detection.max_side_px)


def recognizer_tuning(
    directory: Path, card: Card, proof: dict[str, Any], device: Device, faces: Images, real: bool
) -> tuple[TunedGraph, list[str]]:
    """Return a recognizer's graph with the choices to measure.

    Args:
        directory: Directory of the artefact.
        card: Card of the artefact.
        proof: Content of the artefact's `parity.json`.
        device: Device that computes.
        faces: (N, H, W, 3) uint8, RGB, aligned crops on which outputs are compared.
        real: Whether `faces` shows real faces. int8 is calibrated on faces, so only faces can check it.

    Returns:
        The graph to tune, and the reasons why choices were excluded.
    """
    size = (card.height, card.width)
    reference = Embeddings(
        *open_session(directory / card.graphs["fp32"], EMBEDDER_OUTPUTS, (size,), _REFERENCE).run(faces)
    )
    raw = reference.raw

    def check(choice: RuntimeChoice, session: Session) -> str | None:
        return "; ".join(compare(raw, Embeddings(*session.run(faces))).failures(choice.precision)) or None

    def file(choice: RuntimeChoice) -> Path:
        return directory / proven_runtimes(card, proof, choice.options())[0].graph

    choices = [choice for choice in _choices(device, card.graphs) if _is_proven(card, proof, choice)]
    excluded = []
    if not real and any(choice.precision == "int8" for choice in choices):
        choices = [choice for choice in choices if choice.precision != "int8"]
        excluded.append("int8: not checked, because it requires photos of faces; pass them with --photos")
    return TunedGraph(file, EMBEDDER_OUTPUTS, size, choices, FACE_BATCHES[device], check), excluded


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
        for options in cpu_options(precision, cores):
            for streams in stream_counts(cores):
                assert options.engine != "auto"
                yield RuntimeChoice(options.engine, device, precision, cores, streams)
