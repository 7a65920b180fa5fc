"""Fold what is constant and drop what is not an input, so that every engine accepts the graph.

Block-quantised weights (opset 21) are DequantizeLinear outputs: OpenVINO refuses them and ONNX Runtime dequantises them
at each run. Some exporters also list every weight as a graph input.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper, version_converter
from onnx.reference import ReferenceEvaluator

OPSET = 17  # the first with every operator of our own heads; later ones stay as they are


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of at least opset 17 with constant nodes folded and only true inputs.

    The values are those of ONNX's reference evaluator; no node that depends on an input is touched.
    """
    simple = _at_least(OPSET, model)
    graph = simple.graph
    weights = {tensor.name for tensor in graph.initializer}
    read = {name for node in graph.node for name in node.input}
    _replace(graph.input, [value for value in graph.input if value.name in read - weights])
    _drop_dropout(graph)
    _fold_constants(simple)
    drop_unused_weights(graph)
    del graph.value_info[:]
    return simple


def _at_least(opset: int, model: onnx.ModelProto) -> onnx.ModelProto:
    declared = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if declared < opset:
        return version_converter.convert_version(model, opset)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _drop_dropout(graph: onnx.GraphProto) -> None:
    """Dropout does nothing at inference; some files carry it in a form that the checker refuses."""
    source = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Dropout"}
    _replace(graph.node, [node for node in graph.node if node.op_type != "Dropout"])
    for node in graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = source.get(name, name)


def _fold_constants(model: onnx.ModelProto) -> None:
    graph = model.graph
    known: dict[str, NDArray[np.generic]] = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    kept: list[onnx.NodeProto] = []
    folded: list[onnx.TensorProto] = []
    for node in graph.node:
        given = [name for name in node.input if name]
        if all(name in known for name in given) and not outputs.intersection(node.output):
            values = _evaluate(model, node, {name: known[name] for name in given})
            known.update(values)
            folded.extend(numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in values.items())
        else:
            kept.append(node)
    _replace(graph.node, kept)
    graph.initializer.extend(folded)


def _evaluate(
    model: onnx.ModelProto, node: onnx.NodeProto, feeds: dict[str, NDArray[np.generic]]
) -> dict[str, NDArray[np.generic]]:
    inputs = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feeds.items()
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    single = onnx.helper.make_model(
        onnx.helper.make_graph([node], "constant", inputs, outputs), opset_imports=model.opset_import
    )
    arrays = ReferenceEvaluator(single).run(None, feeds)
    return {value.name: np.asarray(array) for value, array in zip(outputs, arrays, strict=True)}


def drop_unused_weights(graph: onnx.GraphProto) -> None:
    """Remove initializers that no node reads."""
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    _replace(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in used])


def _replace(field: Any, items: Iterable[Any]) -> None:  # protobuf's repeated fields have no common public type
    kept = list(items)
    del field[:]
    field.extend(kept)
