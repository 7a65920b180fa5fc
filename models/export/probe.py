"""Find the form of a published recognizer by running it on synthetic pictures.

A file states its input and output incompletely or wrongly: sizes are free, axes are channels-last, the embedding is
`[N, D, 1, 1]` or `[D]`, the batch is free in the file and written into its shapes. So the file is run as it is, and
what it accepts and returns decides. Where several readings remain, the user decides by an option.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from models.alignment import TEMPLATES, AlignmentTemplate
from models.errors import GraphUnsupported, InferenceFailed
from models.graph import Preprocessing
from models.graph.form import Axes, RecognizerForm
from models.runtime.onnxruntime_engine import PlainGraph, Port
from models.synthetic import synthetic_pictures

_FACES = 2
_UNIT = 1e-3  # largest deviation of a unit embedding's length; half precision is off by 5e-4
_SAME = 1e-3  # largest relative difference of an embedding alone and in a batch
_WHOLE = ("uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")  # hold pixels 0..255
_REAL = ("float16", "float32", "float64")

_NUMBERS = (*_WHOLE, *_REAL)
_AXES: tuple[Axes, ...] = ("nchw", "nhwc")

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Probed:
    """A published recognizer's form and alignment template, and sentences for the user about what was decided."""

    form: RecognizerForm
    template: AlignmentTemplate
    notes: tuple[str, ...]


def network_input(faces: NDArray[np.uint8], preprocessing: Preprocessing, axes: Axes, kind: str) -> NDArray[np.generic]:
    """Preprocess faces for a published graph, independently of the preprocessing that the conversion puts inside.

    Args:
        faces: (N, H, W, 3) uint8, RGB.
        preprocessing: Colour order and scaling of the graph's input.
        axes: Order of the input's axes.
        kind: numpy name of the input's type.

    Returns:
        (N, 3, H, W) or (N, H, W, 3) of that type.
    """
    mean, std = (np.array(value, np.float32) for value in (preprocessing.mean, preprocessing.std))
    ordered = faces if preprocessing.color == "rgb" else faces[..., ::-1]
    pixels = (ordered.astype(np.float32) - mean) / std
    return np.ascontiguousarray(pixels if axes == "nhwc" else pixels.transpose(0, 3, 1, 2)).astype(kind)


def probe(
    graph: PlainGraph, name: str, preprocessing: Preprocessing, template: str | None, output: str | None
) -> Probed:
    """Find the form of a published graph.

    Args:
        graph: The graph.
        name: Name of its file, for messages.
        preprocessing: Colour order and scaling of the graph's input.
        template: Name of the user's alignment template; None if the user gave none.
        output: Name of the output with the embedding; None if the user gave none.

    Raises:
        GraphUnsupported: The graph is no recognizer, or an option has to decide.
        InferenceFailed: ONNX Runtime cannot run the graph.
    """
    _check_input(graph, name, preprocessing)
    if output is not None and output not in {port.name for port in graph.outputs}:
        raise GraphUnsupported(f"{name} has no output {output}; its outputs are {_listed(graph)}")
    (axes, found, batch), *others = _accepted(graph, name, preprocessing, template)
    pictures = network_input(synthetic_pictures(_FACES, found.height, found.width), preprocessing, axes, _kind(graph))
    rows = _rows(graph, pictures, batch)
    notes = []
    if others:
        notes.append(
            f"{name} leaves its axes free and runs with [N, 3, H, W] and [N, H, W, 3]; the first is taken, as in most "
            "networks; if it takes the other, fix its input to [N, H, W, 3] in the file"
        )
    if batch is None and not _independent(graph, pictures, rows):
        batch = 1
        rows = _rows(graph, pictures, batch)
        notes.append(
            f"{name} returns another embedding for a face alone than in a batch; the one alone is taken, so "
            "it is imported as a graph of one face at a time"
        )
    embedding, norm, chosen = _choose(graph, name, rows, output)
    notes += chosen
    if any(isinstance(size, str | None) for size in _sizes(graph, axes)):
        notes.append(f"{name} leaves height and width free; it is imported for {found.height}x{found.width}")
    form = RecognizerForm(
        axes, _kind(graph), found.height, found.width, batch, embedding, norm, rows[embedding].shape[1]
    )
    return Probed(form, found, tuple(notes))


