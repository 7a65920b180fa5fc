"""From a checkpoint to a proven artefact in one go: describe, embed, write, quantize, prove, seal.

Every step that needs much memory runs in a process of its own, one after the other, so the peak is that of the largest.
The artefact is made in a scratch directory beside its place and moved there when it is complete.
"""

import itertools
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np

from models.alignment import TEMPLATES, Template
from models.artefact.card import CARD, CONVERSION, EMBEDDER_GRAPH, PROOF, Card, read_card, write_card
from models.artefact.digests import directory_digests
from models.artefact.directories import replace_directory
from models.artefact.parity import GraphKind, pair_similarities
from models.artefact.proof import Proof
from models.errors import (
    ArtefactUnfit,
    GraphUnsupported,
    OutputExists,
    PackDamaged,
    PicturesUnfit,
    StorageFailed,
    WeightsNotFinite,
)
from models.export import steps
from models.export.isolation import in_own_process
from models.export.pictures import Faces, calibration_faces, drawn_faces, labelled_faces
from models.export.precision.float16 import write_float16
from models.export.precision.int8 import Int8Graphs, write_int8
from models.export.proof import Reference, prove, prove_insightface
from models.export.steps import Description, SourceSpec
from models.graph.weights import weights_file
from models.pipeline import FaceCropper
from models.types import Progress, no_progress

Layout = Literal["vultus", "insightface"]
GRAPH_FILES: dict[GraphKind, str] = {
    "fp32": EMBEDDER_GRAPH,
    "fp16": "embedder.fp16.onnx",
    "int8": "embedder.int8.onnx",
    "int8-cpu": "embedder.int8-cpu.onnx",
}

_HELD_OUT = 5  # every fifth of the user's own faces proves and does not calibrate
_SAME = 1e-6  # standard deviation of cosines; rounding alone gives a tenth of it
_CALIBRATION, _SKELETON = "calibration.npy", "skeleton.onnx"


@dataclass(frozen=True, slots=True)
class ExportSpec:
    """What to make, and from what.

    Attributes:
        source: The checkpoint, or the published graph, and what its user says about it.
        out: Directory of the artefact.
        name, licence: For the card.
        precisions: Beside fp32, which is always made.
        layout: `insightface` makes the file that insightface's `ArcFaceONNX` loads, which the service does not serve.
        calibration: Directory with faces or photos; int8 needs it.
        labelled: Directory laid out like LFW, to measure what a precision costs in decisions.
        force: Replace an existing directory.
        published: The file is ONNX already.
    """

    source: SourceSpec
    out: Path
    name: str
    licence: str
    precisions: tuple[GraphKind, ...] = ()
    layout: Layout = "vultus"
    calibration: Path | None = None
    labelled: Path | None = None
    force: bool = False
    published: bool = False


@dataclass(frozen=True, slots=True)
class Exported:
    """What was made.

    Attributes:
        path: Where the artefact lies; beside `out` if it failed and another was to be replaced.
        card, proof: As written.
        notes: What was found on the way, as sentences.
    """

    path: Path
    card: Card
    proof: Proof
    notes: tuple[str, ...] = ()


