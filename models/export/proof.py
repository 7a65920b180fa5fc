"""Run every precision on every engine of this machine beside the reference, and write down what came of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import embedding
from models.embedding import Embeddings
from models.errors import OneClassOnly, VultusError
from models.evaluation.all_pairs import compare_all
from models.evaluation.operating_points import supports
from models.evaluation.verification import distances_of, ten_fold_accuracy
from models.export.isolation import Tell, silent
from models.export.parity import LIMITS, MAX_ACCURACY_LOSS, MAX_FNMR_GROWTH, Floats, GraphKind, Parity, compare
from models.runtime import Precision, RuntimeOptions, cpu_options, open_session
from models.runtime.onnxruntime_engine import PlainGraph

LABELLED_RATE = 1e-3

_BATCH = 256

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Pairs of faces of which it is known whether they show one subject.

    Attributes:
        name: Of the set.
        faces: `.npy` file, (N, H, W, 3) uint8, RGB, aligned.
        first, second: (P,) indices of the pairs; -1 where no face was found.
        mated: (P,) whether a pair is of one subject.
        subjects: (N,) number of the subject of each face; -1 where no face was found.
    """

    name: str
    faces: Path
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    mated: NDArray[np.bool_]
    subjects: NDArray[np.int64]

    def score(self, embeddings: Floats) -> "LabelledScore":
        """Score (N, D) unit embeddings of the faces."""
        similarity = (embeddings[self.first] * embeddings[self.second]).sum(axis=1)
        similarity[(self.first < 0) | (self.second < 0)] = -1
        threshold = _threshold(embeddings, self.subjects)
        fnmr = None if threshold is None else float((similarity[self.mated] < threshold).mean())
        return LabelledScore(ten_fold_accuracy(distances_of(similarity), self.mated).mean, fnmr, threshold)


@dataclass(frozen=True, slots=True)
class LabelledScore:
    """What a labelled set says; the last two are None where it is too small for that rate.

    Attributes:
        accuracy: 10-fold over the pairs, a share in [0, 1].
        fnmr: False non-match rate of the mated pairs at that threshold.
        threshold: Of FMR 1e-3 over all pairs of faces of different subjects, of which there are many more than are
            listed: the three highest of 3,000 similarities move by more than int8 costs.
    """

    accuracy: float
    fnmr: float | None
    threshold: float | None

    def failures(self, reference: "LabelledScore") -> list[str]:
        """Say what was lost beyond what is allowed."""
        why = []
        if not self.accuracy >= reference.accuracy - MAX_ACCURACY_LOSS:
            why.append(f"10-fold accuracy {self.accuracy:.4%} is more than 0.1 points below {reference.accuracy:.4%}")
        if self.fnmr is not None and reference.fnmr is not None and not self.fnmr <= reference.fnmr * MAX_FNMR_GROWTH:
            why.append(f"FNMR at FMR 1e-3 {self.fnmr:.4f} is more than a tenth above {reference.fnmr:.4f}")
        return why


