"""Compare a model with its reference on the CPU where its proof was measured elsewhere.

The arithmetic of lower precisions depends on the processor, so a proof holds for the instruction set on which it was
measured. Elsewhere the embeddings are compared at loading, with the limits of the proof. The reference is the float32
graph; for int8 it is the int8 graph in exact arithmetic, because synthetic pictures exceed the ranges that were
measured on faces. float32 on a CPU is not compared: its rounding differs by a hundredth of its limits. On a GPU every
graph is compared, that of the detector too. A passed comparison is stored with its measures and not repeated.
"""

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from models.artefact.card import DETECTOR_GRAPH, Card, DetectorCard
from models.artefact.digests import value_digest
from models.artefact.directories import make_directory, write_text
from models.artefact.parity import LIMITS, MAX_DETECTOR_DIFFERENCE, compare
from models.detection.detector import DETECTOR_OUTPUTS
from models.embedding import EMBEDDER_OUTPUTS
from models.errors import ArtefactUnfit, InferenceFailed, StorageFailed
from models.runtime import Precision, RuntimeOptions, Session, SessionDescription, open_session
from models.runtime.instructions import instruction_set, saturates
from models.runtime.loading import TENSORRT_ENGINES
from models.runtime.pool import members_of
from models.runtime.session import Arrays
from models.serving.tuning.machine import describe_machine
from models.synthetic import synthetic_pictures
from models.types import Embeddings, Floats, Images

_log = logging.getLogger("vultus")

_FACES = 16  # synthetic crops
_PICTURES = 2  # synthetic photos of each size
_REFERENCE = RuntimeOptions("onnxruntime", precision="fp32")
_VERSION = 2  # version 1 had no measures


def is_proven_here(session: SessionDescription, isa: str | None, device: str) -> bool:
    """Return whether a proof measured on an instruction set holds for a session.

    Args:
        session: The actual configuration.
        isa: Instruction set on which the proof was measured; None if the proof does not state it.
        device: Device that computes. Proofs are measured on CPUs.
    """
    return device == "cpu" and (session.precision == "fp32" or isa == instruction_set(session.engine))


def reference_embeddings(directory: Path, card: Card, graph: str, precision: Precision, faces: Images) -> Floats:
    """Embed faces with ONNX Runtime on the CPU as a graph should embed them.

    Args:
        directory: Directory of the artefact.
        card: Card of the artefact.
        graph: File name of the graph.
        precision: Precision of the graph.
        faces: (N, H, W, 3) uint8, RGB.

    Returns:
        (N, D) float32, embeddings before normalisation: of the float32 graph, or of an int8 graph in exact arithmetic.
    """
    if precision == "int8":
        from models.runtime.onnxruntime_engine import exact_embeddings  # on use, because every engine is optional

        return exact_embeddings(directory / graph, faces)
    plain = open_session(directory / card.graphs["fp32"], EMBEDDER_OUTPUTS, (faces.shape[1:3],), _REFERENCE)
    return Embeddings(*plain.run(faces)).raw


def require_parity(session: Session, directory: Path, card: Card, graph: str) -> list[dict[str, Any]]:
    """Compare a session, on each of its GPUs, with its reference on synthetic faces, see `reference_embeddings`.

    Returns:
        The measures of each GPU; of one session on a CPU.

    Raises:
        ArtefactUnfit: The embeddings differ by more than the limits of the precision, or are not finite.
    """
    faces, described = synthetic_pictures(_FACES, card.height, card.width), session.describe()
    reference, rows = reference_embeddings(directory, card, graph, described.precision, faces), []
    for member in members_of(session):
        try:
            parity = compare(reference, Embeddings(*member.run(faces)))
            failures = parity.failures(described.precision)
            rows.append(parity.record())
        except InferenceFailed as error:
            failures = [str(error)]
        if failures:
            where = "this GPU" if described.threads == 0 else f"this processor ({instruction_set(described.engine)})"
            raise ArtefactUnfit(
                f"{card.name} in {described.precision} on {described.engine} is not the same model on {where}: "
                f"{'; '.join(failures)}; {_advice(card, described)}"
            )
    return rows


