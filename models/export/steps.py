"""The steps of an export that read the source: describe it, embed faces with it, write its graph in float32.

Each step is a module-level function that can run in its own process: faces and graphs are passed as files, and its
arguments and return values are small. Steps that need torch import it themselves, so that the other processes do not
load it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from models.artefact.card import NormStatistics
from models.artefact.digests import value_digest
from models.artefact.parity import GraphKind
from models.checkpoint import ANYWHERE, Checkpoint, Head, Selection, read_checkpoint
from models.checkpoint.keys import locate_named
from models.errors import BuilderUnfit
from models.graph import (
    Preprocessing,
    annotate,
    fold_batch_norms,
    insightface_graph,
    recognizer_graph,
    save_checked,
    simplify_in_place,
)
from models.graph.contract import ColorOrder
from models.graph.form import RecognizerForm
from models.graph.structure import structure_digest
from models.graph.weights import ExternalWeights, fill_weights
from models.types import Progress, no_progress

if TYPE_CHECKING:
    from models.backbones import Plan


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """A checkpoint or a published graph, and what the user states about its network.

    Attributes:
        path: The checkpoint, a directory with a checkpoint, or the ONNX file.
        color: Colour order of the network's input; None to take it from the file.
        mean, std: The network's input is `(pixel - mean) / std` of 0..255 values, with one number or three in `color`
            order; None for the values of the recognised family.
        template: Name of the alignment template; None for the template of the recognised family, or for a published
            graph, the template of its input size.
        mirror: Add the embedding of the mirror image before normalisation.
        builder: `package.module:callable` that returns the user's own network; None to recognise the network.
        selection: Where in the checkpoint the network is, as far as it is known.
        output: Name of the published graph's output with the embedding; None to find it.
        origin: Where the file comes from, for the card; replaces members of `Description.source`.
    """

    path: Path
    color: ColorOrder | None = None
    mean: float | tuple[float, float, float] | None = None
    std: float | tuple[float, float, float] | None = None
    template: str | None = None
    mirror: bool = False
    builder: str | None = None
    selection: Selection = ANYWHERE
    output: str | None = None
    origin: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Published:
    """How a published graph runs.

    Attributes:
        form: The form in which it takes faces and returns embeddings.
        precision: Its coarsest arithmetic.
        mended: ONNX Runtime runs it only after `models.graph.legacy` has mended it.
    """

    form: RecognizerForm
    precision: GraphKind
    mended: bool


@dataclass(frozen=True, slots=True)
class Description:
    """A recognised checkpoint or published graph.

    Attributes:
        family: Layout of the weights' keys: a family of `models.backbones`, `own` for a user's builder, or `imported`.
        architecture: Member of the family, such as `iresnet-100`.
        template: Name of the alignment template.
        preprocessing: Colour order and scaling of the network's input, and mirror fusion.
        color_from: Source of the colour order, as a noun phrase for the card.
        weights: SHA-256 that identifies the network and its weights, also in the embedding contract.
        source: File name, SHA-256 and form of the file.
        head: Norm statistics of AdaFace's training; None if the file has none.
        contradiction: The user's colour order differs from the one that the file implies.
        selection: Where in the checkpoint the network is, so that no other step has to find it.
        notes: Sentences for the user about what was decided, and what else the file holds or leaves open.
        published: How a published graph runs; None for a checkpoint.
    """

    family: str
    architecture: str
    template: str
    preprocessing: Preprocessing
    color_from: str
    weights: str
    source: dict[str, str]
    head: Head | None = None
    contradiction: bool = False
    selection: Selection = ANYWHERE
    notes: tuple[str, ...] = ()
    published: Published | None = None

    def norm_statistics(self) -> NormStatistics | None:
        """Return the norm statistics for quality, or None if the file has none that describe the artefact's norm."""
        if self.head is None or self.head.fresh or self.preprocessing.mirror:
            return None  # mirror fusion changes the norm, and the statistics of training no longer describe it
        return NormStatistics(self.head.mean, self.head.deviation, self.head.h)


