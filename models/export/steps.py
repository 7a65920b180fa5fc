"""The steps of an export, each made to run in a process of its own: files in, files out, small values between.

What needs torch is imported in the step that runs it, so that no other process pays for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import TensorProto

from models.alignment import TEMPLATES
from models.artefact.card import NormStatistics
from models.artefact.digests import file_digest, value_digest
from models.checkpoint import Checkpoint, Head, read_checkpoint
from models.errors import BuilderUnfit, ColorUnknown, GraphUnsupported
from models.graph import (
    Preprocessing,
    UnsupportedGraph,
    annotate,
    fold_batch_norms,
    insightface_graph,
    recognizer_graph,
    save_checked,
    simplify,
    simplify_in_place,
)
from models.graph.contract import ColorOrder
from models.graph.weights import Outside, fill
from models.runtime.onnxruntime_engine import PlainGraph
from models.types import Progress, no_progress

if TYPE_CHECKING:
    from models.backbones import Plan

EMBEDDING_STEP = "embedding by the published graph"


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """What the user says about a checkpoint or a published graph.

    Attributes:
        path: The file.
        color: ExportSpec of the channels, where the user says it.
        mean, std: What the network sees is `(pixel - mean) / std` of 0..255 values; None as the family has it.
        template: Alignment template; None as the family has it.
        mirror: Add the embedding of the mirror image.
        builder: `package.module:callable` of the user's own network.
    """

    path: Path
    color: ColorOrder | None = None
    mean: float | tuple[float, float, float] | None = None
    std: float | tuple[float, float, float] | None = None
    template: str | None = None
    mirror: bool = False
    builder: str | None = None


@dataclass(frozen=True, slots=True)
class Description:
    """What a checkpoint or a published graph turned out to be.

    Attributes:
        family, architecture: Of the network.
        template: Name of the alignment template.
        preprocessing: What the network sees.
        color_from: What told the colour order.
        weights: Digest that identifies the weights.
        source: File name, SHA-256 and form.
        head: What AdaFace's training kept of the norms, if the file has it.
        contradiction: The user says another colour order than the file.
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

    def norm_statistics(self) -> NormStatistics | None:
        """Return the statistics that quality needs, if training left any and they are of this norm."""
        if self.head is None or self.head.fresh or self.preprocessing.mirror:
            return None  # mirror fusion gives another norm than the one that training saw
        return NormStatistics(self.head.mean, self.head.deviation, self.head.h)


def describe_checkpoint(source: SourceSpec) -> Description:
    """Read a checkpoint and recognise it.

    Raises:
        ExportError: One of its kinds, for whatever is wrong with the file.
    """
    from models.export.color import decide_color

    checkpoint = read_checkpoint(source.path)
    plan = _plan(checkpoint, source)
    color, because, contradiction = decide_color(checkpoint, plan, source.color)
    weights = checkpoint.weights_digest()
    return Description(
        family=plan.family,
        architecture=plan.architecture,
        template=plan.template,
        preprocessing=Preprocessing(color, plan.mean, plan.std, source.mirror),
        color_from=because,
        weights=value_digest([weights, source.builder]) if source.builder else weights,
        source={"file": checkpoint.path.name, "sha256": checkpoint.sha256, "form": checkpoint.wrapper},
        head=checkpoint.head,
        contradiction=contradiction,
    )


def embed_by_checkpoint(
    source: SourceSpec,
    preprocessing: Preprocessing,
    files: Sequence[Path],
    skeleton: Path,
    progress: Progress = no_progress,
) -> tuple[list[NDArray[np.float32]], str]:
    """Embed the faces of `.npy` files by the network itself, and write its graph without weights.

    Returns:
        (N, D) float32 before normalisation for each file, and what computed them.
    """
    import torch

    from models.export.network import Network, structure

    checkpoint = read_checkpoint(source.path)
    plan = _plan(checkpoint, source)
    network = Network(plan, checkpoint.weights, checkpoint.stored)
    embeddings = [network.embed(np.load(path, mmap_mode="r"), preprocessing, progress) for path in files]
    onnx.save(structure(plan), skeleton)
    return embeddings, f"torch {torch.__version__} float32"


def write_graph(
    source: SourceSpec,
    skeleton: Path,
    preprocessing: Preprocessing,
    target: Path,
    layout: str,
    notes: Mapping[str, str],
) -> None:
    """Put the weights into the graph and bring it to its contract, in float32."""
    model = onnx.load(skeleton, load_external_data=False)
    outside = _fill_from(source.path, model)
    simplify_in_place(model, outside)
    _write_contract(model, preprocessing, target, layout, notes, outside)


def _fill_from(path: Path, skeleton: onnx.ModelProto) -> Outside:
    """Fill a graph, and let go of the file: what is mapped counts as memory as long as it is mapped."""
    checkpoint = read_checkpoint(path)
    named = {tensor.name for tensor in skeleton.graph.initializer if tensor.data_location == TensorProto.EXTERNAL}
    return fill(skeleton, checkpoint.weights if named <= checkpoint.weights.keys() else checkpoint.stored)


