"""Widen a half-precision graph to float32, which every engine computes and which batch-norms are folded in."""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from models.graph.shapes import infer_types

_HALF = {TensorProto.FLOAT16, TensorProto.BFLOAT16}
_FLOATS = {TensorProto.FLOAT, *_HALF}


def is_half(model: onnx.ModelProto) -> bool:
    """Return whether a part of the graph computes in half precision."""
    kinds = {tensor.data_type for tensor in model.graph.initializer}
    kinds |= {value.type.tensor_type.elem_type for value in model.graph.input}
    kinds |= {tensor.data_type for node in _nodes(model.graph) for tensor in _tensors(node)}
    kinds |= {_cast_type(node) for node in _nodes(model.graph)}
    return bool(kinds & _HALF)


def widen(model: onnx.ModelProto) -> None:
    """Make every half-precision weight, cast, input and output float32, in place."""
    if not is_half(model):
        return
    types = infer_types(model)
    types.update({tensor.name: tensor.data_type for tensor in model.graph.initializer})
    for node in _nodes(model.graph):
        if _cast_type(node) in _FLOATS and types.get(node.input[0]) in _FLOATS:
            node.CopyFrom(onnx.helper.make_node("Identity", [node.input[0]], [node.output[0]]))
        for item in node.attribute:
            if item.name in ("to", "dtype") and item.i in _HALF:
                item.i = TensorProto.FLOAT
        for tensor in _tensors(node):
            _widen_tensor(tensor)
    for graph in (model.graph, *(inner for node in _nodes(model.graph) for inner in _graphs(node))):
        for tensor in graph.initializer:
            _widen_tensor(tensor)
        for value in (*graph.input, *graph.output):
            if value.type.tensor_type.elem_type in _HALF:
                value.type.tensor_type.elem_type = TensorProto.FLOAT
        del graph.value_info[:]


def _widen_tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_type in _HALF:
        array = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _cast_type(node: onnx.NodeProto) -> int:
    return next((item.i for item in node.attribute if item.name == "to" and node.op_type == "Cast"), 0)


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for inner in _graphs(node):
            yield from _nodes(inner)


def _graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for item in node.attribute:
        if item.type == onnx.AttributeProto.GRAPH:
            yield item.g


def _tensors(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for item in node.attribute:
        if item.type == onnx.AttributeProto.TENSOR:
            yield item.t
