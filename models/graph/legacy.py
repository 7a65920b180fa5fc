"""Mend graphs of old exporters that break the ONNX specification in a known way.

MXNet's exporter wrote `spatial=0` into batch-norms with one value for each channel, and PRelu slopes `[C]`, which ONNX
applies to the last axis instead of the channels (onnx/models #156). ONNX Runtime rejects both, and the meaning is
unambiguous, because the shapes allow no other one.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from models.graph.shapes import Shape, infer_shapes
from models.graph.weights import Weights

_IR_VERSION = 8  # of opset 17; up to version 3 every weight had to be listed as an input


def mend_legacy(model: onnx.ModelProto) -> list[str]:
    """Mend a graph in place.

    Returns:
        What was mended, one noun phrase for each kind; empty if the graph needed nothing that changes how it runs.
    """
    _drop_statistics(model.graph)
    model.ir_version = max(model.ir_version, _IR_VERSION)
    mended = [
        (drop_listed_weights(model.graph), "inputs that no node reads are left out"),
        (_mend_spatial(model), "batch-norms with spatial=0 are per channel"),
        (_mend_slopes(model), "PRelu slopes [C] are per channel"),
    ]
    return [text for count, text in mended if count]


def is_training(norm: onnx.NodeProto) -> bool:
    """Return whether a batch-norm was exported for training: by its attribute, or before opset 14 by its outputs."""
    return len(norm.output) > 1 or any(item.name == "training_mode" and item.i for item in norm.attribute)


def _drop_statistics(graph: onnx.GraphProto) -> None:
    """Remove the statistics that batch-norms of early opsets returned for training, if nothing reads them."""
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    for node in graph.node:
        trains = any(item.name == "training_mode" for item in node.attribute)
        if node.op_type == "BatchNormalization" and not trains and not read.intersection(node.output[1:]):
            del node.output[1:]


def drop_listed_weights(graph: onnx.GraphProto) -> int:
    """Remove inputs that are weights or that no node reads, and return the number of the latter."""
    weights = {tensor.name for tensor in graph.initializer}
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    inputs = [value for value in graph.input if value.name not in weights]
    kept = [value for value in inputs if value.name in read]
    del graph.input[:]
    graph.input.extend(kept)
    return len(inputs) - len(kept)


def _mend_spatial(model: onnx.ModelProto) -> int:
    """Remove `spatial=0` where the parameters are per channel; where they are per position, write the arithmetic."""
    weights = Weights(model.graph, None)
    mended, nodes = 0, list[onnx.NodeProto]()
    for node in model.graph.node:
        spatial = next((item for item in node.attribute if item.name == "spatial"), None)
        per_position = node.op_type == "BatchNormalization" and spatial is not None and not spatial.i
        if per_position and all(name in weights for name in node.input[1:5]):
            if weights[node.input[1]].ndim == 1:
                node.attribute.remove(spatial)
                mended += 1
            else:
                nodes.extend(_per_position(node, weights))
                continue
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return mended


def _per_position(norm: onnx.NodeProto, weights: Weights) -> Iterable[onnx.NodeProto]:
    """Return a multiplication and an addition with one factor for each channel and position."""
    gamma, beta, mean, variance = (weights[name].astype(np.float64) for name in norm.input[1:5])
    epsilon = next((item.f for item in norm.attribute if item.name == "epsilon"), 1e-5)
    scale = gamma / np.sqrt(variance + epsilon)
    names = [f"{norm.output[0]}_{part}" for part in ("scale", "shift", "scaled")]
    kind = weights[norm.input[1]].dtype
    weights[names[0]], weights[names[1]] = scale.astype(kind), (beta - mean * scale).astype(kind)
    yield onnx.helper.make_node("Mul", [norm.input[0], names[0]], [names[2]])
    yield onnx.helper.make_node("Add", [names[2], names[1]], [norm.output[0]])


def _mend_slopes(model: onnx.ModelProto) -> int:
    """Give slopes `[C]` the shape `[C, 1, 1]` if at least one of them cannot belong to the last axis."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    slopes = [node for node in model.graph.node if node.op_type == "PRelu" and _is_vector(weights.get(node.input[1]))]
    if not slopes:
        return 0
    shapes = infer_shapes(model)
    per_channel = [node for node in slopes if _matches_channels(weights[node.input[1]], shapes, node.input[0])]
    if all(shapes[node.input[0]][-1] == weights[node.input[1]].dims[0] for node in per_channel):
        return 0
    for name in {node.input[1] for node in per_channel}:
        array = numpy_helper.to_array(weights[name]).reshape(-1, 1, 1)
        weights[name].CopyFrom(numpy_helper.from_array(array, name))
    return len(per_channel)


def _is_vector(slope: onnx.TensorProto | None) -> bool:
    return slope is not None and len(slope.dims) == 1 and slope.dims[0] > 1


def _matches_channels(slope: onnx.TensorProto, shapes: Mapping[str, Shape], name: str) -> bool:
    shape = shapes.get(name, ())
    return len(shape) == 4 and shape[1] == slope.dims[0]