class Exporter:
    """Makes one artefact."""

    def __init__(
        self,
        spec: ExportSpec,
        make_cropper: Callable[[Template], FaceCropper],
        progress: Progress = no_progress,
        isolate: Callable[..., Any] = in_own_process,
    ) -> None:
        """Prepare; nothing is read yet.

        Args:
            spec: What to make.
            make_cropper: Gives what finds faces in photos; called only if there are photos.
            progress: Called with each step and the pictures or layers done.
            isolate: Calls a function with arguments, in a process of its own or not.
        """
        self._spec = spec
        self._source = spec.source
        self._make_cropper = make_cropper
        self._progress = progress
        self._notes: list[str] = []
        self._isolate = isolate

    def run(self) -> Exported:
        """Make the artefact. One that fails its proof is written as well, marked unfit.

        Raises:
            OutputExists: The directory is there, and `force` was not given.
            ExportError: One of its kinds, for whatever is wrong with the file.
            StorageFailed: The file system refused to write.
        """
        out = self._spec.out
        if out.exists() and not self._spec.force:
            raise OutputExists(f"{out} exists; give --force to replace it, or another --out")
        if out.exists() and not _is_replaceable(out):
            raise OutputExists(f"{out} is no artefact; --force does not replace it, give another --out")
        if out.exists() and out.resolve() in self._source.path.resolve().parents:
            raise OutputExists(f"{out} holds the file that is to be exported; give another --out")
        blocked = next((parent for parent in out.parents if parent.exists() and not parent.is_dir()), None)
        if blocked is not None:
            raise StorageFailed(f"{out} could not be written: {blocked} is no directory")
        if self._spec.layout == "insightface" and self._spec.labelled is not None:
            raise GraphUnsupported("the layout insightface is proven without a labelled set; leave --labelled out")
        if self._spec.layout == "insightface" and set(self._spec.precisions) - {"fp32"}:
            raise GraphUnsupported("the layout insightface is made in fp32 only")
        if "int8" in self._spec.precisions and self._spec.calibration is None:
            raise PicturesUnfit("int8 is calibrated on real faces: give --calibration-images DIR")
        try:
            with _scratch_beside(out) as scratch:
                return self._make(scratch)
        except OSError as error:
            raise StorageFailed(f"{out} could not be written: {error.strerror or error}") from error

    def _make(self, scratch: Path) -> Exported:
        new = scratch / "artefact"
        new.mkdir()
        self._progress("reading and recognising", 0, None)
        describe = steps.describe_onnx if self._spec.published else steps.describe_checkpoint
        description: Description = self._isolate(describe, self._source)
        if description.contradiction:
            self._notes.append(f"the colour order is as you say, against {description.color_from}")
        reference = self._reference(description, TEMPLATES[description.template], scratch)
        _refuse_broken(reference)
        graphs, kept = self._graphs(description, reference, scratch, new)
        self._progress("proving", 0, None)
        proof = self._prove(graphs, reference)
        card = self._card(description, graphs, kept, int(reference.embeddings.shape[1]))
        (new / PROOF).write_text(json.dumps(proof.record(), indent=2) + "\n")
        card = replace(card, files=directory_digests(new, CARD))
        write_card(new, card)
        target = self._spec.out
        if target.exists() and not proof.passed:  # what was there before is worth more than what failed
            target = _beside(target)
        replace_directory(new, target, scratch)
        return Exported(target, card, proof, tuple(self._notes))

    def _reference(self, description: Description, template: Template, scratch: Path) -> Reference:
        """Gather the pictures and have the network itself embed them."""
        spec, progress = self._spec, self._progress
        faces, labelled = drawn_faces(template), None
        drawn = len(faces.crops)
        if spec.calibration is not None:
            progress("reading faces to calibrate with", 0, None)
            own = calibration_faces(spec.calibration, template, partial(self._make_cropper, template), progress)
            held_out = np.arange(len(own.crops)) % _HELD_OUT == 0
            np.save(scratch / _CALIBRATION, own.crops[~held_out])
            crops = np.concatenate([faces.crops, own.crops[held_out]])
            about = f"{faces.about}, and {held_out.sum()} that did not calibrate of {own.about}"
            faces = Faces(crops, about)
        if spec.labelled is not None:
            progress("reading the labelled set", 0, None)
            labelled = labelled_faces(spec.labelled, scratch, self._make_cropper(template), progress)
        stored = scratch / "faces.npy"
        np.save(stored, faces.crops)
        files = [stored, *([labelled.faces] if labelled else [])]
        progress("embedding by the network itself", 0, None)
        if spec.published:
            embeddings, runtime = self._isolate(
                steps.embed_by_published, self._source, description.preprocessing, files, progress=progress
            )
        else:
            embeddings, runtime = self._isolate(
                steps.embed_by_checkpoint,
                self._source,
                description.preprocessing,
                files,
                scratch / _SKELETON,
                progress=progress,
            )
        source = {**description.source, "runtime": runtime}
        more = embeddings[1] if labelled else None
        return Reference(source, stored, faces.about, drawn, embeddings[0], labelled, more)

    def _graphs(
        self, description: Description, reference: Reference, scratch: Path, new: Path
    ) -> tuple[dict[GraphKind, Path], dict[str, list[str]]]:
        """Write a graph for each precision; return them, and which layers each computes in a higher one."""
        spec, progress, kept = self._spec, self._progress, dict[str, list[str]]()
        graphs: dict[GraphKind, Path] = {"fp32": new / GRAPH_FILES["fp32"]}
        notes = self._metadata(description)
        progress("writing fp32", 0, None)
        common = (description.preprocessing, graphs["fp32"], spec.layout, notes)
        if spec.published:
            self._isolate(steps.write_imported, self._source, *common)
        else:
            self._isolate(steps.write_graph, self._source, scratch / _SKELETON, *common)
        if weights_file(graphs["fp32"]).exists() and set(spec.precisions) - {"fp32"}:
            raise GraphUnsupported("a network larger than 2 GB is exported in fp32 only; leave --precision out")
        if "fp16" in spec.precisions:
            progress("writing fp16", 0, None)
            graphs["fp16"] = new / GRAPH_FILES["fp16"]
            kept[graphs["fp16"].name] = self._isolate(
                write_float16, graphs["fp32"], reference.faces, graphs["fp16"], notes
            )
        if "int8" in spec.precisions:
            progress("writing int8: measuring what each layer costs", 0, None)
            paths = [new / GRAPH_FILES[kind] for kind in ("int8", "int8-cpu")]
            made: Int8Graphs = self._isolate(
                write_int8, graphs["fp32"], scratch / _CALIBRATION, *paths, notes, progress=progress
            )
            graphs["int8"] = paths[0]
            if made.cpu:
                graphs["int8-cpu"] = paths[1]
            kept.update({path.name: made.kept for path in paths if path.is_file()})
            self._notes.append(made.comparison)
        return graphs, kept

    def _prove(self, graphs: dict[GraphKind, Path], reference: Reference) -> Proof:
        if self._spec.layout == "insightface":
            return prove_insightface(graphs["fp32"], reference, self._isolate)
        return prove(graphs, reference, self._progress, self._isolate)

    def _card(
        self, description: Description, graphs: dict[GraphKind, Path], kept: dict[str, list[str]], dimensions: int
    ) -> Card:
        template = TEMPLATES[description.template]
        return Card(
            name=self._spec.name,
            family=description.family,
            architecture=description.architecture,
            licence=self._spec.licence,
            weights=description.weights,
            conversion=CONVERSION,
            height=template.height,
            width=template.width,
            dimensions=dimensions,
            template=template.name,
            preprocessing=description.preprocessing.record(),
            files={},
            source=description.source,
            program=metadata.version("vultus"),
            color_from=description.color_from,
            graphs={precision: path.name for precision, path in graphs.items()},
            higher_precision=kept,
            norm_statistics=description.norm_statistics(),
            layout=self._spec.layout,
        )

    def _metadata(self, description: Description) -> dict[str, str]:
        """Say in the file what the card says, for those who meet the file alone."""
        return {
            "name": self._spec.name,
            "family": description.family,
            "architecture": description.architecture,
            "weights": description.weights,
            "template": description.template,
            "preprocessing": json.dumps(description.preprocessing.record()),
            "licence": self._spec.licence,
            "program": f"vultus {metadata.version('vultus')}",
        }