def run_rows(graph: PlainGraph, pictures: NDArray[np.generic], batch: int, names: list[str]) -> dict[str, Floats]:
    """Run pictures in batches of one size, the last filled up, and return (N, D) float32 for each output.

    An output that is not one row of values for each picture is missing.

    Raises:
        InferenceFailed: ONNX Runtime cannot run the graph.
    """
    parts: dict[str, list[Floats]] = {output: [] for output in names}
    for start in range(0, len(pictures), batch):
        piece = pictures[start : start + batch]
        filled = np.concatenate([piece, np.repeat(piece[:1], batch - len(piece), axis=0)])
        for output, array in zip(names, graph.run(filled, names), strict=True):
            row = _as_rows(array, batch)
            if row is None:
                parts.pop(output, None)
            elif output in parts:
                parts[output].append(row[: len(piece)])
    return {output: np.concatenate(rows) for output, rows in parts.items()}


def _as_rows(array: Floats, batch: int) -> Floats | None:
    """Return `[N, D]`, `[N, D, 1, 1]`, `[N, 1, D]`, `[N]`, or of one picture `[D]` as (N, D); None for others."""
    if array.ndim and array.shape[0] == batch:
        long = [size for size in array.shape[1:] if size != 1]
        return array.reshape(batch, -1) if len(long) <= 1 else None
    return array.reshape(1, -1) if batch == 1 and array.ndim <= 1 else None


def _check_input(graph: PlainGraph, name: str, preprocessing: Preprocessing) -> None:
    if len(graph.inputs) != 1:
        listed = ", ".join(port.name for port in graph.inputs) or "none"
        raise GraphUnsupported(
            f"{name} has {len(graph.inputs)} inputs ({listed}); a recognizer has one, the image: make the graph again "
            "with the other values fixed in it"
        )
    if not _tensors(graph):
        raise GraphUnsupported(f"{name} is no recognizer: it returns {_listed(graph)}, none of which is a tensor")
    kind = _kind(graph)
    if kind not in _NUMBERS:
        raise GraphUnsupported(f"{name} takes {kind}; a recognizer takes pixels as float or uint8")
    scaled = np.any(np.not_equal(preprocessing.mean, 0.0)) or np.any(np.not_equal(preprocessing.std, 1.0))
    if kind in _WHOLE and scaled:
        raise GraphUnsupported(
            f"{name} takes whole numbers ({kind}), so its scaling is inside the graph; give --mean 0 --std 1"
        )


def _accepted(
    graph: PlainGraph, name: str, preprocessing: Preprocessing, template: str | None
) -> list[tuple[Axes, AlignmentTemplate, int | None]]:
    """Return axes, template and batch with which the graph runs, channels first before channels last.

    The batch is None if the graph runs with any. All have one template.
    """
    candidates = [
        (axes, item)
        for axes, item in product(_AXES, TEMPLATES.values())
        if template in (None, item.name) and _fits(graph.inputs[0].shape, axes, item)
    ]
    if not candidates:
        known = ", ".join(f"{item.height}x{item.width} ({item.name})" for item in TEMPLATES.values())
        shape = ", ".join(str(size) if isinstance(size, int) else "any" for size in graph.inputs[0].shape)
        raise GraphUnsupported(
            f"{name} takes [{shape}]; a recognizer takes [N, 3, H, W] or [N, H, W, 3] in the size of its template: "
            f"{known}"
        )
    accepted: list[tuple[Axes, AlignmentTemplate, int | None]] = []
    failures: list[InferenceFailed] = []
    for axes, item in candidates:
        faces = synthetic_pictures(_FACES, item.height, item.width)
        pictures = network_input(faces, preprocessing, axes, _kind(graph))
        try:
            accepted.append((axes, item, _accepted_batch(graph, pictures)))
        except InferenceFailed as error:
            failures.append(error)
    if not accepted:
        raise failures[0]
    if len({item.name for _, item, _ in accepted}) > 1:
        choices = " or ".join(f"--template {item.name} ({item.height}x{item.width})" for _, item, _ in accepted)
        raise GraphUnsupported(f"{name} runs with crops of any size; give {choices}")
    return accepted


