"""Bring a published recognizer to one form: float32 `[N, 3, H, W]` in, `[N, D]` out, any batch.

The form of the file is not guessed: `models.export.probe` finds it by running the file.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.graph.batching import free_batch
from models.graph.contrib import standard_operators
from models.graph.legacy import mend_legacy
from models.graph.shapes import annotate_shapes, infer_shapes, infer_types
from models.graph.simplify import OPSET, drop_unused, remove_no_ops, simplify_in_place, with_minimum_opset
from models.graph.widen import widen

_RESERVED = {"faces", "embedding", "norm", "input", "raw_embedding"}

Axes = Literal["nchw", "nhwc"]


@dataclass(frozen=True, slots=True)
class RecognizerForm:
    """The form in which a published recognizer takes faces and returns embeddings.

    Attributes:
        axes: Order of the input's axes.
        kind: numpy name of the input's type.
        height, width: Size of the crops in pixels.
        batch: Number of faces of each run if only this number is right; None if any is.
        embedding: Name of the output with the embedding.
        norm: Name of the output with the length of the embedding, which then has length 1; None without such an output.
        dimensions: Number of components of an embedding.
    """

    axes: Axes
    kind: str
    height: int
    width: int
    batch: int | None
    embedding: str
    norm: str | None
    dimensions: int


def to_form(model: onnx.ModelProto, form: RecognizerForm, block: int | None = None) -> onnx.ModelProto:
    """Return a simplified copy of at least opset 17 that takes float32 `[N, 3, H, W]` and returns `[N, D]`.

    Args:
        model: The published model.
        form: The form of its input and outputs.
        block: Number of channels in a block of ONNX Runtime's own memory layout, see `models.graph.contrib`.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    graph.name = graph.name or "published"
    mend_legacy(copy)
    _keep_outputs(graph, [name for name in (form.embedding, form.norm) if name])
    remove_no_ops(graph)
    _fix_size(graph, form)
    copy = with_minimum_opset(OPSET, copy)
    graph = copy.graph
    standard_operators(copy, block)
    widen(copy)
    _take_float_planes(graph, form)
    annotate_shapes(copy)
    simplify_in_place(copy)
    if form.batch is not None:
        free_batch(copy, form.batch)
    graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    _return_rows(copy, form)
    remove_no_ops(graph)
    _rename_reserved(graph)
    drop_unused(graph)
    return copy


def _keep_outputs(graph: onnx.GraphProto, names: list[str]) -> None:
    kept = {value.name: value for value in graph.output}
    outputs = [onnx.ValueInfoProto.FromString(kept[name].SerializeToString()) for name in names]
    del graph.output[:]
    graph.output.extend(outputs)
    drop_unused(graph)


def _fix_size(graph: onnx.GraphProto, form: RecognizerForm) -> None:
    """Write the size of the crops into the input, and remove annotations that are made for other sizes."""
    sizes = (3, form.height, form.width) if form.axes == "nchw" else (form.height, form.width, 3)
    tensor = graph.input[0].type.tensor_type
    dims: list[int | str] = [form.batch or "N", *sizes]
    graph.input[0].CopyFrom(helper.make_tensor_value_info(graph.input[0].name, tensor.elem_type, dims))
    del graph.value_info[:]


def _take_float_planes(graph: onnx.GraphProto, form: RecognizerForm) -> None:
    """Let the graph take float32 planes; a transposition in the graph that undoes ours is removed."""
    source = graph.input[0].name
    first = graph.input[0].type.tensor_type
    batch = first.shape.dim[0].dim_value or first.shape.dim[0].dim_param
    planes = "vultus_planes_in"
    if form.axes == "nhwc":
        readers = [node for node in graph.node if source in node.input]
        if readers and all(_order(node) == [0, 3, 1, 2] for node in readers) and first.elem_type == TensorProto.FLOAT:
            for node in readers:
                node.CopyFrom(helper.make_node("Identity", [planes], list(node.output)))
        else:
            graph.node.insert(0, helper.make_node("Transpose", [planes], ["vultus_pixels"], perm=[0, 2, 3, 1]))
            graph.node.insert(1, helper.make_node("Cast", ["vultus_pixels"], [source], to=first.elem_type))
    elif first.elem_type != TensorProto.FLOAT:
        graph.node.insert(0, helper.make_node("Cast", [planes], [source], to=first.elem_type))
    else:
        return
    shape = [batch, 3, form.height, form.width]
    graph.input[0].CopyFrom(helper.make_tensor_value_info(planes, TensorProto.FLOAT, shape))


def _rename_reserved(graph: onnx.GraphProto) -> None:
    """Rename tensors with names that the contract gives to its own."""

    def renamed(name: str) -> str:
        return f"published_{name}" if name in _RESERVED or name.startswith("vultus_") else name

    for node in graph.node:
        node.input[:] = map(renamed, node.input)
        node.output[:] = map(renamed, node.output)
        for item in node.attribute:
            if item.type == onnx.AttributeProto.GRAPH:
                _rename_reserved(item.g)
    for value in (*graph.initializer, *graph.input, *graph.output):
        value.name = renamed(value.name)


def _order(node: onnx.NodeProto) -> list[int]:
    return list(node.attribute[0].ints) if node.op_type == "Transpose" and node.attribute else []


def _return_rows(model: onnx.ModelProto, form: RecognizerForm) -> None:
    """Return the embedding before normalisation as rows of a matrix."""
    graph = model.graph
    rows = _rows(model, form.embedding, form.dimensions, "vultus_rows")
    if form.norm is not None:
        length = _rows(model, form.norm, 1, "vultus_norms")
        graph.node.append(helper.make_node("Mul", [rows, length], ["vultus_raw"]))
        rows = "vultus_raw"
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(rows, TensorProto.FLOAT, ["N", form.dimensions]))


def _rows(model: onnx.ModelProto, name: str, columns: int, rows: str) -> str:
    graph = model.graph
    shape = numpy_helper.from_array(np.array([-1, columns], np.int64), f"{rows}_shape")
    if infer_types(model).get(name) != TensorProto.FLOAT:
        graph.node.append(helper.make_node("Cast", [name], [f"{rows}_float"], to=TensorProto.FLOAT))
        name = f"{rows}_float"
    elif infer_shapes(model).get(name, ())[1:] == (columns,):
        return name
    graph.initializer.append(shape)
    graph.node.append(helper.make_node("Reshape", [name, shape.name], [rows]))
    return rows
