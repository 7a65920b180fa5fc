"""Prove parity: run every graph on every engine of this machine and compare its embeddings with the reference.

The reference is the source network: torch runs a checkpoint, and a published graph runs unconverted. In both cases the
preprocessing is computed outside of the graph, independently of the preprocessing inside the exported one. A row of the
proof is one precision on one engine. `models.artefact.parity` defines the measures and the limits of each precision.
Engines run the faces in batches of several sizes and the reference runs them in others, so that a graph in which an
embedding depends on its batch differs.
"""

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
from models.export.independence import in_batches
from models.export.labelled import Labelled
from models.runtime import Precision, RuntimeOptions, cpu_options, open_session
from models.runtime.instructions import instruction_set
from models.runtime.onnxruntime_engine import PlainGraph, exact_embeddings
from models.types import Embeddings, Progress, no_progress

_BATCH = 256


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """The embeddings of the source network, against which every graph is measured.

    Attributes:
        about: Source file, its digest and form, and the runtime that computed the embeddings; written into the proof.
        faces: `.npy` file of the faces, (N, H, W, 3) uint8, RGB.
        pictures: Number and origin of the faces; written into the proof.
        drawn: Number of synthetic faces, which come first. If other faces follow, int8 is measured on them only; if
            none does, int8 is compared with its exact arithmetic.
        embeddings: (N, D) float32, embeddings before normalisation.
        labelled: A labelled set; None if the user gave none.
        labelled_embeddings: (M, D) float32, embeddings of the set's faces before normalisation.
        published: Arithmetic of the published graph that ONNX Runtime ran; None for a checkpoint, and for the graphs of
            packs. No graph is held to closer limits, and an engine that lacks operators of the graph is not required.
    """

    about: Mapping[str, str]
    faces: Path
    pictures: str
    drawn: int
    embeddings: Floats
    labelled: Labelled | None = None
    labelled_embeddings: Floats | None = None
    published: GraphKind | None = None


def prove(
    graphs: Mapping[GraphKind, Path],
    reference: Reference,
    progress: Progress,
    isolate: Callable[..., list[Embeddings]],
) -> Proof:
    """Measure every graph on every engine that this machine has for its precision.

    The float32 graph is also measured in bfloat16 arithmetic where an engine supports it. An engine that fails yields a
    row with the reason; it does not end the proof.

    Args:
        graphs: ONNX files in the contract of `models.graph`, by precision.
        reference: The embeddings of the source network.
        progress: Called with the precision, the engine and the number of faces done.
        isolate: Calls a function with its arguments and a `progress`: `run_in_subprocess`, or `run_here` for
            small models.

    Returns:
        A proof with one row for each precision and engine. It passes if every required row passes. The rows of
        `int8-cpu` and of bfloat16 are optional, all others are required.
    """
    score: LabelledScore | None = None
    if reference.labelled is not None and reference.labelled_embeddings is not None:
        score = reference.labelled.score(_unit(reference.labelled_embeddings))
    rows = []
    for precision, graph, required in _runs(graphs):
        for options in cpu_options(arithmetic(precision)):
            run = partial(isolate, progress=progress)
            rows.append(_measure(precision, graph, options, reference, score, required, run))
    return Proof(
        reference.about, reference.pictures, reference.labelled.name if reference.labelled else None, score, tuple(rows)
    )


def prove_insightface(graph: Path, reference: Reference, isolate: Callable[..., Embeddings]) -> Proof:
    """Measure a graph of insightface's layout on the input that insightface's `ArcFaceONNX` computes.

    Args:
        graph: ONNX file with float32 input `[N, 3, H, W]`, RGB, `(pixel - 127.5) / 127.5`.
        reference: The embeddings of the source network.
        isolate: Calls a function with its arguments: `run_in_subprocess`, or `run_here` for
            small models.

    Returns:
        A proof with one row: fp32 on ONNX Runtime.
    """
    candidate = isolate(embed_as_insightface, graph, reference.faces)
    parity = compare(reference.embeddings, candidate)
    why = tuple(parity.failures(_coarser("fp32", reference.published)))
    measured_with = ("onnxruntime", engine_version("onnxruntime"), instruction_set("onnxruntime"))
    row = ProofRow("fp32", *measured_with, True, parity, None, why)
    return Proof(reference.about, reference.pictures, None, None, (row,))