def _fits(shape: tuple[int | str | None, ...], axes: Axes, template: AlignmentTemplate) -> bool:
    planes: tuple[int, ...] = (3, template.height, template.width)
    sizes = planes if axes == "nchw" else (*planes[1:], 3)
    if not shape:
        return True  # a file without a shape
    fixed = zip(shape[1:], sizes, strict=False)
    return len(shape) == 4 and all(not isinstance(size, int) or size in (wanted, -1) for size, wanted in fixed)


def _accepted_batch(graph: PlainGraph, pictures: NDArray[np.generic]) -> int | None:
    first = graph.inputs[0].shape[:1]
    if first and isinstance(first[0], int) and first[0] > 0:
        graph.run(np.repeat(pictures[:1], first[0], axis=0), _tensors(graph))
        return first[0]
    try:
        arrays = graph.run(pictures, _tensors(graph))
        if any(_as_rows(array, len(pictures)) is not None for array in arrays):
            return None
    except InferenceFailed:
        pass
    graph.run(pictures[:1], _tensors(graph))
    return 1


def _rows(graph: PlainGraph, pictures: NDArray[np.generic], batch: int | None) -> dict[str, Floats]:
    return run_rows(graph, pictures, batch or len(pictures), _tensors(graph))


def _independent(graph: PlainGraph, pictures: NDArray[np.generic], together: dict[str, Floats]) -> bool:
    """Return whether a batch gives every picture what it gets alone."""
    try:
        alone = run_rows(graph, pictures, 1, list(together))
    except InferenceFailed:
        return True  # the batch is at least two; the proof compares batches of the same size
    return all(
        name in alone and alone[name].shape == rows.shape and _close(alone[name], rows)
        for name, rows in together.items()
    )


def _close(first: Floats, second: Floats) -> bool:
    return bool(np.linalg.norm(first - second) <= _SAME * np.linalg.norm(first) + 1e-6)


def _choose(
    graph: PlainGraph, name: str, rows: dict[str, Floats], output: str | None
) -> tuple[str, str | None, list[str]]:
    """Return the outputs with the embedding and with its norm, and sentences about them."""
    embeddings = [port for port, array in rows.items() if array.shape[1] > 1]
    if output is not None:
        if output not in embeddings:
            raise GraphUnsupported(f"the output {output} of {name} is not an embedding [N, D] of each face")
        return output, None, []
    if not embeddings:
        raise GraphUnsupported(
            f"{name} is no recognizer: no output is an embedding [N, D] of each face; its outputs are {_listed(graph)}"
        )
    if len(embeddings) > 1:
        choices = " or ".join(f"--output {port}" for port in embeddings)
        raise GraphUnsupported(f"{name} has several outputs that may be the embedding; give {choices}")
    embedding = embeddings[0]
    others = [port.name for port in graph.outputs if port.name != embedding]
    norm = _norm(rows, embedding)
    if norm is not None:
        note = (
            f"the output {norm} of {name} is taken for the norm of {embedding}; if it is not, give --output {embedding}"
        )
        return embedding, norm, [note]
    unused = [f"the output {embedding} of {name} is the embedding; not used: {', '.join(others)}"]
    return embedding, None, unused if others else []


def _norm(rows: dict[str, Floats], embedding: str) -> str | None:
    """Return the output with the norm of a unit embedding, as AdaFace's network returns it."""
    lengths = np.linalg.norm(rows[embedding], axis=1)
    numbers = [name for name, array in rows.items() if array.shape[1] == 1]
    if len(numbers) != 1 or not np.allclose(lengths, 1, atol=_UNIT) or not (rows[numbers[0]] > 0).all():
        return None
    return numbers[0]


def _kind(graph: PlainGraph) -> str:
    return graph.inputs[0].kind


def _sizes(graph: PlainGraph, axes: Axes) -> tuple[int | str | None, ...]:
    shape = graph.inputs[0].shape or (None, None, None, None)
    return shape[2:] if axes == "nchw" else shape[1:3]


def _tensors(graph: PlainGraph) -> list[str]:
    """Return the names of the outputs that are tensors of numbers; others are sequences or maps."""
    return [port.name for port in graph.outputs if port.kind in _NUMBERS]


def _listed(graph: PlainGraph) -> str:
    def form(port: Port) -> str:
        return f"[{', '.join(str(size or 'any') for size in port.shape)}]" if port.kind in _NUMBERS else port.kind

    return ", ".join(f"{port.name} {form(port)}" for port in graph.outputs)
