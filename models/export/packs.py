"""Make packs: fetch the published files, convert both graphs, prove parity, write the cards.

The published graphs are brought to the contract of `models.graph` once, here, and the result is compared with them.
"""

import fcntl
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from models import detection
from models.alignment import TEMPLATES
from models.artefact.card import CARD, CONVERSION, DETECTOR_GRAPH, EMBEDDER_GRAPH, PROOF, Card, DetectorCard, write_card
from models.artefact.digests import directory_digests, file_digest
from models.artefact.directories import replace_directory
from models.artefact.parity import MAX_DETECTOR_DIFFERENCE
from models.artefact.proof import Proof
from models.detection.detector import DETECTOR_OUTPUTS
from models.errors import ArtefactUnfit, StorageFailed
from models.export.isolation import call
from models.export.proof import Reference, prove
from models.graph import (
    DetectorOutputs,
    Preprocessing,
    UnsupportedGraph,
    detector_graph,
    recognizer_graph,
    save_checked,
    simplify,
)
from models.packs.manifest import DetectorEntry, Manifest, RecognizerEntry
from models.packs.sources import fetch_published
from models.packs.store import DETECTOR_DIRECTORY, RECOGNIZER_DIRECTORY, PackStore
from models.runtime import RuntimeOptions, open_session
from models.synthetic import synthetic_pictures
from models.types import Progress, no_progress

_SCRATCH = "+"  # no pack's name has it, so fetching `own` does not sweep what is being fetched for `own-larger`
_FACES, _CANVAS_PX = 8, 640  # pictures for the proofs


def fetch_pack(store: PackStore, manifest: Manifest, progress: Progress, mirror: Path | None = None) -> Path:
    """Fetch a pack unless it is here and intact, and return its directory.

    The old directory stays until the new one is complete.

    Args:
        store: Where packs lie.
        manifest: The pack.
        progress: Told about every file.
        mirror: A directory that is tried before the sources of the manifest.

    Raises:
        SourceUnavailable: No source gave a file.
        ArtefactUnfit: The converted graph does not answer like the published one.
        StorageFailed: The file system refused to write.
    """
    if store.is_intact(manifest):
        return store.path(manifest)
    try:
        store.root.mkdir(parents=True, exist_ok=True)
        with _lock(store.root, manifest.name):
            if not store.is_intact(manifest):  # another process may have fetched it meanwhile
                _fetch(store.root, manifest, progress, mirror)
    except OSError as error:
        raise StorageFailed(f"the pack {manifest.name} could not be written: {error.strerror or error}") from error
    return store.path(manifest)


