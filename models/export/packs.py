"""Make packs: fetch the published files, convert both graphs, prove parity, write the cards.

The conversion brings the published graphs to the contract of `models.graph`. The converted graphs are compared with the
published ones before a pack is stored.
"""

import fcntl
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
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
from models.artefact.card import (
    CARD,
    CONVERSION,
    DETECTOR_GRAPH,
    GRAPH_FILES,
    PROOF,
    Card,
    DetectorCard,
    write_card,
)
from models.artefact.digests import directory_digests, file_digest
from models.artefact.directories import link_target, replace_directory
from models.artefact.parity import GraphKind
from models.artefact.proof import Proof
from models.errors import ArtefactUnfit, InferenceFailed, StorageFailed
from models.export.detector_proof import proof_pictures, prove_detector
from models.export.isolation import run_here
from models.export.precision.plan import Int8Plan, read_plan
from models.export.proof import Reference, prove
from models.graph import (
    DetectorOutputs,
    Preprocessing,
    UnsupportedGraph,
    annotate,
    detector_graph,
    fold_batch_norms,
    recognizer_graph,
    save_checked,
    simplify,
)
from models.graph.quantize import WeightBits
from models.packs.manifest import DetectorEntry, Manifest, RecognizerEntry, find_manifest, int8_plan_file
from models.packs.sources import fetch_published
from models.packs.store import DETECTOR_DIRECTORY, RECOGNIZER_DIRECTORY, PackStore, require_new_name
from models.runtime.onnxruntime_engine import PlainGraph
from models.synthetic import synthetic_pictures
from models.types import Progress, no_progress

_SCRATCH = "+"  # not allowed in pack names, so that fetching `a` does not remove the scratch directory of `a-b`
_WEIGHT_BITS: WeightBits = 7
_FACES = 8  # synthetic faces for a recognizer's proof
_PHOTOS = "demo-photos"  # pack of photos for a detector's proof


def fetch_pack(store: PackStore, manifest: Manifest, progress: Progress, mirror: Path | None = None) -> Path:
    """Fetch a pack unless the store has it intact, and return its directory.

    An existing directory is replaced when the new one is complete.

    Args:
        store: The store of packs.
        manifest: The manifest of the pack.
        progress: Called with the progress of each file.
        mirror: A directory that is tried before the sources of the manifest; None if there is none.

    Raises:
        SourceUnavailable: A file could not be fetched from any source.
        ArtefactUnfit: A published graph is unsupported, or the outputs of a converted graph differ from it.
        StorageFailed: The file system refused to write.
    """
    if store.is_intact(manifest):
        return store.path(manifest)
    try:
        store.root.mkdir(parents=True, exist_ok=True)
        target = link_target(store.root / manifest.name)
        with _lock(store.root, manifest.name, target.parent):
            if not store.is_intact(manifest):  # another process may have fetched it meanwhile
                _fetch(store.root, target, manifest, progress, mirror)
    except OSError as error:
        raise StorageFailed(f"the pack {manifest.name} could not be written: {error.strerror or error}") from error
    return store.path(manifest)


def add_pack(store: PackStore, manifest: Manifest, progress: Progress) -> Path:
    """Make a pack from files that a manifest describes, keep the manifest, and return the directory of the pack.

    Raises:
        ManifestInvalid: A built-in pack has the name.
        SourceUnavailable, ArtefactUnfit, StorageFailed: See `fetch_pack`; the manifest is not kept then.
    """
    require_new_name(manifest)
    path = fetch_pack(store, manifest, progress)
    try:
        store.add(manifest)
    except OSError as error:
        raise StorageFailed(f"the pack {manifest.name} could not be kept: {error.strerror or error}") from error
    return path


