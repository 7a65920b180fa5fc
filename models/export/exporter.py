"""Turn a checkpoint or a published graph into a proven artefact.

An export has these steps:

1. Describe the source network: family, preprocessing and alignment template.
2. Embed synthetic pictures, and the user's faces if given, with the source network. The embeddings are the reference.
3. Write the graph in float32, and in each lower precision that the user requested.
4. Prove parity: run every graph on every engine of this machine and compare its embeddings with the reference.
5. Write the proof, then the card with the digests of all files, and move the artefact to its directory.

Each step that needs much memory runs in its own process, one at a time, so that the peak memory is that of the largest
step. The artefact is made in a scratch directory beside its final directory and moved there when it is complete.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np

from models.alignment import TEMPLATES, AlignmentTemplate
from models.artefact.card import CARD, CONVERSION, GRAPH_FILES, PROOF, Card, write_card
from models.artefact.digests import directory_digests, file_digest, value_digest
from models.artefact.directories import link_target, replace_directory
from models.artefact.parity import GraphKind, pair_similarities
from models.artefact.proof import Proof
from models.errors import (
    CheckpointUnreadable,
    GraphUnsupported,
    ImagesUnfit,
    StorageFailed,
    WeightsNotFinite,
)
from models.export import published, steps
from models.export.destination import path_for_unfit, remove_stale_scratch, require_destination, scratch_beside
from models.export.isolation import run_in_subprocess
from models.export.pictures import Faces, calibration_faces, drawn_faces, labelled_faces
from models.export.precision.float16 import write_float16
from models.export.precision.int8 import Int8Graphs, write_int8
from models.export.proof import Reference, arithmetic, prove, prove_insightface
from models.export.retained import retain
from models.export.steps import Description, SourceSpec
from models.graph.quantize import WeightBits
from models.graph.weights import weights_file
from models.pipeline import FaceCropper
from models.runtime.instructions import saturates
from models.types import Progress, no_progress

Layout = Literal["vultus", "insightface"]

_HELD_OUT_EVERY = 5  # every fifth of the user's faces is held out from calibration for the proof
_MIN_SPREAD = 1e-6  # standard deviation of cosines between faces; rounding errors alone reach a tenth of it
_CALIBRATION, _SKELETON = "calibration.npy", "skeleton.onnx"


@dataclass(frozen=True, slots=True)
class ExportSpec:
    """The source of an export and the artefact to make.

    Attributes:
        source: The checkpoint or published graph, and what the user states about its network.
        out: Directory of the artefact; a symbolic link is followed.
        name, licence: Name of the model and licence of its weights, for the card.
        precisions: Precisions to make in addition to fp32, which is always made.
        layout: `vultus` for the service, or `insightface` for the graph that insightface's `ArcFaceONNX` loads, which
            the service does not serve.
        calibration: Directory of aligned faces or photos, required for int8; None if the user gave none.
        labelled: Directory of a labelled set in the layout of LFW, on which changed decisions are measured;
            None if the user gave none.
        force: Replace an existing artefact or empty directory; see `models.export.retained` for what stays of it.
        published: The source is a published ONNX graph, not a checkpoint.
        weight_bits: Bits of the weights of int8 graphs; None for 7 if this processor saturates sums of 8-bit products,
            else 8. An artefact for another processor without VNNI needs 7.
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
    weight_bits: WeightBits | None = None


@dataclass(frozen=True, slots=True)
class Exported:
    """A written artefact.

    Attributes:
        path: Directory of the artefact: `out`, or `<out>.unfit` (`<out>.unfit1`, ...) if the proof failed and `out`
            exists.
        card: The card, as written.
        proof: The parity proof, as written; the artefact is unfit if it did not pass.
        notes: Sentences for the user about what the export observed.
    """

    path: Path
    card: Card
    proof: Proof
    notes: tuple[str, ...] = ()