@contextmanager
def _lock(root: Path, name: str) -> Iterator[None]:
    """Keep other processes from fetching the same pack, and remove what a killed fetch left behind."""
    with (root / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for stale in root.glob(f".{name}{_SCRATCH}*"):
            shutil.rmtree(stale, ignore_errors=True)
        yield


def _fetch(root: Path, manifest: Manifest, progress: Progress, mirror: Path | None) -> None:
    with tempfile.TemporaryDirectory(prefix=f".{manifest.name}{_SCRATCH}", dir=root) as scratch:
        new = Path(scratch, "pack")
        published = fetch_published(manifest, Path(scratch, "published"), progress, mirror)
        if manifest.kind == "photos":
            published.rename(new)
        else:
            new.mkdir()
            progress("converting and comparing", 0, None)
            build_models(manifest, published, new)
        replace_directory(new, root / manifest.name, Path(scratch))


def build_models(manifest: Manifest, published: Path, target: Path) -> None:
    """Write `detector/` and `recognizer/` into `target`.

    Raises:
        ArtefactUnfit: A graph has a form that is not known, or the converted one answers differently.
    """
    if manifest.detector is None or manifest.recognizer is None:
        raise ArtefactUnfit(f"the pack {manifest.name} has no detector or no recognizer")
    try:
        build_detector(manifest.detector, published / manifest.detector.file, target / DETECTOR_DIRECTORY)
        build_recognizer(manifest.recognizer, published / manifest.recognizer.file, target / RECOGNIZER_DIRECTORY)
    except (UnsupportedGraph, onnx.checker.ValidationError, onnx.shape_inference.InferenceError, DecodeError) as error:
        raise ArtefactUnfit(f"the pack {manifest.name} cannot be converted: {error}") from error


def build_detector(entry: DetectorEntry, published: Path, target: Path) -> None:
    """Convert a published detector and write graph and card.

    Raises:
        ArtefactUnfit: The converted graph answers differently.
        UnsupportedGraph: The published graph has a form that is not known.
    """
    target.mkdir()
    path = target / DETECTOR_GRAPH
    source = simplify(onnx.load(published))
    outputs = _outputs(entry.family, source)
    save_checked(detector_graph(source, _preprocessing(entry), outputs), path)
    picture = synthetic_pictures(1, _CANVAS_PX, _CANVAS_PX)
    reference = _join(_run_published(published, _network_input(picture, entry)), outputs)
    candidate = _run(path, picture, DETECTOR_OUTPUTS)
    worst = float(np.max([np.abs(candidate[name] - reference[name]).max() for name in DETECTOR_OUTPUTS]))
    if not worst <= MAX_DETECTOR_DIFFERENCE:  # NaN must not pass
        raise ArtefactUnfit(f"the converted detector differs from {entry.file} by {worst:.2g}")
    write_card(
        target,
        DetectorCard(entry.family, entry.licence, file_digest(published), CONVERSION, directory_digests(target, CARD)),
    )


def build_recognizer(entry: RecognizerEntry, published: Path, target: Path) -> None:
    """Convert a published recognizer and write graph, proof and card.

    Raises:
        ArtefactUnfit: The converted graph answers differently.
        UnsupportedGraph: The published graph has a form that is not known.
    """
    target.mkdir()
    path, template = target / EMBEDDER_GRAPH, TEMPLATES[entry.template]
    save_checked(recognizer_graph(simplify(onnx.load(published)), _preprocessing(entry)), path)
    faces = synthetic_pictures(_FACES, template.height, template.width)
    reference = np.concatenate([_embed_published(published, _network_input(face[None], entry)) for face in faces])
    proof = _prove(path, entry, file_digest(published), faces, reference)
    (target / PROOF).write_text(json.dumps(proof.record(), indent=2) + "\n")
    if not proof.passed:
        why = "; ".join(
            f"{row.precision} on {row.engine}: {', '.join(row.why)}" for row in proof.rows if not row.passed
        )
        raise ArtefactUnfit(f"the converted recognizer differs from {entry.file}: {why}")
    card = Card(
        name=entry.name,
        family=entry.family,
        architecture=entry.architecture,
        licence=entry.licence,
        weights=file_digest(published),
        conversion=CONVERSION,
        height=template.height,
        width=template.width,
        dimensions=int(reference.shape[1]),
        template=entry.template,
        preprocessing=_preprocessing(entry).record(),
        files=directory_digests(target, CARD),
        source={"file": entry.file, "sha256": file_digest(published), "form": "onnx"},
        program=metadata.version("vultus"),
        color_from="the manifest",
    )
    write_card(target, card)


def _prove(
    graph: Path, entry: RecognizerEntry, sha256: str, faces: NDArray[np.uint8], reference: NDArray[np.float32]
) -> Proof:
    about = {"file": entry.file, "sha256": sha256, "runtime": f"onnx reference {onnx.__version__}"}
    with tempfile.TemporaryDirectory() as scratch:
        stored = Path(scratch, "faces.npy")
        np.save(stored, faces)
        pictures = f"{len(faces)} synthetic, seed 0"
        return prove({"fp32": graph}, Reference(about, stored, pictures, len(faces), reference), no_progress, call)


def _preprocessing(entry: DetectorEntry | RecognizerEntry) -> Preprocessing:
    return Preprocessing(entry.color, entry.mean, entry.std)


def _outputs(family: str, model: onnx.ModelProto) -> DetectorOutputs:
    names = [value.name for value in model.graph.output]
    if family == detection.YUNET.family:
        strides = detection.STRIDES
        return DetectorOutputs(
            scores=tuple((f"cls_{stride}", f"obj_{stride}") for stride in strides),
            boxes=tuple(f"bbox_{stride}" for stride in strides),
            landmarks=tuple(f"kps_{stride}" for stride in strides),
        )
    # SCRFD's names differ from file to file, their order does not: scores, boxes and landmarks of all strides.
    levels = len(detection.STRIDES)
    return DetectorOutputs(
        scores=tuple((name,) for name in names[:levels]),
        boxes=tuple(names[levels : 2 * levels]),
        landmarks=tuple(names[2 * levels : 3 * levels]),
    )


def _network_input(pictures: NDArray[np.uint8], entry: DetectorEntry | RecognizerEntry) -> NDArray[np.float32]:
    """Preprocess as the published graph wants it, independently of what the conversion put inside."""
    ordered = pictures if entry.color == "rgb" else pictures[..., ::-1]
    planes = ordered.transpose(0, 3, 1, 2).astype(np.float32)
    return np.ascontiguousarray((planes - np.float32(entry.mean)) / np.float32(entry.std))


def _run_published(graph: Path, images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Run a graph as it was published, by ONNX's own reference: ONNX Runtime refuses some block-quantised weights."""
    try:
        evaluator = ReferenceEvaluator(str(graph))
        arrays = evaluator.run(None, {_true_input(graph): images})
    except Exception as error:  # the evaluator raises whatever an unknown operator or a wrong shape makes it raise
        raise UnsupportedGraph(f"{graph.name} does not run as it was published: {error}") from error
    return dict(zip(evaluator.output_names, arrays, strict=True))


def _embed_published(graph: Path, face: NDArray[np.float32]) -> NDArray[np.float32]:
    (embedding_,) = _run_published(graph, face).values()
    return embedding_


def _true_input(graph: Path) -> str:
    return str(simplify(onnx.load(graph)).graph.input[0].name)


def _run(graph: Path, images: NDArray[np.uint8], outputs: tuple[str, ...]) -> dict[str, NDArray[np.float32]]:
    session = open_session(graph, outputs, (images.shape[1:3],), RuntimeOptions(engine="onnxruntime"))
    return dict(zip(outputs, session.run(images), strict=True))


def _join(raw: dict[str, NDArray[np.float32]], outputs: DetectorOutputs) -> dict[str, NDArray[np.float32]]:
    def flat(name: str, size: int) -> NDArray[np.float32]:
        return raw[name].reshape(1, -1, size)

    scores = [np.prod([flat(name, 1) for name in names], axis=0) ** (1 / len(names)) for names in outputs.scores]
    return {
        "scores": np.concatenate(scores, axis=1)[..., 0],
        "boxes": np.concatenate([flat(name, 4) for name in outputs.boxes], axis=1),
        "landmarks": np.concatenate([flat(name, 10) for name in outputs.landmarks], axis=1),
    }