@contextmanager
def _lock(root: Path, name: str, beside: Path) -> Iterator[None]:
    """Lock a pack against other processes, and remove scratch directories that killed fetches left behind."""
    with (root / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for stale in beside.glob(f".{name}{_SCRATCH}*"):
            shutil.rmtree(stale, ignore_errors=True)
        yield


def _fetch(root: Path, target: Path, manifest: Manifest, progress: Progress, mirror: Path | None) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{manifest.name}{_SCRATCH}", dir=target.parent) as scratch:
        new = Path(scratch, "pack")
        published = fetch_published(manifest, Path(scratch, "published"), progress, mirror)
        if manifest.kind == "photos":
            published.rename(new)
        else:
            new.mkdir()
            progress("converting and comparing", 0, None)
            build_models(manifest, published, new, _demo_photos(PackStore(root)))
        replace_directory(new, target, Path(scratch))


def _demo_photos(store: PackStore) -> Path | None:
    """Return the directory of the demonstration photos, or None if they are not fetched."""
    manifest = find_manifest(_PHOTOS)
    return store.path(manifest) if store.is_intact(manifest) else None


def build_models(manifest: Manifest, published: Path, target: Path, photos: Path | None = None) -> None:
    """Convert the published detector and recognizer of a pack, or the one that it has.

    Args:
        manifest: The manifest of the pack.
        published: Directory of the published files.
        target: Existing directory, in which `detector/` and `recognizer/` are written.
        photos: Directory of photos with faces, on which the detector is proven too; None if there is none.

    Raises:
        ArtefactUnfit: A published graph is unsupported, or the outputs of a converted graph differ from it.
    """
    try:
        if manifest.detector is not None:
            build_detector(manifest.detector, published / manifest.detector.file, target / DETECTOR_DIRECTORY, photos)
        if manifest.recognizer is not None:
            recognizer = published / manifest.recognizer.file
            plan = _plan(manifest.name, file_digest(recognizer))
            build_recognizer(manifest.recognizer, recognizer, target / RECOGNIZER_DIRECTORY, plan)
    except (UnsupportedGraph, onnx.checker.ValidationError, onnx.shape_inference.InferenceError, DecodeError) as error:
        raise ArtefactUnfit(f"the pack {manifest.name} cannot be converted: {error}") from error


def build_detector(entry: DetectorEntry, published: Path, target: Path, photos: Path | None = None) -> None:
    """Convert a published detector, prove parity, and write graph, proof and card.

    Args:
        entry: The detector's entry in the manifest.
        published: The published ONNX file.
        target: Directory to create. It has a graph and a proof, but no card, if the proof fails.
        photos: Directory of photos with faces, on which both graphs are compared too; None if there is none.

    Raises:
        ArtefactUnfit: The outputs of the converted graph differ from those of the published one.
        UnsupportedGraph: The published graph does not have a supported form.
    """
    target.mkdir()
    path = target / DETECTOR_GRAPH
    source = simplify(onnx.load(published))
    outputs = _outputs(entry.family, source)
    save_checked(detector_graph(source, _preprocessing(entry), outputs), path)

    original = _PublishedGraph(published)

    def run_published(picture: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        return _join(original.run(_network_input(picture, entry)), outputs)

    proof = prove_detector(path, _about(entry, file_digest(published), original), run_published, proof_pictures(photos))
    (target / PROOF).write_text(json.dumps(proof.record(), indent=2) + "\n")
    if proof.failures:
        raise ArtefactUnfit(f"the converted detector differs from {entry.file}: {'; '.join(proof.failures)}")
    write_card(
        target,
        DetectorCard(entry.family, entry.licence, file_digest(published), CONVERSION, directory_digests(target, CARD)),
    )


def _plan(pack: str, weights: str) -> Int8Plan | None:
    """Return the built-in plan of int8 for a pack, if it was measured with the weights of this SHA-256."""
    file = int8_plan_file(pack)
    plan = read_plan(file) if file else None
    return plan if plan is not None and plan.weights == weights else None


def build_recognizer(entry: RecognizerEntry, published: Path, target: Path, plan: Int8Plan | None = None) -> None:
    """Convert a published recognizer, prove parity, and write graphs, proof and card.

    The int8 graph has weights of 7 bits, which give the same result on every processor, so that the figures measured
    with it hold on all of them.

    Args:
        entry: The recognizer's entry in the manifest.
        published: The published ONNX file.
        target: Directory to create. It has a graph and a proof, but no card, if the proof fails.
        plan: Plan of an int8 graph; without it, there is only a float32 graph.

    Raises:
        ArtefactUnfit: The converted graph did not pass its parity proof.
        UnsupportedGraph: The published graph does not have a supported form.
    """
    target.mkdir()
    graphs: dict[GraphKind, Path] = {"fp32": target / GRAPH_FILES["fp32"]}
    template = TEMPLATES[entry.template]
    model = recognizer_graph(simplify(onnx.load(published)), _preprocessing(entry))
    fold_batch_norms(model)
    save_checked(model, graphs["fp32"])
    if plan is not None:
        graphs["int8-cpu"] = target / GRAPH_FILES["int8-cpu"]
        quantized = plan.apply(model, _WEIGHT_BITS)
        annotate(quantized, {"precision": "int8", "weight_bits": str(_WEIGHT_BITS), "measured_on": plan.measured_on})
        save_checked(quantized, graphs["int8-cpu"])
    faces = synthetic_pictures(_FACES, template.height, template.width)
    original = _PublishedGraph(published)
    reference = np.concatenate([original.embed(_network_input(face[None], entry)) for face in faces])
    proof = _prove(graphs, _about(entry, file_digest(published), original), faces, reference)
    (target / PROOF).write_text(json.dumps(proof.record(), indent=2) + "\n")
    if not proof.passed:
        why = "; ".join(
            f"{row.precision} on {row.engine}: {', '.join(row.why)}"
            for row in proof.rows
            if row.asked and not row.passed
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
        graphs={kind: path.name for kind, path in graphs.items()},
        weight_bits={graphs["int8-cpu"].name: _WEIGHT_BITS} if plan else {},
    )
    write_card(target, card)


def _prove(
    graphs: Mapping[GraphKind, Path],
    about: dict[str, str],
    faces: NDArray[np.uint8],
    reference: NDArray[np.float32],
) -> Proof:
    with tempfile.TemporaryDirectory() as scratch:
        stored = Path(scratch, "faces.npy")
        np.save(stored, faces)
        pictures = f"{len(faces)} synthetic, seed 0"
        return prove(
            graphs,
            Reference(about, stored, pictures, len(faces), reference),
            no_progress,
            run_here,
        )


def _about(entry: DetectorEntry | RecognizerEntry, sha256: str, graph: "_PublishedGraph") -> dict[str, str]:
    """Return the description of a published graph as the reference of a proof."""
    return {"file": entry.file, "sha256": sha256, "runtime": graph.runtime}


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
    # The names of SCRFD's outputs differ between files. Their order is fixed: scores, boxes, landmarks, each by stride.
    levels = len(detection.STRIDES)
    return DetectorOutputs(
        scores=tuple((name,) for name in names[:levels]),
        boxes=tuple(names[levels : 2 * levels]),
        landmarks=tuple(names[2 * levels : 3 * levels]),
    )


def _network_input(pictures: NDArray[np.uint8], entry: DetectorEntry | RecognizerEntry) -> NDArray[np.float32]:
    """Preprocess for the published graph, independently of the preprocessing inside the converted one.

    Args:
        pictures: (N, H, W, 3) uint8, RGB.
        entry: Colour order, mean and deviation of the published graph's input.

    Returns:
        (N, 3, H, W) float32.
    """
    ordered = pictures if entry.color == "rgb" else pictures[..., ::-1]
    planes = ordered.transpose(0, 3, 1, 2).astype(np.float32)
    return np.ascontiguousarray((planes - np.float32(entry.mean)) / np.float32(entry.std))


class _PublishedGraph:
    """A published graph, which ONNX Runtime runs, or ONNX's reference evaluator where it cannot.

    ONNX Runtime rejects some block-quantised weights, and pictures of another size than a graph states.
    """

    def __init__(self, graph: Path) -> None:
        self._graph = graph
        self._evaluator: ReferenceEvaluator | None = None
        try:
            self._plain: PlainGraph | None = PlainGraph(graph)
        except InferenceFailed:
            self._plain = None

    @property
    def runtime(self) -> str:
        """Name and version of what has run the graph."""
        return f"onnx reference {onnx.__version__}" if self._plain is None else self._plain.version

    def run(self, images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Return all outputs by name.

        Raises:
            UnsupportedGraph: The graph does not run.
        """
        if self._plain is not None:
            try:
                arrays = self._plain.run(images)
            except InferenceFailed:
                self._plain = None
            else:
                return dict(zip((output.name for output in self._plain.outputs), arrays, strict=True))
        try:
            self._evaluator = self._evaluator or ReferenceEvaluator(str(self._graph))
            found = self._evaluator.run(None, {_input_name(self._graph): images})
        except Exception as error:  # the evaluator raises many classes for unknown operators and wrong shapes
            raise UnsupportedGraph(f"the published graph {self._graph.name} does not run: {error}") from error
        return dict(zip(self._evaluator.output_names, found, strict=True))

    def embed(self, face: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the only output, for one face."""
        (embedding,) = self.run(face).values()
        return embedding


def _input_name(graph: Path) -> str:
    """Return the name of the image input, also if the file lists its weights as inputs."""
    return str(simplify(onnx.load(graph)).graph.input[0].name)


def _join(raw: dict[str, NDArray[np.float32]], outputs: DetectorOutputs) -> dict[str, NDArray[np.float32]]:
    """Join the published detector's outputs of all strides as the converted graph does."""

    def flat(name: str, size: int) -> NDArray[np.float32]:
        return raw[name].reshape(1, -1, size)

    scores = [np.prod([flat(name, 1) for name in names], axis=0) ** (1 / len(names)) for names in outputs.scores]
    return {
        "scores": np.concatenate(scores, axis=1)[..., 0],
        "boxes": np.concatenate([flat(name, 4) for name in outputs.boxes], axis=1),
        "landmarks": np.concatenate([flat(name, 10) for name in outputs.landmarks], axis=1),
    }
