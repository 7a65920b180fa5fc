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

from models import artefact
from models.alignment import TEMPLATES, Template
from models.artefact import Card, read_card, write_card
from models.cropping import FaceCropper
from models.digests import directory_digests
from models.directories import replace_directory
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
from models.export.half import write_float16
from models.export.isolation import in_own_process
from models.export.parity import GraphKind, pair_similarities
from models.export.pictures import Faces, calibration_faces, drawn_faces, labelled_faces
from models.export.proof import Proof, Reference, prove, prove_insightface
from models.export.quantization import Int8Graphs, write_int8
from models.export.steps import Description, Request
from models.graph import CONVERSION

Layout = Literal["vultus", "insightface"]
GRAPH_FILES: dict[GraphKind, str] = {
    "fp32": artefact.EMBEDDER_GRAPH,
    "fp16": "embedder.fp16.onnx",
    "int8": "embedder.int8.onnx",
    "int8-cpu": "embedder.int8-cpu.onnx",
}

_HELD_OUT = 5  # every fifth of the user's own faces proves and does not calibrate
_SAME = 1e-6  # standard deviation of cosines; rounding alone gives a tenth of it
_CALIBRATION, _SKELETON = "calibration.npy", "skeleton.onnx"


@dataclass(frozen=True, slots=True)
class Order:
    """What is wanted.

    Attributes:
        request: The checkpoint, or the published graph, and what its user says about it.
        out: Directory of the artefact.
        name, licence: For the card.
        precisions: Beside fp32, which is always made.
        layout: `insightface` makes the file that insightface's `ArcFaceONNX` loads, which the service does not serve.
        calibration: Directory with faces or photos; int8 needs it.
        labelled: Directory laid out like LFW, to measure what a precision costs in decisions.
        force: Replace an existing directory.
        published: The file is ONNX already.
    """

    request: Request
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
class Telling:
    """Where progress goes.

    Attributes:
        step: Told the name of each step as it begins.
        count: Told how many of how many pictures were read.
        note: Told what was found out on the way.
    """

    step: Callable[[str], None]
    count: Callable[[int, int], None]
    note: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Exported:
    """What was made.

    Attributes:
        path: Where the artefact lies; beside `out` if it failed and another was to be replaced.
        card, proof: As written.
    """

    path: Path
    card: Card
    proof: Proof