def embed_as_insightface(graph: Path, file: Path) -> Embeddings:
    """Embed the faces of a `.npy` file as insightface's `ArcFaceONNX` does; a step that can run in its own process."""
    session, parts = PlainGraph(graph), []
    for faces in in_batches(np.load(file), _BATCH):
        planes = (faces.astype(np.float32) - np.float32(127.5)) / np.float32(127.5)
        parts.append(session.run(np.ascontiguousarray(planes.transpose(0, 3, 1, 2)))[0])
    raw = np.concatenate(parts)
    norm: Floats = np.linalg.norm(raw, axis=1)
    return Embeddings(raw / norm[:, None], norm)


def arithmetic(kind: GraphKind) -> Precision:
    """Return the precision in which an engine runs a graph: both int8 graphs run in int8."""
    return "int8" if kind == "int8-cpu" else kind


def _coarser(precision: GraphKind, source: GraphKind | None) -> GraphKind:
    """Return the precision whose limits hold: a float32 graph cannot be closer to a float16 one than its rounding."""
    order: tuple[GraphKind, ...] = ("fp32", "fp16", "bf16", "int8", "int8-cpu")
    return max(precision, source or "fp32", key=order.index)


def _runs(graphs: Mapping[GraphKind, Path]) -> list[tuple[GraphKind, Path, bool]]:
    """Return the precision and the graph of each run, and whether it is required for a fit artefact.

    `int8-cpu` and bfloat16 are optional: users cannot request them in an export, and the service runs them only where
    they passed.
    """
    runs = [(kind, graph, kind != "int8-cpu") for kind, graph in graphs.items()]
    return [*runs, ("bf16", graphs["fp32"], False)] if "fp32" in graphs else runs


def _measure(
    precision: GraphKind,
    graph: Path,
    options: RuntimeOptions,
    reference: Reference,
    labelled_reference: LabelledScore | None,
    required: bool,
    isolate: Callable[..., list[Embeddings]],
) -> ProofRow:
    labelled = reference.labelled
    files = [reference.faces, *([labelled.faces] if labelled else [])]
    engine = options.engine
    assert engine != "auto"
    measured_with = (engine, engine_version(engine), instruction_set(engine))
    try:
        candidate, *of_labelled = isolate(embed_files, graph, files, options, f"proving {precision} on {engine}")
    except VultusError as error:
        required = required and (reference.published is None or engine == "onnxruntime")
        return ProofRow(precision, *measured_with, required, None, None, (str(error),))
    threshold = labelled_reference.threshold if labelled_reference else None
    expected, exact = reference.embeddings, False
    if arithmetic(precision) == "int8":
        exact = reference.drawn == len(expected)
        first = 0 if exact else reference.drawn
        expected = exact_embeddings(graph, np.load(reference.faces)) if exact else expected[first:]
        candidate = Embeddings(candidate.embedding[first:], candidate.norm[first:])
    parity = compare(expected, candidate, threshold)
    why = parity.failures(_coarser(precision, reference.published))
    score = labelled.score(of_labelled[0].embedding) if labelled else None
    if score is not None and labelled_reference is not None:
        why += score.failures(labelled_reference)
    return ProofRow(precision, *measured_with, required, parity, score, tuple(why), exact)


def embed_files(
    graph: Path,
    files: Sequence[Path],
    options: RuntimeOptions,
    step: str = "embedding",
    progress: Progress = no_progress,
) -> list[Embeddings]:
    """Embed the faces of `.npy` files with one session; a step that can run in its own process.

    Args:
        graph: ONNX file in the contract of `models.graph`.
        files: `.npy` files, each (N, H, W, 3) uint8, RGB, of the same height and width.
        options: Engine and precision.
        step: Name of the step for `progress`.
        progress: Called after each batch with the number of faces done.

    Returns:
        The embeddings of each file.
    """
    progress(step, 0, None)
    arrays = [np.load(path, mmap_mode="r") for path in files]
    session = open_session(graph, EMBEDDER_OUTPUTS, (arrays[0].shape[1:3],), options)
    embedded = []
    for faces in arrays:
        parts = []
        done = 0
        for batch in in_batches(faces, _BATCH):
            parts.append(session.run(batch))
            done += len(batch)
            progress(step, done, len(faces))
        embedded.append(Embeddings(*map(np.concatenate, zip(*parts, strict=True))))
    return embedded


def engine_version(engine: str) -> str:
    """Return the version of the installed package of an engine."""
    try:
        return metadata.version(engine)
    except metadata.PackageNotFoundError:
        return metadata.version(f"{engine}-gpu")


def _unit(embeddings: Floats) -> Floats:
    unit: Floats = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return unit