class Exporter:
    """An export of one source to one artefact, with a proof that both compute the same embeddings."""

    def __init__(
        self,
        spec: ExportSpec,
        make_cropper: Callable[[AlignmentTemplate], FaceCropper],
        progress: Progress = no_progress,
        isolate: Callable[..., Any] = run_in_subprocess,
    ) -> None:
        """Store the arguments; `run` reads the source.

        Args:
            spec: The source of the export and the artefact to make.
            make_cropper: Returns a cropper for photos, given an alignment template. It is called only if the user gave
                photos or a labelled set.
            progress: Called with the name of each step and the number of faces or layers done.
            isolate: Calls a function with its arguments: `run_in_subprocess`, or `run_here` for small models.
        """
        self._spec = spec = replace(spec, out=link_target(spec.out))
        self._source = spec.source
        self._weight_bits: WeightBits = spec.weight_bits or (7 if saturates() else 8)
        self._make_cropper = make_cropper
        self._progress = progress
        self._notes: list[str] = []
        self._isolate = isolate

    def run(self) -> Exported:
        """Make the artefact, prove it and write it.

        An artefact that fails its proof is also written, so that the proof can be read. It is marked unfit and does not
        replace the artefact at `out`. If the export raises an error, `out` is unchanged and no artefact is written.

        Returns:
            The artefact with its card and proof. `proof.passed` is False if any required precision on any engine
            exceeded its limits.

        Raises:
            OutputExists: `out` exists and `force` is False, or `out` is neither an artefact nor an empty directory, or
                it contains the source.
            CheckpointUnreadable, CheckpointUnsafe, CheckpointIsModule, CheckpointWithoutWeights,
                WeightTypeUnsupported: The checkpoint holds no weights that can be read safely.
            CheckpointAmbiguous: The checkpoint holds several networks.
            WeightsNotFinite: A weight is NaN or infinite, or the source network does not return usable embeddings.
            ArchitectureUnknown, LandmarksNeeded, BuilderUnfit: The network is unknown, or the user's builder does not
                make the network of these weights.
            ColorUnknown: Neither the user nor the file states the colour order, or a published graph's mean or
                deviation is missing.
            GraphUnsupported: The published graph cannot be brought to the contract, or the layout or the size of the
                network excludes an option.
            ImagesUnfit: int8 was requested without enough faces for calibration, or no photo of the labelled set has
                a face.
            SetUnreadable, SingleClass: The pair list of the labelled set is missing or malformed, or lists one class
                of pairs only.
            InferenceFailed: ONNX Runtime cannot run the published graph.
            ExportProcessKilled: The system ended the process of a step.
            StorageFailed: The file system refused to write.
        """
        out = self._spec.out
        try:
            remove_stale_scratch(out)
        except OSError as error:
            raise StorageFailed(f"{out} could not be written: {error.strerror or error}") from error
        require_destination(out, self._source.path, self._spec.force)
        if self._spec.layout == "insightface" and self._spec.labelled is not None:
            raise GraphUnsupported("the layout insightface does not support a labelled set; omit --labelled")
        if self._spec.layout == "insightface" and set(self._spec.precisions) - {"fp32"}:
            raise GraphUnsupported("the layout insightface supports fp32 only; omit --precision")
        if "int8" in self._spec.precisions and self._spec.calibration is None:
            raise ImagesUnfit("int8 is calibrated on real faces; give --calibration-images DIR")
        try:
            with scratch_beside(out) as scratch:
                return self._make(scratch)
        except OSError as error:
            raise StorageFailed(f"{out} could not be written: {error.strerror or error}") from error

    def _make(self, scratch: Path) -> Exported:
        new = scratch / "artefact"
        new.mkdir()
        self._progress("reading and recognising", 0, None)
        describe = published.describe_onnx if self._spec.published else steps.describe_checkpoint
        description: Description = self._isolate(describe, self._source)
        description = replace(description, source={**description.source, **self._source.origin})
        self._source = replace(self._source, selection=description.selection)
        if description.contradiction:
            self._notes.append(f"the colour order is set by {description.color_from}")
        self._notes.extend(description.notes)
        if (
            description.published
            and description.published.precision == "int8"
            and set(self._spec.precisions) - {"fp32"}
        ):
            raise GraphUnsupported(f"{self._source.path.name} is quantised already; omit --precision")
        reference = self._reference(description, TEMPLATES[description.template], scratch)
        if self._source.builder:  # its code may change under the same name, and then it is another model
            built = self._isolate(steps.built_digest, self._source, scratch / _SKELETON)
            description = replace(description, weights=value_digest([description.weights, built]))
        _refuse_broken(reference)
        graphs, higher_precision = self._graphs(description, reference, scratch, new)
        self._progress("proving", 0, None)
        proof = self._prove(graphs, reference)
        card = self._card(description, graphs, higher_precision, int(reference.embeddings.shape[1]))
        (new / PROOF).write_text(json.dumps(proof.record(), indent=2) + "\n")
        card = replace(card, files=directory_digests(new, CARD))
        write_card(new, card)
        self._require_unchanged(description)
        target = self._spec.out
        if target.exists() and proof.passed:
            require_destination(target, self._source.path, self._spec.force)  # it may have appeared meanwhile
        if target.exists() and not proof.passed:  # a failed artefact must not replace an existing one
            target = path_for_unfit(target)
        if target.exists():
            card, notes = retain(target, new, card)
            self._notes.extend(notes)
        replace_directory(new, target, scratch)
        return Exported(target, card, proof, tuple(self._notes))

    def _require_unchanged(self, description: Description) -> None:
        """Refuse a source that another program replaced between two steps: the artefact would state another one.

        Raises:
            CheckpointUnreadable: The file has other contents than at the beginning.
        """
        path, source = self._source.path, description.source
        file = path / source["file"] if path.is_dir() else path
        weights = published.weights_of(self._source) if self._spec.published else description.weights
        if file_digest(file) != source["sha256"] or weights != description.weights:
            raise CheckpointUnreadable(f"{path.name} changed while it was exported; export it again")

    def _reference(self, description: Description, template: AlignmentTemplate, scratch: Path) -> Reference:
        """Collect the faces of the proof and embed them with the source network.

        The faces are synthetic pictures, and a fifth of the user's faces if a directory was given. The remaining four
        fifths are stored for the calibration of int8.

        Args:
            description: The source network.
            template: Its alignment template.
            scratch: Directory for faces and crops. For a checkpoint, the graph without weights is written there too.
        """
        spec, progress = self._spec, self._progress
        faces, labelled = drawn_faces(template), None
        synthetic = len(faces.crops)
        if spec.calibration is not None:
            progress("reading calibration faces", 0, None)
            given = calibration_faces(spec.calibration, template, partial(self._make_cropper, template), progress)
            self._notes += [given.passed_over] if given.passed_over else []
            held_out = np.arange(len(given.crops)) % _HELD_OUT_EVERY == 0
            np.save(scratch / _CALIBRATION, given.crops[~held_out])
            crops = np.concatenate([faces.crops, given.crops[held_out]])
            about = f"{faces.about}, and {held_out.sum()} of {given.about}, held out from calibration"
            faces = Faces(crops, about)
        if spec.labelled is not None:
            progress("reading the labelled set", 0, None)
            with self._make_cropper(template) as cropper:
                labelled = labelled_faces(spec.labelled, scratch, cropper, progress)
        stored = scratch / "faces.npy"
        np.save(stored, faces.crops)
        files = [stored, *([labelled.faces] if labelled else [])]
        progress("embedding with the source network", 0, None)
        if spec.published:
            embeddings, runtime = self._isolate(
                published.embed_by_published, self._source, description, files, progress=progress
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
        of_labelled = embeddings[1] if labelled else None
        precision = description.published.precision if description.published else None
        return Reference(source, stored, faces.about, synthetic, embeddings[0], labelled, of_labelled, precision)

    def _graphs(
        self, description: Description, reference: Reference, scratch: Path, new: Path
    ) -> tuple[dict[GraphKind, Path], dict[str, list[str]]]:
        """Write a graph for each precision, derived from the float32 graph.

        Args:
            description: The source network.
            reference: Its faces and embeddings. float16 is checked for overflow on the faces.
            scratch: Directory with the calibration faces and the graph without weights.
            new: Directory of the new artefact.

        Returns:
            The graphs by precision, and by file name, the layers that a graph computes in a higher precision.
        """
        spec, progress, higher_precision = self._spec, self._progress, dict[str, list[str]]()
        graphs: dict[GraphKind, Path] = {"fp32": new / GRAPH_FILES["fp32"]}
        notes = self._metadata(description)
        progress("writing fp32", 0, None)
        common = (graphs["fp32"], spec.layout, notes)
        if spec.published:
            self._isolate(published.write_imported, self._source, description, *common)
        else:
            self._isolate(steps.write_graph, self._source, scratch / _SKELETON, description.preprocessing, *common)
        if weights_file(graphs["fp32"]).exists() and set(spec.precisions) - {"fp32"}:
            raise GraphUnsupported("a network larger than 2 GB can be exported in fp32 only; omit --precision")
        if "fp16" in spec.precisions:
            progress("writing fp16", 0, None)
            graphs["fp16"] = new / GRAPH_FILES["fp16"]
            higher_precision[graphs["fp16"].name] = self._isolate(
                write_float16, graphs["fp32"], reference.faces, graphs["fp16"], notes
            )
        if "int8" in spec.precisions:
            progress("writing int8: measuring the loss of each layer", 0, None)
            paths = [new / GRAPH_FILES[kind] for kind in ("int8", "int8-cpu")]
            int8: Int8Graphs = self._isolate(
                write_int8, graphs["fp32"], scratch / _CALIBRATION, *paths, notes, self._weight_bits, progress=progress
            )
            graphs["int8"] = paths[0]
            if int8.cpu:
                graphs["int8-cpu"] = paths[1]
            higher_precision.update({path.name: int8.kept for path in paths if path.is_file()})
            self._notes.append(int8.comparison)
        return graphs, higher_precision

    def _prove(self, graphs: dict[GraphKind, Path], reference: Reference) -> Proof:
        if self._spec.layout == "insightface":
            return prove_insightface(graphs["fp32"], reference, self._isolate)
        return prove(graphs, reference, self._progress, self._isolate)

    def _card(
        self,
        description: Description,
        graphs: dict[GraphKind, Path],
        higher_precision: dict[str, list[str]],
        dimensions: int,
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
            higher_precision=higher_precision,
            weight_bits={graphs[kind].name: self._weight_bits for kind in graphs if arithmetic(kind) == "int8"},
            norm_statistics=description.norm_statistics(),
            layout=self._spec.layout,
        )

    def _metadata(self, description: Description) -> dict[str, str]:
        """Return the metadata of the graph files, which repeats the card for readers of a graph without its card."""
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
    """Refuse a source network that does not return usable embeddings, because a proof against it is meaningless.

    Raises:
        WeightsNotFinite: An embedding is NaN, infinite or zero, or all faces have the same embedding.
    """
    norms = np.linalg.norm(reference.embeddings, axis=1)
    if not np.isfinite(norms).all() or not norms.all():
        raise WeightsNotFinite("the source network returns NaN, infinity or zero; its weights are broken")
    if pair_similarities(reference.embeddings / norms[:, None]).std() < _MIN_SPREAD:
        raise WeightsNotFinite("the source network returns the same embedding for all faces; its weights are broken")