def describe_checkpoint(source: SourceSpec) -> Description:
    """Read a checkpoint, recognise its network and decide its preprocessing.

    Args:
        source: The checkpoint, and what the user states about its network.

    Returns:
        The description of the network. `weights` also covers `source.builder` and the project, because the same weights
        in another network are another model. The exporter adds the network that the builder makes.

    Raises:
        CheckpointUnreadable: The file is missing, truncated, corrupt or in an unsupported format.
        CheckpointUnsafe: The file attempts to run code.
        CheckpointIsModule: The file is a pickled module instead of weights.
        CheckpointWithoutWeights: The file holds no network, or not where the user says.
        CheckpointAmbiguous: The file holds several networks.
        WeightTypeUnsupported: A weight is of a type that is not read.
        WeightsNotFinite: A weight is NaN or infinite.
        ArchitectureUnknown: No known network has these keys and shapes.
        LandmarksNeeded: The network requires landmarks as a second input.
        ColorUnknown: Neither the user nor the file states the colour order.
        BuilderUnfit: The user's builder cannot be imported or called, or colour order, mean or deviation is missing.
    """
    from models.export.color import decide_color
    from models.export.recognition import observations

    checkpoint, plan = _read(source)
    color, because, contradiction = decide_color(checkpoint, plan, source.color)
    weights = checkpoint.weights_digest()
    # The same weights in another network are another model. A project has its own constants, such as an epsilon.
    bound = [name for name in (source.builder, plan.project) if name]
    return Description(
        family=plan.family,
        architecture=plan.architecture,
        template=plan.template,
        preprocessing=Preprocessing(color, plan.mean, plan.std, source.mirror),
        color_from=because,
        weights=value_digest([weights, *bound]) if bound else weights,
        source={"file": checkpoint.path.name, "sha256": checkpoint.sha256, "form": checkpoint.wrapper},
        head=checkpoint.head,
        contradiction=contradiction,
        selection=_found(checkpoint, source),
        notes=tuple(observations(checkpoint, plan)),
    )


def embed_by_checkpoint(
    source: SourceSpec,
    preprocessing: Preprocessing,
    files: Sequence[Path],
    skeleton: Path,
    progress: Progress = no_progress,
) -> tuple[list[NDArray[np.float32]], str]:
    """Embed faces with the checkpoint's network in torch, and write the network's graph without weights.

    Args:
        source: The checkpoint, and what the user states about its network.
        preprocessing: Preprocessing of the network's input.
        files: `.npy` files of faces, each (N, H, W, 3) uint8, RGB.
        skeleton: ONNX file to write; its weights are named but have no values.
        progress: Called after each batch with the number of faces done.

    Returns:
        (N, D) float32 for each file, embeddings before normalisation, and the runtime that computed them.

    Raises:
        ArchitectureUnknown: The weights do not fit the network of the user's builder.
        BuilderUnfit: The user's network fails, does not return embeddings, returns embeddings that depend on the other
            faces of a batch, or cannot be exported.
        ExportError: The checkpoint cannot be read or recognised; see `describe_checkpoint`.
    """
    import torch

    from models.export.network import SourceNetwork, graph_without_weights

    checkpoint, plan = _read(source)
    network = SourceNetwork(plan, checkpoint.weights, checkpoint.stored if source.builder else None)
    if source.builder:  # known networks are in evaluation mode and have no such operation
        network.require_independence(np.load(files[0], mmap_mode="r"), preprocessing)
    embeddings = [network.embed(np.load(path, mmap_mode="r"), preprocessing, progress) for path in files]
    onnx.save(graph_without_weights(plan), skeleton)
    return embeddings, f"torch {torch.__version__} float32"


def built_digest(source: SourceSpec, skeleton: Path) -> str:
    """Return the SHA-256 of the network that the user's builder made, and of weights beside the backbone that it has.

    Args:
        source: The checkpoint, and the builder.
        skeleton: Graph without weights that `embed_by_checkpoint` wrote.

    Raises:
        ExportError: The checkpoint cannot be read; see `describe_checkpoint`.
    """
    model = onnx.load(skeleton, load_external_data=False)
    named, checkpoint = _named(model), read_checkpoint(source.path, source.selection)
    used = {} if named <= checkpoint.weights.keys() else {key: checkpoint.stored[key] for key in named}
    return value_digest([structure_digest(model), replace(checkpoint, weights=used).weights_digest()])


