"""The steps of an import, which read a published graph: describe it, embed faces with it, write it in the contract.

The reference of the proof is the file itself in ONNX Runtime, unchanged and in its own batch. Only if ONNX Runtime
rejects it, and `models.graph.legacy` knows why, does the mended graph run; the card and the proof say so.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray

from models.artefact.digests import file_digest, value_digest
from models.artefact.parity import GraphKind
from models.errors import ColorUnknown, GraphUnsupported, InferenceFailed, VultusError
from models.export.independence import depends_on_batch
from models.export.onnx_file import is_ort_format, read_onnx, weights_digest
from models.export.probe import Probed, network_input, probe, run_rows
from models.export.steps import Description, Published, SourceSpec, write_contract
from models.graph import Preprocessing
from models.graph.contrib import BLOCKS, is_blocked
from models.graph.form import RecognizerForm, to_form
from models.graph.legacy import is_training, mend_legacy
from models.graph.weights import MAX_FILE_BYTES
from models.graph.widen import is_half
from models.runtime.onnxruntime_engine import PlainGraph
from models.synthetic import synthetic_pictures
from models.types import Progress, no_progress

_QUANTISED = ("QuantizeLinear", "DynamicQuantizeLinear", "QLinear", "ConvInteger", "MatMulInteger")
_SCALING, _PASSING = ("Sub", "Add", "Mul", "Div"), ("Cast", "Transpose", "Identity")
_CHECKED_FACES = 3  # not the size of any batch that files are fixed to
# A wrong order of values or of faces is far below; the proof measures the rest. int8 rounds by the scale of the batch.
_MIN_COSINE: dict[GraphKind, float] = {"fp32": 0.999, "fp16": 0.99, "int8": 0.9}

EMBEDDING_STEP = "embedding with the published graph"
_ARITHMETIC: dict[GraphKind, str] = {"fp32": "float32", "fp16": "float16", "int8": "int8"}

Returned = TypeVar("Returned")


def describe_onnx(source: SourceSpec) -> Description:
    """Check that a published graph is a recognizer and describe it.

    An ONNX file does not state its preprocessing, so the user must give colour order, mean and deviation.

    Args:
        source: The graph, and what the user states about it.

    Raises:
        ColorUnknown: The colour order, mean or deviation is missing.
        GraphUnsupported: The file is not a graph that ONNX Runtime runs from an image to an embedding, or an option has
            to decide how.
    """
    if source.color is None or source.mean is None or source.std is None:
        raise ColorUnknown(
            f"{source.path.name} does not state its preprocessing; give --color rgb or --color bgr, and --mean and "
            "--std for 0..255 values (127.5 and 127.5 for most networks, 0 and 1 for no scaling)"
        )
    preprocessing = Preprocessing(source.color, source.mean, source.std, source.mirror)
    name, model = source.path.name, read_onnx(source.path)
    probed, mended = _explained(name, lambda: _probe(source, model, preprocessing))
    return Description(
        family="imported",
        architecture=model.graph.name or "onnx",
        template=probed.template.name,
        preprocessing=preprocessing,
        color_from="the user",
        weights=weights_of(source),
        source={
            "file": name,
            "sha256": file_digest(source.path),
            "form": _form(mended),
            "arithmetic": _ARITHMETIC[_precision(model)],
        },
        notes=(
            *(f"{name} runs in ONNX Runtime only after it is mended: {text}" for text in mended),
            *probed.notes,
            *_scaled_twice(model, preprocessing),
        ),
        published=Published(probed.form, _precision(model), bool(mended)),
    )


def weights_of(source: SourceSpec) -> str:
    """Return the digest of the weights, and of the output that is chosen as the embedding."""
    digest = weights_digest(source.path)
    return digest if source.output is None else value_digest([digest, source.output])


def _scaled_twice(model: onnx.ModelProto, preprocessing: Preprocessing) -> list[str]:
    """Return a note if the graph begins with a scaling of its input and the user states another one."""
    if np.all(np.equal(preprocessing.mean, 0)) and np.all(np.equal(preprocessing.std, 1)):
        return []
    names = {value.name for value in model.graph.input} - {weight.name for weight in model.graph.initializer}
    for node in model.graph.node:  # in the order of execution
        if not names.intersection(node.input):
            continue
        if node.op_type in _SCALING:
            return [
                f"the graph itself begins with a scaling ({node.op_type}); if it is that of the preprocessing, "
                "give --mean 0 --std 1"
            ]
        if node.op_type not in _PASSING:
            return []
        names = set(node.output)
    return []


def embed_by_published(
    source: SourceSpec, description: Description, files: Sequence[Path], progress: Progress = no_progress
) -> tuple[list[NDArray[np.float32]], str]:
    """Embed faces with a published graph, unconverted, in ONNX Runtime.

    Args:
        source: The graph.
        description: Its description. Preprocessing is computed outside of the graph.
        files: `.npy` files of faces, each (N, H, W, 3) uint8, RGB.
        progress: Called after each batch with the number of faces done.

    Returns:
        (N, D) float32 for each file, embeddings before normalisation, and the runtime that computed them.

    Raises:
        GraphUnsupported: An embedding depends on the other faces of a batch.
        InferenceFailed: ONNX Runtime cannot load or run the graph.
    """
    published = _published(description)
    graph = _open(source.path, published.mended)
    arrays = [np.load(path, mmap_mode="r") for path in files]
    if published.form.batch != 1 and depends_on_batch(
        lambda faces: _embed(graph, published.form, faces, description.preprocessing), arrays[0], published.precision
    ):
        raise GraphUnsupported(_dependent(source.path.name))
    embeddings = [_embed(graph, published.form, array, description.preprocessing, progress) for array in arrays]
    return embeddings, f"{graph.version} {_ARITHMETIC[published.precision]}"


def write_imported(
    source: SourceSpec, description: Description, target: Path, layout: str, notes: Mapping[str, str]
) -> None:
    """Write the float32 graph of a published graph, brought to the contract.

    Args:
        source: The published graph.
        description: Its description, with the preprocessing to move into the graph.
        target: ONNX file to write.
        layout: `vultus` for the contract of the service, `insightface` for the layout of insightface's `ArcFaceONNX`.
        notes: Metadata to write into the file.

    Raises:
        GraphUnsupported: The file cannot be read as ONNX, or its graph does not have a supported form.
        OSError: The file cannot be written.
    """
    model = _explained(source.path.name, lambda: _in_form(source.path, description))
    _explained(source.path.name, lambda: write_contract(model, description.preprocessing, target, layout, notes))


def _probe(source: SourceSpec, model: onnx.ModelProto, preprocessing: Preprocessing) -> tuple[Probed, list[str]]:
    """Probe the file as it is, or if that fails for a reason that is known, the mended graph."""
    path, arguments = source.path, (source.path.name, preprocessing, source.template, source.output)
    try:
        return probe(_open(path, mended=False), *arguments), []
    except VultusError as error:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        mended = mend_legacy(copy)
        if not mended:
            if isinstance(error, InferenceFailed):
                raise GraphUnsupported(f"{path.name} cannot be imported: {error}") from error
            raise
    try:
        return probe(PlainGraph(copy.SerializeToString()), *arguments), mended
    except InferenceFailed as error:
        raise GraphUnsupported(f"{path.name} cannot be imported: {error}") from error


def _open(path: Path, mended: bool) -> PlainGraph:
    if not mended:
        return PlainGraph(path.read_bytes() if is_ort_format(path) else path)
    model = read_onnx(path)
    mend_legacy(model)
    return PlainGraph(model.SerializeToString())


def _embed(
    graph: PlainGraph,
    form: RecognizerForm,
    faces: NDArray[np.uint8],
    preprocessing: Preprocessing,
    progress: Progress = no_progress,
) -> NDArray[np.float32]:
    """Return (N, D) float32, embeddings before normalisation."""
    parts = []
    batch = form.batch or graph.batch
    for start in range(0, len(faces), batch):
        piece = faces[start : start + batch]
        raw = _embed_batch(graph, form, piece, preprocessing)
        if preprocessing.mirror:
            raw = raw + _embed_batch(graph, form, piece[:, :, ::-1], preprocessing)
        parts.append(raw)
        progress(EMBEDDING_STEP, start + len(piece), len(faces))
    return np.concatenate(parts)


def _embed_batch(
    graph: PlainGraph, form: RecognizerForm, faces: NDArray[np.uint8], preprocessing: Preprocessing
) -> NDArray[np.float32]:
    pictures = network_input(faces, preprocessing, form.axes, form.kind)
    names = [name for name in (form.embedding, form.norm) if name]
    rows = run_rows(graph, pictures, form.batch or len(pictures), names)
    if len(rows) < len(names):
        raise InferenceFailed("ONNX Runtime returned another shape for another number of faces")
    return rows[form.embedding] if form.norm is None else rows[form.embedding] * rows[form.norm]


def _in_form(path: Path, description: Description) -> onnx.ModelProto:
    """Return the graph in one form, after a comparison with the file in a batch that the file may not have."""
    published, plain = _published(description), replace(description.preprocessing, mirror=False)
    form, model = published.form, read_onnx(path)
    faces = synthetic_pictures(_CHECKED_FACES, form.height, form.width)
    expected = _embed(_open(path, published.mended), form, faces, plain)
    planes = network_input(faces, plain, "nchw", "float32")
    cosine, alone = _MIN_COSINE[published.precision], False
    for block in BLOCKS if is_blocked(model) else (None,):
        candidate = to_form(model, form, block)
        if candidate.ByteSize() > MAX_FILE_BYTES or _agrees(candidate, planes, expected, cosine):
            return candidate
        alone |= all(
            _agrees(candidate, planes[i : i + 1], expected[i : i + 1], cosine) for i in range(_CHECKED_FACES)
        ) and _runs(candidate, planes)
    raise GraphUnsupported(_why_not(path.name, model, form, alone))


def _agrees(model: onnx.ModelProto, planes: NDArray[np.generic], expected: NDArray[np.float32], cosine: float) -> bool:
    try:
        (found,) = PlainGraph(model.SerializeToString()).run(planes)
    except InferenceFailed:
        return False
    if found.shape != expected.shape:
        return False
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    return bool(((found * expected).sum(axis=1) >= cosine * lengths).all())


def _runs(model: onnx.ModelProto, planes: NDArray[np.generic]) -> bool:
    """Return whether a graph returns one row for each face of a batch, whatever the values are."""
    try:
        return len(PlainGraph(model.SerializeToString()).run(planes)[0]) == len(planes)
    except InferenceFailed:
        return False


def _dependent(name: str) -> str:
    return (
        f"{name} returns another embedding for a face alone than in a batch; an embedding must depend on its face "
        "only, so export it again in evaluation mode (model.eval()) and without operations over the batch"
    )


def _why_not(name: str, model: onnx.ModelProto, form: RecognizerForm, right_alone: bool) -> str:
    if is_blocked(model):
        return (
            f"{name} was optimised by ONNX Runtime for one kind of processor and cannot be changed back here; import "
            "the graph that it was made from, or save it again with ORT_ENABLE_BASIC"
        )
    if any(node.op_type == "BatchNormalization" and is_training(node) for node in model.graph.node):
        return (
            f"{name} was exported in training mode, in which an embedding depends on the other faces of a batch; "
            "export it again in evaluation mode (model.eval())"
        )
    if right_alone:
        return _dependent(name)
    if form.batch is not None:
        return (
            f"{name} computes {form.batch} face(s) at a time and its shapes cannot be freed; export it again with a "
            "free batch axis (dynamic_axes of torch.onnx.export)"
        )
    return f"{name} cannot be imported: the converted graph does not return the embeddings of the file"


def _published(description: Description) -> Published:
    assert description.published is not None
    return description.published


def _form(mended: Sequence[str]) -> str:
    return f"onnx, mended: {'; '.join(mended)}" if mended else "onnx"


def _precision(model: onnx.ModelProto) -> GraphKind:
    """Return the coarsest arithmetic of a graph, whose rounding limits what a proof can show."""
    if any(node.op_type.startswith(_QUANTISED) for node in _used(model.graph)):
        return "int8"
    return "fp16" if is_half(model) else "fp32"


def _used(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return the nodes on which an output depends; one that nothing reads must not loosen the limits of the proof."""
    needed, used = {value.name for value in graph.output}, []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            used.append(node)
            needed.update(node.input)
    return used


def _explained(name: str, step: Callable[[], Returned]) -> Returned:
    """Call a function, and raise whatever onnx cannot do with a file as one sentence."""
    try:
        return step()
    except (VultusError, OSError):
        raise
    except Exception as error:  # onnx, its converter and its checker raise many classes without a common base
        reason = " ".join(line.strip() for line in str(error).splitlines() if line.strip())[:300]
        raise GraphUnsupported(f"{name} cannot be brought to the contract: {reason or type(error).__name__}") from error
