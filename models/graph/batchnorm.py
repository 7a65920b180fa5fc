"""Fold batch-norms into the convolution or linear layer beside them, in float64.

At inference a batch-norm is `scale * x + shift`. After a convolution or linear layer it goes into weights and bias;
before a linear layer likewise, through a flattening too. Before a convolution that pads with zeros it cannot: the
padding would have to be shifted as well. There a multiplication and an addition take its place, as exact in float16 as
anything else is, where a variance of 1e-4 is not.
"""

from collections import Counter

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from models.graph.simplify import drop_unused

_LAYERS = {"Conv", "Gemm"}
_DEFAULT_EPS = 1e-5  # of ONNX's BatchNormalization

Affine = tuple[NDArray[np.float64], NDArray[np.float64]]


def fold_batch_norms(model: onnx.ModelProto) -> None:
    """Fold every batch-norm, in place.

    Args:
        model: Simplified: weights are initializers.
    """
    graph = _Graph(model.graph)
    kept = []
    for node in model.graph.node:
        if node.op_type != "BatchNormalization":
            kept.append(node)
        elif not graph.fold_into_layer_before(node) and not graph.fold_into_layer_after(node):
            kept.extend(graph.as_affine(node) if graph.precedes_convolution(node) else [node])
    del model.graph.node[:]
    model.graph.node.extend(kept)
    drop_unused(model.graph)


class _Graph:
    """A graph's nodes and weights by the names of their edges."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        self._reads = Counter(name for node in graph.node for name in node.input)
        self._reads.update(value.name for value in graph.output)
        self._writer = {name: node for node in graph.node for name in node.output}
        self._readers = {name: node for node in graph.node for name in node.input}  # unique where read once

    def fold_into_layer_before(self, norm: onnx.NodeProto) -> bool:
        layer = self._writer.get(norm.input[0])
        if layer is None or self._reads[norm.input[0]] != 1 or not self._has_own_weights(layer):
            return False
        scale, shift = self._affine(norm)
        weights = self._value(layer.input[1])
        bias = self._value(layer.input[2]) if len(layer.input) > 2 else np.zeros(len(scale))
        if layer.op_type == "Gemm" and not _attribute(layer, "transB", 0):
            weights = weights * scale
        else:
            weights = weights * scale.reshape(-1, *[1] * (weights.ndim - 1))
        self._set_weights(layer, weights, bias * scale + shift)
        layer.output[0] = norm.output[0]
        self._writer[norm.output[0]] = layer
        return True

    def fold_into_layer_after(self, norm: onnx.NodeProto) -> bool:
        layer = self._only_reader(norm)
        between = layer if layer is not None and layer.op_type in ("Flatten", "Reshape") else None
        if between is not None:
            layer = self._only_reader(between)
        if layer is None or layer.op_type != "Gemm" or not self._has_own_weights(layer):
            return False
        scale, shift = self._affine(norm)
        weights = self._value(layer.input[1])
        by_output = weights if _attribute(layer, "transB", 0) else weights.T
        positions, left = divmod(by_output.shape[1], len(scale))
        if left:
            return False
        bias = self._value(layer.input[2]) if len(layer.input) > 2 else np.zeros(len(by_output))
        bias = bias + by_output @ np.repeat(shift, positions)
        by_output = by_output * np.repeat(scale, positions)
        self._set_weights(layer, by_output if _attribute(layer, "transB", 0) else by_output.T, bias)
        reader = between if between is not None else layer
        reader.input[0] = norm.input[0]
        self._readers[norm.input[0]] = reader
        return True

    def precedes_convolution(self, norm: onnx.NodeProto) -> bool:
        return any(node.op_type == "Conv" and norm.output[0] in node.input for node in self._graph.node)

    def as_affine(self, norm: onnx.NodeProto) -> list[onnx.NodeProto]:
        names = [f"{norm.output[0]}_{part}" for part in ("scale", "shift", "scaled")]
        for name, value in zip(names, self._affine(norm), strict=False):
            self._graph.initializer.append(_tensor(value.reshape(-1, 1, 1), name))
        return [
            onnx.helper.make_node("Mul", [norm.input[0], names[0]], [names[2]]),
            onnx.helper.make_node("Add", [names[2], names[1]], [norm.output[0]]),
        ]

    def _only_reader(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        return self._readers.get(node.output[0]) if self._reads[node.output[0]] == 1 else None

    def _has_own_weights(self, layer: onnx.NodeProto) -> bool:
        if layer.op_type not in _LAYERS or any(self._reads[name] != 1 for name in layer.input[1:]):
            return False
        plain = layer.op_type == "Conv" or (_attribute(layer, "alpha", 1.0), _attribute(layer, "beta", 1.0)) == (1, 1)
        return plain and all(name in self._weights for name in layer.input[1:])

    def _affine(self, norm: onnx.NodeProto) -> Affine:
        gamma, beta, mean, variance = (self._value(name) for name in norm.input[1:5])
        scale = gamma / np.sqrt(variance + _attribute(norm, "epsilon", _DEFAULT_EPS))
        return scale, beta - mean * scale

    def _value(self, name: str) -> NDArray[np.float64]:
        return numpy_helper.to_array(self._weights[name]).astype(np.float64)

    def _set_weights(self, layer: onnx.NodeProto, weights: NDArray[np.float64], bias: NDArray[np.float64]) -> None:
        self._weights[layer.input[1]].CopyFrom(_tensor(weights, layer.input[1]))
        if len(layer.input) > 2:
            self._weights[layer.input[2]].CopyFrom(_tensor(bias, layer.input[2]))
            return
        name = f"{layer.input[1]}_bias"
        self._graph.initializer.append(_tensor(bias, name))
        self._weights[name] = self._graph.initializer[-1]
        self._reads[name] += 1
        layer.input.append(name)


def _tensor(value: NDArray[np.float64], name: str) -> onnx.TensorProto:
    return numpy_helper.from_array(np.ascontiguousarray(value, dtype=np.float32), name)


def _attribute(node: onnx.NodeProto, name: str, default: float) -> float:
    found = next((item for item in node.attribute if item.name == name), None)
    return default if found is None else float(onnx.helper.get_attribute_value(found))
