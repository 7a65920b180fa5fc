"""Fold constants and remove weights from the inputs, so that every engine accepts the graph.

Block-quantised weights (opset 21) are outputs of DequantizeLinear nodes. OpenVINO rejects them, and ONNX Runtime
dequantises them again in each run. Some exporters also list every weight as a graph input.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper, version_converter
from onnx.reference import ReferenceEvaluator

from models.graph.weights import ExternalWeights, Weights

OPSET = 17  # the lowest with all operators that `models.graph.contract` adds; models of later opsets keep theirs
_DEQUANTIZE_OPSET = 19


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a simplified copy of at least opset 17: constant nodes are folded, and weights are no longer inputs.

    ONNX's reference evaluator computes the folded values. Nodes that depend on an input are not folded.
    """
    simple = with_minimum_opset(OPSET, model)
    simplify_in_place(simple)
    return simple


def simplify_in_place(model: onnx.ModelProto, external: ExternalWeights | None = None) -> None:
    """Simplify a model of at least opset 17 in place, without a second copy of its weights; see `simplify`.

    Args:
        model: The model to change.
        external: Large weights stored outside the model; see `models.graph.weights`.
    """
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    read = {name for node in graph.node for name in node.input}
    _replace(graph.input, [value for value in graph.input if value.name in read - weights])
    _resolve_types(graph)
    remove_no_ops(graph)
    _fold_constants(model, external)
    _fix_reshapes(graph)
    drop_unused(graph)
    del graph.value_info[:]


def declared_opset(model: onnx.ModelProto) -> int:
    """Return the version of ONNX's operators that a model uses; 1 if it names none."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)


def with_minimum_opset(opset: int, model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a model in at least this opset."""
    if declared_opset(model) < opset:
        return version_converter.convert_version(model, opset)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _resolve_types(graph: onnx.GraphProto) -> None:
    """Replace nodes that query a tensor's type or fixed sizes by what the graph's annotations state."""
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    sizes: dict[str, list[int]] = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.value_info, *graph.input):
        types[value.name] = value.type.tensor_type.elem_type
        sizes[value.name] = [dim.dim_value or -1 for dim in value.type.tensor_type.shape.dim]  # -1: dynamic
    for node in graph.node:
        if node.op_type == "CastLike" and node.input[1] in types:
            node.CopyFrom(onnx.helper.make_node("Cast", [node.input[0]], [node.output[0]], to=types[node.input[1]]))
        if node.op_type == "Shape" and node.input[0] in sizes:
            bounds = {item.name: item.i for item in node.attribute}
            queried = np.array(sizes[node.input[0]][bounds.get("start", 0) : bounds.get("end")], np.int64)
            if (queried >= 0).all():
                constant = numpy_helper.from_array(queried, node.output[0])
                node.CopyFrom(onnx.helper.make_node("Constant", [], [node.output[0]], value=constant))


def remove_no_ops(graph: onnx.GraphProto) -> None:
    """Remove Dropout and Identity, which do nothing at inference.

    Some files hold Dropout nodes that ONNX's checker rejects.
    """
    outputs = {value.name for value in graph.output}
    read = {name for node in graph.node for name in node.input} | outputs
    source: dict[str, str] = {}
    remaining = []
    for node in graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = source.get(name, name)
        unread = node.output[0] not in outputs and not read.intersection(node.output[1:])  # a mask may be read
        if node.op_type in ("Dropout", "Identity") and unread:
            source[node.output[0]] = node.input[0]
        else:
            remaining.append(node)
    _replace(graph.node, remaining)


def _fold_constants(model: onnx.ModelProto, external: ExternalWeights | None) -> None:
    graph = model.graph
    weights = Weights(graph, external)
    folded: dict[str, NDArray[np.generic]] = {}
    outputs = {value.name for value in graph.output}
    quantised = any(node.op_type == "QuantizeLinear" for node in graph.node)
    remaining: list[onnx.NodeProto] = []
    for node in graph.node:
        inputs = [name for name in node.input if name]
        constant = all(name in folded or name in weights for name in inputs)
        random = not inputs and node.op_type != "Constant"  # other nodes without inputs draw random numbers
        kept = node.domain not in ("", "ai.onnx") or (quantised and _is_layer_weight(node))
        if constant and not random and not kept and not outputs.intersection(node.output):
            feeds = {name: folded[name] if name in folded else weights[name] for name in inputs}
            folded.update(_evaluate(model, node, feeds))
        else:
            remaining.append(node)
    read = {name for node in remaining for name in node.input}
    _replace(graph.node, remaining)
    for name in folded.keys() & read:
        weights[name] = folded[name]


def _is_layer_weight(node: onnx.NodeProto) -> bool:
    """Return whether a node dequantises by channel or as a whole; engines then compute the layer in integers."""
    return node.op_type == "DequantizeLinear" and not any(item.name == "block_size" for item in node.attribute)


def _fix_reshapes(graph: onnx.GraphProto) -> None:
    """Replace a reshape target that is assembled at run time by a constant if only one of its sizes is unknown."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    writers = {name: node for node in graph.node for name in node.output}
    for index, node in enumerate(graph.node):
        target = writers.get(node.input[1]) if node.op_type == "Reshape" else None
        if target is None or target.op_type != "Concat":
            continue
        parts = [numpy_helper.to_array(weights[name]) if name in weights else None for name in target.input]
        if sum(part is None for part in parts) == 1:
            sizes = np.concatenate([np.array([-1]) if part is None else part for part in parts])
            if (sizes < 0).sum() == 1 and (sizes != 0).all():
                graph.initializer.append(numpy_helper.from_array(sizes.astype(np.int64), f"vultus_reshape_{index}"))
                node.input[1] = f"vultus_reshape_{index}"


def _evaluate(
    model: onnx.ModelProto, node: onnx.NodeProto, feeds: dict[str, NDArray[np.generic]]
) -> dict[str, NDArray[np.generic]]:
    inputs = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feeds.items()
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    opsets = list(model.opset_import)
    if node.op_type == "DequantizeLinear":  # the evaluator lacks earlier versions, which mean the same
        opsets = [onnx.helper.make_opsetid("", max(declared_opset(model), _DEQUANTIZE_OPSET))]
    single = onnx.helper.make_model(onnx.helper.make_graph([node], "constant", inputs, outputs), opset_imports=opsets)
    arrays = ReferenceEvaluator(single).run(None, feeds)
    return {value.name: np.asarray(array) for value, array in zip(outputs, arrays, strict=True)}


def drop_unused(graph: onnx.GraphProto) -> None:
    """Remove nodes and initializers that no output depends on."""
    needed = {value.name for value in graph.output}
    remaining: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            remaining.append(node)
            needed.update(node.input)
    _replace(graph.node, reversed(remaining))
    _replace(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in needed])


def _replace(field: Any, items: Iterable[Any]) -> None:  # protobuf's repeated fields have no common public type
    replacement = list(items)  # `items` may read from the field
    del field[:]
    field.extend(replacement)