def describe_onnx(source: SourceSpec) -> Description:
    """Check that a published graph is a recognizer and that everything the file cannot tell was said.

    Raises:
        GraphUnsupported: It is no recognizer.
        ColorUnknown: The colour order, mean or deviation was not given.
    """
    if source.color is None or source.mean is None or source.std is None:
        raise ColorUnknown(
            f"{source.path.name} does not say what it wants to see; say it with --color rgb or --color bgr, and with "
            "--mean and --std of 0..255 values (127.5 and 127.5 for most, 0 and 1 for none)"
        )
    model = _published(source.path)
    given = _input(model, source.path).type.tensor_type
    if given.elem_type != TensorProto.FLOAT:
        kind = TensorProto.DataType.Name(given.elem_type).lower()
        raise GraphUnsupported(f"{source.path.name} takes {kind}; only float32 graphs are imported")
    sizes = [dim.dim_value or "any" for dim in given.shape.dim]
    fitting = {item.name for item in TEMPLATES.values() if [3, item.height, item.width] == sizes[1:]}
    template = source.template or next(iter(fitting), None)
    if template not in fitting:
        known = ", ".join(f"{item.height}x{item.width} ({item.name})" for item in TEMPLATES.values())
        raise GraphUnsupported(
            f"{source.path.name} takes [{', '.join(map(str, sizes))}]; a recognizer takes [N, 3, H, W] of {known}"
        )
    assert template is not None
    digest = file_digest(source.path)
    return Description(
        family="imported",
        architecture=model.graph.name or "onnx",
        template=template,
        preprocessing=Preprocessing(source.color, source.mean, source.std, source.mirror),
        color_from="its user",
        weights=digest,
        source={"file": source.path.name, "sha256": digest, "form": "onnx"},
    )


def embed_by_published(
    source: SourceSpec, preprocessing: Preprocessing, files: Sequence[Path], progress: Progress = no_progress
) -> tuple[list[NDArray[np.float32]], str]:
    """Embed the faces of `.npy` files by the graph as it was published; see `embed_by_checkpoint`."""
    recognizer = PlainGraph(source.path)
    faces = [np.load(path, mmap_mode="r") for path in files]
    return [_embed_published(recognizer, array, preprocessing, progress) for array in faces], recognizer.version


def write_imported(
    source: SourceSpec, preprocessing: Preprocessing, target: Path, layout: str, notes: Mapping[str, str]
) -> None:
    """Bring a published graph to the contract, in float32."""
    try:
        _write_contract(simplify(_published(source.path)), preprocessing, target, layout, notes)
    except (UnsupportedGraph, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise GraphUnsupported(f"{source.path.name} cannot be brought to the contract: {error}") from error


def _plan(checkpoint: Checkpoint, source: SourceSpec) -> "Plan":
    from models.backbones import recognise

    shapes = {key: array.shape for key, array in checkpoint.weights.items()}
    if source.builder is None:
        plan = recognise(shapes)
    else:
        from models.export.network import builder_plan

        if source.color is None or source.mean is None or source.std is None:
            raise BuilderUnfit(
                f"with --builder {source.builder} nobody but you knows what the network wants to see; "
                "say it with --color, --mean and --std (0..255 values)"
            )
        plan = builder_plan(source.builder, source.template or "arcface-112")
    return replace(
        plan,
        mean=plan.mean if source.mean is None else source.mean,
        std=plan.std if source.std is None else source.std,
        template=source.template or plan.template,
    )


def _published(path: Path) -> onnx.ModelProto:
    try:
        model: onnx.ModelProto = onnx.load(path)
    except (OSError, DecodeError, ValueError, onnx.checker.ValidationError) as error:
        raise GraphUnsupported(f"{path.name}, or a file of weights beside it, cannot be read as ONNX") from error
    return model


def _input(model: onnx.ModelProto, path: Path) -> onnx.ValueInfoProto:
    """Return the picture's input; some exporters list every weight as an input too."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs: list[onnx.ValueInfoProto] = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise GraphUnsupported(f"{path.name} is no ONNX graph with one input")
    return inputs[0]


def _embed_published(
    recognizer: PlainGraph, faces: NDArray[np.uint8], preprocessing: Preprocessing, progress: Progress
) -> NDArray[np.float32]:
    """Preprocess outside of the graph, independently of what the conversion puts inside."""
    mean, std = (np.array(value, np.float32) for value in (preprocessing.mean, preprocessing.std))
    parts = []
    for start in range(0, len(faces), recognizer.batch):
        batch = faces[start : start + recognizer.batch]
        ordered = batch if preprocessing.color == "rgb" else batch[..., ::-1]
        planes = ((ordered.astype(np.float32) - mean) / std).transpose(0, 3, 1, 2)
        raw = recognizer.run(np.ascontiguousarray(planes))[0]
        if preprocessing.mirror:
            raw = raw + recognizer.run(np.ascontiguousarray(planes[..., ::-1]))[0]
        parts.append(raw)
        progress(EMBEDDING_STEP, start + len(batch), len(faces))
    return np.concatenate(parts)


def _write_contract(
    model: onnx.ModelProto,
    preprocessing: Preprocessing,
    target: Path,
    layout: str,
    notes: Mapping[str, str],
    outside: Outside | None = None,
) -> None:
    fold_batch_norms(model, outside)
    convert = insightface_graph if layout == "insightface" else recognizer_graph
    convert(model, preprocessing, outside)
    annotate(model, notes)
    save_checked(model, target, outside)