def _refuse_broken(reference: Reference) -> None:
    """Refuse a network whose own answers are no embeddings: no conversion of it could be right."""
    norms = np.linalg.norm(reference.embeddings, axis=1)
    if not np.isfinite(norms).all() or not norms.all():
        raise WeightsNotFinite("the network itself answers with NaN, infinity or zero; its weights are broken")
    if pair_similarities(reference.embeddings / norms[:, None]).std() < _SAME:
        raise WeightsNotFinite("the network itself gives all pictures the same embedding; its weights are broken")


def _is_replaceable(path: Path) -> bool:
    """Tell whether a directory is empty, or an artefact and not the parent of anything."""
    if not path.is_dir():
        return False
    there = list(path.iterdir())
    if there:
        try:
            read_card(path, Card)
        except (ArtefactUnfit, PackDamaged):
            return False
    return not any(inner.is_dir() for inner in there)


def _beside(path: Path) -> Path:
    """Find a name beside an artefact for one that failed and must not replace it."""
    names = (path.with_name(f"{path.name}.unfit{number or ''}") for number in itertools.count())
    return next(name for name in names if not name.exists() or _is_replaceable(name))


@contextmanager
def _scratch_beside(out: Path) -> Iterator[Path]:
    """Make a directory on the file system on which the artefact will lie."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}+", dir=out.parent) as scratch:
        yield Path(scratch)