def require_detector_parity(session: Session, graph: Path, sizes: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """Compare a detector, on each of its GPUs, with ONNX Runtime on the CPU, on synthetic pictures.

    The pictures have the smallest and the largest size, and run alone and as a batch, because engines choose a kernel
    for each shape.

    Returns:
        The measures of each GPU and size.

    Raises:
        ArtefactUnfit: An output differs by more than the limit of detectors, or is not finite.
    """
    plain = open_session(graph, DETECTOR_OUTPUTS, tuple(sizes), _REFERENCE)
    engine, rows = session.describe().engine, []
    for size in (min(sizes, key=math.prod), max(sizes, key=math.prod)):
        pictures = synthetic_pictures(_PICTURES, *size)
        expected = plain.run(pictures)
        for member in members_of(session):
            try:
                worst = max(_largest_difference(member.run(pictures[:count]), expected) for count in (1, _PICTURES))
            except InferenceFailed as error:
                raise ArtefactUnfit(f"the detector cannot run on {engine} on this GPU: {error}") from error
            if not worst <= MAX_DETECTOR_DIFFERENCE:  # written so that NaN fails
                raise ArtefactUnfit(
                    f"the detector on {engine} is not the same model on this GPU: its outputs for {size[1]} x "
                    f"{size[0]} pixels differ by {worst:.2g}, more than {MAX_DETECTOR_DIFFERENCE:g}; "
                    "serve on another engine"
                )
            rows.append({"height": size[0], "width": size[1], "worst": worst})
    return rows


def _largest_difference(actual: Arrays, expected: Arrays) -> float:
    return max(float(np.abs(one - other[: len(one)]).max()) for one, other in zip(actual, expected, strict=True))


def _advice(card: Card, session: SessionDescription) -> str:
    if session.precision == "fp32":
        return "serve it on another engine"
    has_spare_bit = 7 in card.weight_bits.values()
    if session.precision == "int8" and session.threads and saturates(session.engine) and not has_spare_bit:
        return "export it with --weight-bits 7, or serve another precision"
    return "serve another precision"


class ComparisonKey(NamedTuple):
    """What a comparison depends on.

    Attributes:
        machine: The machine and the versions of the engines, see `describe_machine`.
        isa: Instruction set that the engine uses.
        artefact: SHA-256 over the files of the artefact.
        graph: File name of the graph.
        engine, device, precision: How the graph runs.
        limits: Limits of the precision, or of the detector.
    """

    machine: dict[str, str]
    isa: str
    artefact: str
    graph: str
    engine: str
    device: str
    precision: str
    limits: dict[str, float | None]

    @property
    def digest(self) -> str:
        """Name of the file of a passed comparison, without extension."""
        return value_digest(self._asdict())[:32]


def comparison_key(card: Card, graph: str, session: SessionDescription, device: str) -> ComparisonKey:
    """Return the key of a comparison of a recognizer on this machine."""
    return _key(card.files, graph, session, device, asdict(LIMITS[session.precision]))


def detector_key(card: DetectorCard, session: SessionDescription, device: str) -> ComparisonKey:
    """Return the key of a comparison of a detector on this machine."""
    return _key(card.files, DETECTOR_GRAPH, session, device, {"worst": MAX_DETECTOR_DIFFERENCE})


def _key(
    files: dict[str, str], graph: str, session: SessionDescription, device: str, limits: dict[str, float | None]
) -> ComparisonKey:
    return ComparisonKey(
        describe_machine(),
        instruction_set(session.engine),
        value_digest(files),
        graph,
        session.engine,
        device,
        session.precision,
        limits,
    )


def has_passed(directory: Path | None, key: ComparisonKey) -> bool:
    """Return whether a comparison passed earlier. TensorRT may rebuild its engines, so it is compared every time."""
    if directory is None or key.engine in TENSORRT_ENGINES:
        return False
    try:
        content: dict[str, Any] = json.loads((directory / f"{key.digest}.json").read_text())
        digest = content.pop("digest")
        intact = digest == value_digest(content) and content["version"] == _VERSION
        return bool(intact and content["key"] == key._asdict())  # the file may have been renamed
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def keep_passed(directory: Path | None, key: ComparisonKey, rows: Sequence[dict[str, Any]]) -> None:
    """Store that a comparison passed, if there is a directory; a file system that refuses it is logged."""
    if directory is None:
        return
    try:
        write_passed(directory, key, rows)
    except StorageFailed as error:
        _log.warning("%s, so the comparison will be repeated at the next start", error)


def write_passed(directory: Path, key: ComparisonKey, rows: Sequence[dict[str, Any]]) -> None:
    """Store atomically that a comparison passed, with its measures.

    Raises:
        StorageFailed: The file system refused the write.
    """
    make_directory(directory)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    content = {"version": _VERSION, "key": key._asdict(), "compared_at": now, "measured": list(rows)}
    text = json.dumps({**content, "digest": value_digest(content)}, indent=1) + "\n"
    write_text(directory / f"{key.digest}.json", text)