class Exporter:
    """Makes one artefact."""

    def __init__(
        self,
        order: Order,
        make_cropper: Callable[[Template], FaceCropper],
        telling: Telling,
        isolate: Callable[..., Any] = in_own_process,
    ) -> None:
        """Prepare; nothing is read yet.

        Args:
            order: What is wanted.
            make_cropper: Gives what finds faces in photos; called only if there are photos.
            telling: Where progress goes.
            isolate: Calls a function with arguments, in a process of its own or not.
        """
        self._order = order
        self._request = order.request
        self._make_cropper = make_cropper
        self._telling = telling
        self._isolate = isolate

    def run(self) -> Exported:
        """Make the artefact. One that fails its proof is written as well, marked unfit.

        Raises:
            OutputExists: The directory is there, and `force` was not given.
            ExportError: One of its kinds, for whatever is wrong with the file.
            StorageFailed: The file system refused to write.
        """
        out = self._order.out
        if out.exists() and not self._order.force:
            raise OutputExists(f"{out} exists; give --force to replace it, or another --out")
        if out.exists() and not _is_replaceable(out):
            raise OutputExists(f"{out} is no artefact; --force does not replace it, give another --out")
        if out.exists() and out.resolve() in self._request.path.resolve().parents:
            raise OutputExists(f"{out} holds the file that is to be exported; give another --out")
        blocked = next((parent for parent in out.parents if parent.exists() and not parent.is_dir()), None)
        if blocked is not None:
            raise StorageFailed(f"{out} could not be written: {blocked} is no directory")
        if self._order.layout == "insightface" and self._order.labelled is not None:
            raise GraphUnsupported("the layout insightface is proven without a labelled set; leave --labelled out")
        if self._order.layout == "insightface" and set(self._order.precisions) - {"fp32"}:
            raise GraphUnsupported("the layout insightface is made in fp32 only")
        if "int8" in self._order.precisions and self._order.calibration is None:
            raise PicturesUnfit("int8 is calibrated on real faces: give --calibration-images DIR")
        try:
            with _scratch_beside(out) as scratch:
                return self._make(scratch)
        except OSError as error:
            raise StorageFailed(f"{out} could not be written: {error.strerror or error}") from error

    def _make(self, scratch: Path) -> Exported:
        new = scratch / "artefact"
        new.mkdir()
        self._telling.step("reading and recognising")
        describe = steps.describe_onnx if self._order.published else steps.describe_checkpoint
        description: Description = self._isolate(describe, self._request)
        if description.contradiction:
            self._telling.note(f"the colour order is as you say, against {description.color_from}")
        reference = self._reference(description, TEMPLATES[description.template], scratch)
        _refuse_broken(reference)
        graphs, kept = self._graphs(description, reference, scratch, new)
        self._telling.step("proving")
        proof = self._prove(graphs, reference)
        card = self._card(description, graphs, kept, int(reference.embeddings.shape[1]))
        (new / artefact.PROOF).write_text(json.dumps(proof.record(), indent=2) + "\n")
        card = replace(card, files=directory_digests(new, artefact.CARD))
        write_card(new, card)
        target = self._order.out
        if target.exists() and not proof.passed:  # what was there before is worth more than what failed
            target = _beside(target)
        replace_directory(new, target, scratch)
        return Exported(target, card, proof)

    def _reference(self, description: Description, template: Template, scratch: Path) -> Reference:
        """Gather the pictures and have the network itself embed them."""
        order, tell = self._order, self._telling
        faces, labelled = drawn_faces(template), None
        drawn = len(faces.crops)
        if order.calibration is not None:
            tell.step("reading faces to calibrate with")
            own = calibration_faces(order.calibration, template, partial(self._make_cropper, template), tell.count)
            held_out = np.arange(len(own.crops)) % _HELD_OUT == 0
            np.save(scratch / _CALIBRATION, own.crops[~held_out])
            crops = np.concatenate([faces.crops, own.crops[held_out]])
            about = f"{faces.about}, and {held_out.sum()} that did not calibrate of {own.about}"
            faces = Faces(crops, about)
        if order.labelled is not None:
            tell.step("reading the labelled set")
            labelled = labelled_faces(order.labelled, scratch, self._make_cropper(template), tell.count)
        stored = scratch / "faces.npy"
        np.save(stored, faces.crops)
        files = [stored, *([labelled.faces] if labelled else [])]
        tell.step("embedding by the network itself")
        if order.published:
            embeddings, runtime = self._isolate(
                steps.embed_by_published, self._request, description.preprocessing, files, tell=tell.count
            )
        else:
            embeddings, runtime = self._isolate(
                steps.embed_by_checkpoint,
                self._request,
                description.preprocessing,
                files,
                scratch / _SKELETON,
                tell=tell.count,
            )
        source = {**description.source, "runtime": runtime}
        more = embeddings[1] if labelled else None
        return Reference(source, stored, faces.about, drawn, embeddings[0], labelled, more)

    def _graphs(
        self, description: Description, reference: Reference, scratch: Path, new: Path
    ) -> tuple[dict[GraphKind, Path], dict[str, list[str]]]:
        """Write a graph for each precision; return them, and which layers each computes in a higher one."""
        order, tell, kept = self._order, self._telling, dict[str, list[str]]()
        graphs: dict[GraphKind, Path] = {"fp32": new / GRAPH_FILES["fp32"]}
        notes = self._notes(description)
        tell.step("writing fp32")
        common = (description.preprocessing, graphs["fp32"], order.layout, notes)
        if order.published:
            self._isolate(steps.write_imported, self._request, *common)
        else:
            self._isolate(steps.write_graph, self._request, scratch / _SKELETON, *common)
        if "fp16" in order.precisions:
            tell.step("writing fp16")
            graphs["fp16"] = new / GRAPH_FILES["fp16"]
            kept[graphs["fp16"].name] = self._isolate(
                write_float16, graphs["fp32"], reference.faces, graphs["fp16"], notes
            )
        if "int8" in order.precisions:
            tell.step("writing int8: measuring what each layer costs")
            paths = [new / GRAPH_FILES[kind] for kind in ("int8", "int8-cpu")]
            made: Int8Graphs = self._isolate(
                write_int8, graphs["fp32"], scratch / _CALIBRATION, *paths, notes, tell=tell.count
            )
            graphs["int8"] = paths[0]
            if made.cpu:
                graphs["int8-cpu"] = paths[1]
            kept.update({path.name: made.kept for path in paths if path.is_file()})
            tell.note(made.comparison)
        return graphs, kept

    def _prove(self, graphs: dict[GraphKind, Path], reference: Reference) -> Proof:
        if self._order.layout == "insightface":
            return prove_insightface(graphs["fp32"], reference, self._isolate)
        return prove(graphs, reference, self._telling.step, self._isolate, self._telling.count)

    def _card(
        self, description: Description, graphs: dict[GraphKind, Path], kept: dict[str, list[str]], dimensions: int
    ) -> Card:
        template = TEMPLATES[description.template]
        return Card(
            name=self._order.name,
            family=description.family,
            architecture=description.architecture,
            licence=self._order.licence,
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
            layout=self._order.layout,
        )

    def _notes(self, description: Description) -> dict[str, str]:
        """Say in the file what the card says, for those who meet the file alone."""
        return {
            "name": self._order.name,
            "family": description.family,
            "architecture": description.architecture,
            "weights": description.weights,
            "template": description.template,
            "preprocessing": json.dumps(description.preprocessing.record()),
            "licence": self._order.licence,
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