@dataclass(frozen=True, slots=True)
class Row:
    """One precision on one engine.

    Attributes:
        precision: Of the graph, or bf16 for the float32 graph in bfloat16 arithmetic.
        engine, version: What ran it.
        asked: Whether the export was asked for this precision: then it must pass for the artefact to be fit.
        parity: What was measured; None if the engine failed.
        labelled: Scores of the labelled set, if one was given.
        why: In which way it failed; empty if it passed.
    """

    precision: GraphKind
    engine: str
    version: str
    asked: bool
    parity: Parity | None
    labelled: LabelledScore | None
    why: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether this precision on this engine is still the same model."""
        return not self.why

    def record(self) -> dict[str, Any]:
        """Return what is written into the proof."""
        return {
            "precision": self.precision,
            "engine": self.engine,
            "version": self.version,
            "asked": self.asked,
            **(self.parity.record() if self.parity else {}),
            "labelled": _score_record(self.labelled),
            "passed": self.passed,
            "why": list(self.why),
        }


@dataclass(frozen=True, slots=True)
class Proof:
    """All rows and what they were measured against."""

    reference: Mapping[str, str]
    pictures: str
    labelled_set: str | None
    labelled_reference: LabelledScore | None
    rows: tuple[Row, ...]

    @property
    def passed(self) -> bool:
        """Whether everything that was asked for is still the same model."""
        asked = [row for row in self.rows if row.asked]
        return bool(asked) and all(row.passed for row in asked)

    def record(self) -> dict[str, Any]:
        """Return what is written as `parity.json`."""
        limits = {
            precision: {name: getattr(limit, name) for name in limit.__slots__ if getattr(limit, name) is not None}
            for precision, limit in LIMITS.items()
        }
        labelled = {"set": self.labelled_set, **(_score_record(self.labelled_reference) or {})}
        return {
            "reference": dict(self.reference),
            "pictures": self.pictures,
            "labelled": labelled if self.labelled_set else None,
            "limits": limits,
            "measured": [row.record() for row in self.rows],
            "passed": self.passed,
        }


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
    tell: Tell = silent,
) -> Proof:
    """Measure every graph on every engine of this machine; the float32 one in bfloat16 as well where there is any.

    Args:
        graphs: ONNX files in the contract of `models.graph` by their precision.
        reference: The network's own answers.
        progress: Told what is being run.
        isolate: Calls a function with arguments, in a process of its own or not.
        tell: Told how many faces a run has done.
    """
    score: LabelledScore | None = None
    if reference.labelled is not None and reference.labelled_embeddings is not None:
        score = reference.labelled.score(_unit(reference.labelled_embeddings))
    rows = []
    for precision, graph, asked in _runs(graphs):
        for options in cpu_options(arithmetic(precision)):
            progress(f"{precision} on {options.engine}")
            rows.append(_measure(precision, graph, options, reference, score, asked, partial(isolate, tell=tell)))
    return Proof(
        reference.about, reference.pictures, reference.labelled.name if reference.labelled else None, score, tuple(rows)
    )


def prove_insightface(graph: Path, reference: Reference, isolate: Callable[..., Embeddings]) -> Proof:
    """Measure a graph of insightface's layout, given what `ArcFaceONNX` gives it."""
    own = isolate(embed_as_insightface, graph, reference.faces)
    parity = compare(reference.embeddings, own)
    row = Row("fp32", "onnxruntime", _version("onnxruntime"), True, parity, None, tuple(parity.failures("fp32")))
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
) -> Row:
    labelled = reference.labelled
    files = [reference.faces, *([labelled.faces] if labelled else [])]
    engine, version = options.engine, _version(options.engine)
    try:
        own, *more = isolate(embed_files, graph, files, options)
    except VultusError as error:
        return Row(precision, engine, version, asked, None, None, (str(error),))
    threshold = labelled_reference.threshold if labelled_reference else None
    first = reference.drawn if arithmetic(precision) == "int8" and reference.drawn < len(reference.embeddings) else 0
    parity = compare(reference.embeddings[first:], Embeddings(own.embedding[first:], own.norm[first:]), threshold)
    why = parity.failures(precision)
    score = labelled.score(more[0].embedding) if labelled else None
    if score is not None and labelled_reference is not None:
        why += score.failures(labelled_reference)
    return Row(precision, engine, version, asked, parity, score, tuple(why))


def embed_files(graph: Path, files: Sequence[Path], options: RuntimeOptions, tell: Tell = silent) -> list[Embeddings]:
    """Embed the faces of `.npy` files with one session; made to run in a process of its own."""
    arrays = [np.load(path, mmap_mode="r") for path in files]
    session = open_session(graph, embedding.OUTPUTS, (arrays[0].shape[1:3],), options)
    embedded = []
    for faces in arrays:
        parts = []
        for start in range(0, len(faces), _BATCH):
            parts.append(session.run(faces[start : start + _BATCH]))
            tell(start + len(parts[-1][0]), len(faces))
        embedded.append(Embeddings(*map(np.concatenate, zip(*parts, strict=True))))
    return embedded


def _threshold(embeddings: Floats, subjects: NDArray[np.int64]) -> float | None:
    """Return the threshold of FMR 1e-3 over all pairs of different subjects; None if they do not support the rate."""
    found = subjects >= 0
    try:
        pairs = compare_all(embeddings[found], subjects[found])
    except OneClassOnly:
        return None
    return pairs.non_mated.threshold(LABELLED_RATE) if supports(pairs, LABELLED_RATE) else None


def _version(engine: str) -> str:
    try:
        return metadata.version(engine)
    except metadata.PackageNotFoundError:
        return metadata.version(f"{engine}-gpu")


def _unit(embeddings: Floats) -> Floats:
    unit: Floats = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return unit


def _score_record(score: LabelledScore | None) -> dict[str, Any] | None:
    return None if score is None else {"accuracy": score.accuracy, "fnmr_at_1e-3": score.fnmr}
