"""Convert a graph to float16. The tensor types state the precision, so that every engine computes the same.

The largest float16 is 65504. Nodes whose observed values come near it stay in float32. So do the scaling of pixels and
the normalisation of the embedding, whose sum of squares overflows first.
"""

from collections.abc import Collection, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.graph.simplify import drop_unused

LARGEST = 65504.0  # the largest finite float16
HEADROOM = 8.0  # factor by which values of other faces may exceed the observed values

_BRIDGES = ("_half", "_single")  # suffixes of tensors that are cast to float16 and to float32


def nodes_near_overflow(model: onnx.ModelProto, largest: Mapping[str, float]) -> list[str]:
    """Return the nodes that must not be computed in float16.

    Args:
        model: A float32 model in the contract of `models.graph`.
        largest: Largest observed magnitude of every activation, by name.

    Returns:
        Names of the first outputs of these nodes.
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer}

    def magnitude(name: str) -> float:
        if name not in weights:
            return largest.get(name, 0.0)
        array = numpy_helper.to_array(weights[name])
        return float(np.abs(array).max()) if array.dtype.kind == "f" and array.size else 0.0

    return [
        node.output[0]
        for node in model.graph.node
        if max(map(magnitude, (*node.input, *node.output))) * HEADROOM > LARGEST
    ]


def to_float16(model: onnx.ModelProto, keep: Collection[str]) -> onnx.ModelProto:
    """Return the graph with float16 weights and activations.

    Args:
        model: A float32 model in the contract of `models.graph`.
        keep: First outputs of nodes that stay in float32. The nodes that the contract adds always do.
    """
    half = onnx.ModelProto()
    half.CopyFrom(model)
    graph = half.graph
    floats = _float_tensors(half)
    inside = {node.output[0] for node in _network_nodes(graph)} - set(keep)
    weights = {tensor.name: tensor for tensor in graph.initializer}
    halved = {name for node in graph.node if node.output[0] in inside for name in node.output if name in floats}
    bridges: set[str] = set()
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        in_half = node.output[0] in inside
        for position, name in enumerate(node.input):
            if name not in floats or (name in halved) == in_half:
                continue
            bridge = f"{name}{_BRIDGES[0 if in_half else 1]}"
            node.input[position] = bridge
            if bridge in bridges:
                continue
            bridges.add(bridge)
            if name in weights:
                array = numpy_helper.to_array(weights[name]).astype(np.float16)
                graph.initializer.append(numpy_helper.from_array(array, bridge))
            else:
                kind = TensorProto.FLOAT16 if in_half else TensorProto.FLOAT
                nodes.append(helper.make_node("Cast", [name], [bridge], to=kind))
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    drop_unused(graph)
    return half


def _float_tensors(model: onnx.ModelProto) -> set[str]:
    """Return the names of all float32 tensors, both activations and weights."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = (*inferred.value_info, *inferred.input, *inferred.output)
    names = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    return names | {tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT}


def _network_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return the nodes of the network itself, between the scaling of pixels and the normalisation."""
    writers = {name: node for node in graph.node for name in node.output}
    images = {graph.input[0].name}
    before: set[str] = set()
    for node in graph.node:  # casts, colour swaps and scaling of the images
        if node.op_type in ("Cast", "Transpose", "Gather", "Sub", "Div", "Concat") and images.issuperset(
            name for name in node.input if name in writers or name in images
        ):
            before.add(node.output[0])
            images.update(node.output)
    after, pending = set(), [value.name for value in graph.output]
    while pending:
        node = writers.get(pending.pop())
        if node is not None and node.output[0] not in after and _is_head(node):
            after.add(node.output[0])
            pending.extend(node.input)
    return [node for node in graph.node if node.output[0] not in before | after]


def _is_head(node: onnx.NodeProto) -> bool:
    return node.output[0] in ("embedding", "norm") or node.output[0].startswith("vultus_")
