"""Run every precision on every engine of this machine beside the reference, and write down what came of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np

from models.artefact.parity import Floats, GraphKind, compare
from models.artefact.proof import LabelledScore, Proof, ProofRow
from models.embedding import EMBEDDER_OUTPUTS
from models.errors import VultusError
from models.export.labelled import Labelled
from models.runtime import Precision, RuntimeOptions, cpu_options, open_session
from models.runtime.onnxruntime_engine import PlainGraph
from models.types import Embeddings, Progress, no_progress

_BATCH = 256


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """The network's own answers.

    Attributes:
        about: What gave them, for the proof.
        faces: `.npy` file of the pictures, (N, H, W, 3) uint8, RGB.
        pictures: What they are, for the proof.
        drawn: How many of them, at the beginning, are drawn: int8 is not judged by those if there are others.
        embeddings: (N, D) float32 before normalisation.
        labelled: A labelled set, if one was given.
        labelled_embeddings: (M, D) float32 before normalisation, of its faces.
    """

    about: Mapping[str, str]
    faces: Path
    pictures: str
    drawn: int
    embeddings: Floats
    labelled: Labelled | None = None
    labelled_embeddings: Floats | None = None


def prove(
    graphs: Mapping[GraphKind, Path],
    reference: Reference,
    progress: Progress,
    isolate: Callable[..., list[Embeddings]],
) -> Proof:
    """Measure every graph on every engine of this machine; the float32 one in bfloat16 as well where there is any.

    Args:
        graphs: ONNX files in the contract of `models.graph` by their precision.
        reference: The network's own answers.
        progress: Called with each precision and engine, and the faces done.
        isolate: Calls a function with arguments, in a process of its own or not.
    """
    score: LabelledScore | None = None
    if reference.labelled is not None and reference.labelled_embeddings is not None:
        score = reference.labelled.score(_unit(reference.labelled_embeddings))
    rows = []
    for precision, graph, asked in _runs(graphs):
        for options in cpu_options(arithmetic(precision)):
            run = partial(isolate, progress=progress)
            rows.append(_measure(precision, graph, options, reference, score, asked, run))
    return Proof(
        reference.about, reference.pictures, reference.labelled.name if reference.labelled else None, score, tuple(rows)
    )


def prove_insightface(graph: Path, reference: Reference, isolate: Callable[..., Embeddings]) -> Proof:
    """Measure a graph of insightface's layout, given what `ArcFaceONNX` gives it."""
    own = isolate(embed_as_insightface, graph, reference.faces)
    parity = compare(reference.embeddings, own)
    row = ProofRow("fp32", "onnxruntime", _version("onnxruntime"), True, parity, None, tuple(parity.failures("fp32")))
    return Proof(reference.about, reference.pictures, None, None, (row,))


def embed_as_insightface(graph: Path, file: Path) -> Embeddings:
    """Embed faces as `ArcFaceONNX` does; made to run in a process of its own."""
    planes = (np.load(file).astype(np.float32) - np.float32(127.5)) / np.float32(127.5)
    raw = PlainGraph(graph).run(np.ascontiguousarray(planes.transpose(0, 3, 1, 2)))[0]
    norm: Floats = np.linalg.norm(raw, axis=1)
    return Embeddings(raw / norm[:, None], norm)


def arithmetic(kind: GraphKind) -> Precision:
    """Return the precision that an engine is asked for."""
    return "int8" if kind == "int8-cpu" else kind


def _runs(graphs: Mapping[GraphKind, Path]) -> list[tuple[GraphKind, Path, bool]]:
    runs = [(kind, graph, kind != "int8-cpu") for kind, graph in graphs.items()]  # that one is an offer of ours
    return [*runs, ("bf16", graphs["fp32"], False)] if "fp32" in graphs else runs


def _measure(
    precision: GraphKind,
    graph: Path,
    options: RuntimeOptions,
    reference: Reference,
    labelled_reference: LabelledScore | None,
    asked: bool,
    isolate: Callable[..., list[Embeddings]],
) -> ProofRow:
    labelled = reference.labelled
    files = [reference.faces, *([labelled.faces] if labelled else [])]
    engine, version = options.engine, _version(options.engine)
    try:
        own, *more = isolate(embed_files, graph, files, options, f"proving {precision} on {engine}")
    except VultusError as error:
        return ProofRow(precision, engine, version, asked, None, None, (str(error),))
    threshold = labelled_reference.threshold if labelled_reference else None
    first = reference.drawn if arithmetic(precision) == "int8" and reference.drawn < len(reference.embeddings) else 0
    parity = compare(reference.embeddings[first:], Embeddings(own.embedding[first:], own.norm[first:]), threshold)
    why = parity.failures(precision)
    score = labelled.score(more[0].embedding) if labelled else None
    if score is not None and labelled_reference is not None:
        why += score.failures(labelled_reference)
    return ProofRow(precision, engine, version, asked, parity, score, tuple(why))


def embed_files(
    graph: Path,
    files: Sequence[Path],
    options: RuntimeOptions,
    step: str = "embedding",
    progress: Progress = no_progress,
) -> list[Embeddings]:
    """Embed the faces of `.npy` files with one session; made to run in a process of its own."""
    progress(step, 0, None)
    arrays = [np.load(path, mmap_mode="r") for path in files]
    session = open_session(graph, EMBEDDER_OUTPUTS, (arrays[0].shape[1:3],), options)
    embedded = []
    for faces in arrays:
        parts = []
        for start in range(0, len(faces), _BATCH):
            parts.append(session.run(faces[start : start + _BATCH]))
            progress(step, start + len(parts[-1][0]), len(faces))
        embedded.append(Embeddings(*map(np.concatenate, zip(*parts, strict=True))))
    return embedded


def _version(engine: str) -> str:
    try:
        return metadata.version(engine)
    except metadata.PackageNotFoundError:
        return metadata.version(f"{engine}-gpu")


def _unit(embeddings: Floats) -> Floats:
    unit: Floats = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return unit