def write_graph(
    source: SourceSpec,
    skeleton: Path,
    preprocessing: Preprocessing,
    target: Path,
    layout: str,
    notes: Mapping[str, str],
) -> None:
    """Write the float32 graph of a checkpoint: fill the skeleton with the weights and bring it to the contract.

    Args:
        source: The checkpoint.
        skeleton: Graph without weights that `embed_by_checkpoint` wrote.
        preprocessing: Preprocessing to move into the graph.
        target: ONNX file to write.
        layout: `vultus` for the contract of the service, `insightface` for the layout of insightface's `ArcFaceONNX`.
        notes: Metadata to write into the file.

    Raises:
        ExportError: The checkpoint cannot be read; see `describe_checkpoint`.
        OSError: The file cannot be written.
    """
    model = onnx.load(skeleton, load_external_data=False)
    external = _fill_from(source, model)
    simplify_in_place(model, external)
    write_contract(model, preprocessing, target, layout, notes, external)


def _named(skeleton: onnx.ModelProto) -> set[str]:
    return {tensor.name for tensor in skeleton.graph.initializer if tensor.data_location == TensorProto.EXTERNAL}


def _fill_from(source: SourceSpec, skeleton: onnx.ModelProto) -> ExternalWeights:
    """Fill a graph with the weights of a checkpoint and return the large ones.

    The checkpoint goes out of scope here, because a mapped file counts as memory until it is unmapped.
    """
    named = _named(skeleton)
    prefix = source.selection.prefix
    locate = None if source.builder or prefix is None else partial(locate_named, prefix, named)
    checkpoint = read_checkpoint(source.path, source.selection, locate)
    return fill_weights(skeleton, checkpoint.weights if named <= checkpoint.weights.keys() else checkpoint.stored)


def _read(source: SourceSpec) -> tuple[Checkpoint, "Plan"]:
    """Read a checkpoint, and the plan of its network or of the user's builder, with the user's values where given."""
    if source.builder is None:
        from models.export.recognition import as_stated, read_known

        checkpoint, plan = read_known(source.path, source.selection)
        plan = as_stated(plan, source.color, source.mean, source.std)
    else:
        from models.export.network import builder_plan

        if source.color is None or source.mean is None or source.std is None:
            raise BuilderUnfit(
                f"the preprocessing of the network that --builder {source.builder} makes is unknown; "
                "give --color, --mean and --std (for 0..255 values)"
            )
        checkpoint = read_checkpoint(source.path, source.selection)
        plan = builder_plan(source.builder, source.template or "arcface-112")
    return checkpoint, replace(
        plan,
        mean=plan.mean if source.mean is None else source.mean,
        std=plan.std if source.std is None else source.std,
        template=source.template or plan.template,
    )


def _found(checkpoint: Checkpoint, source: SourceSpec) -> Selection:
    """Return where the network was found; a user's builder may use keys beside the usual prefix as well."""
    return Selection(checkpoint.member, source.selection.prefix if source.builder else checkpoint.prefix)


def write_contract(
    model: onnx.ModelProto,
    preprocessing: Preprocessing,
    target: Path,
    layout: str,
    notes: Mapping[str, str],
    external: ExternalWeights | None = None,
) -> None:
    """Fold batch-norms, bring a simplified graph to the contract of its layout, and write it.

    Args:
        model: A simplified model from float32 `[N, 3, H, W]` to `[N, D]`. It is changed.
        preprocessing: Preprocessing to move into the graph.
        target: ONNX file to write.
        layout: `vultus` for the contract of the service, `insightface` for the layout of insightface's `ArcFaceONNX`.
        notes: Metadata to write into the file.
        external: Large weights stored outside the model; see `models.graph.weights`.
    """
    fold_batch_norms(model, external)
    convert = insightface_graph if layout == "insightface" else recognizer_graph
    convert(model, preprocessing, external)
    annotate(model, notes)
    save_checked(model, target, external)
