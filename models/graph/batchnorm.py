"""Fold batch-norms into the adjacent convolution or linear layer, in float64.

At inference a batch-norm computes `scale * x + shift`. After a convolution or linear layer, it is folded into weights
and bias. Before a linear layer it is folded as well, also across a Flatten or Reshape
that makes one row of each face. Before a convolution that pads with zeros
it cannot be folded, because the padding would have to be shifted too. There a multiplication and an addition replace
it: both are as accurate in float16 as other layers, whereas a variance of 1e-4 is not.
"""

from collections import Counter
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from models.graph.shapes import Shape, infer_shapes
from models.graph.simplify import drop_unused
from models.graph.weights import ExternalWeights, Weights

_LAYERS = {"Conv", "Gemm"}
_DEFAULT_EPS = 1e-5  # the default of ONNX's BatchNormalization

Floats = NDArray[np.float64]


def fold_batch_norms(model: onnx.ModelProto, external: ExternalWeights | None = None) -> None:
    """Fold every batch-norm, in place.

    Args:
        model: A simplified model, whose weights are initializers.
        external: Large weights stored outside the model; see `models.graph.weights`.
    """
    graph = _Graph(model.graph, Weights(model.graph, external), _shapes(model))
    nodes = []
    for node in model.graph.node:
        if node.op_type != "BatchNormalization" or not graph.has_fixed_statistics(node):
            nodes.append(node)
        elif not graph.fold_into_layer_before(node) and not graph.fold_into_layer_after(node):
            nodes.extend(graph.as_affine(node) if graph.precedes_convolution(node) else [node])
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    drop_unused(model.graph)


def _shapes(model: onnx.ModelProto) -> dict[str, Shape]:
    """Return the shapes of the graph's tensors if folding needs them, because inferring them copies the weights."""
    norms = {node.output[0] for node in model.graph.node if node.op_type == "BatchNormalization"}
    reshaped = any(node.op_type == "Reshape" and node.input[0] in norms for node in model.graph.node)
    return infer_shapes(model) if reshaped else {}


class _Graph:
    """The nodes and weights of a graph, indexed by edge name."""

    def __init__(self, graph: onnx.GraphProto, weights: Weights, shapes: dict[str, Shape]) -> None:
        self._graph = graph
        self._weights = weights
        self._shapes = shapes
        self._reads = Counter(name for node in graph.node for name in node.input)
        self._reads.update(value.name for value in graph.output)
        self._writer = {name: node for node in graph.node for name in node.output}
        self._readers = {name: node for node in graph.node for name in node.input}  # unique if `_reads` is 1

    def has_fixed_statistics(self, norm: onnx.NodeProto) -> bool:
        return not _attribute(norm, "training_mode", 0) and all(name in self._weights for name in norm.input[1:5])

    def fold_into_layer_before(self, norm: onnx.NodeProto) -> bool:
        layer = self._writer.get(norm.input[0])
        if layer is None or self._reads[norm.input[0]] != 1 or not self._has_unshared_weights(layer):
            return False
        scale, shift = self._affine(norm)
        axis = 1 if layer.op_type == "Gemm" and not _attribute(layer, "transB", 0) else 0
        bias = self._value(layer.input[2]) if len(layer.input) > 2 else np.zeros(len(scale))
        self._weights[layer.input[1]] = _scaled(self._weights[layer.input[1]], scale, axis)
        self._set_bias(layer, bias * scale + shift)
        layer.output[0] = norm.output[0]
        self._writer[norm.output[0]] = layer
        return True

    def fold_into_layer_after(self, norm: onnx.NodeProto) -> bool:
        layer = self._only_reader(norm)
        between = layer if layer is not None and layer.op_type in ("Flatten", "Reshape") else None
        if between is not None:
            layer = self._only_reader(between)
        if layer is None or layer.op_type != "Gemm" or not self._has_unshared_weights(layer):
            return False
        scale, shift = self._affine(norm)
        weights = self._weights[layer.input[1]]
        axis = 1 if _attribute(layer, "transB", 0) else 0
        positions, remainder = divmod(weights.shape[axis], len(scale))
        if remainder or not self._keeps_faces(norm, between, weights.shape[axis]):
            return False
        bias = self._value(layer.input[2]) if len(layer.input) > 2 else np.zeros(weights.shape[1 - axis])
        shifts = np.repeat(shift, positions)
        self._set_bias(layer, bias + (_product(weights, shifts) if axis else _product(weights.T, shifts)))
        self._weights[layer.input[1]] = _scaled(weights, np.repeat(scale, positions), axis)
        reader = between if between is not None else layer
        reader.input[0] = norm.input[0]
        self._readers[norm.input[0]] = reader
        return True

    def _keeps_faces(self, norm: onnx.NodeProto, between: onnx.NodeProto | None, width: int) -> bool:
        """Return whether each row that the linear layer reads is one face, channel by channel."""
        if between is None or between.op_type == "Flatten":
            return between is None or _attribute(between, "axis", 1) == 1
        sizes = self._shapes.get(norm.input[0], ())[1:]
        target = self._weights[between.input[1]] if between.input[1] in self._weights else np.zeros(0)
        if len(target) != 2 or not sizes or not all(isinstance(size, int) for size in sizes):
            return False
        return np.prod(np.array(sizes, np.int64)) == width and target[1] in (-1, width)  # so rows are left for faces

    def precedes_convolution(self, norm: onnx.NodeProto) -> bool:
        return any(node.op_type == "Conv" and norm.output[0] in node.input for node in self._graph.node)

    def as_affine(self, norm: onnx.NodeProto) -> list[onnx.NodeProto]:
        names = [f"{norm.output[0]}_{part}" for part in ("scale", "shift", "scaled")]
        for name, value in zip(names, self._affine(norm), strict=False):
            self._weights[name] = value.reshape(-1, 1, 1).astype(np.float32)
        return [
            onnx.helper.make_node("Mul", [norm.input[0], names[0]], [names[2]]),
            onnx.helper.make_node("Add", [names[2], names[1]], [norm.output[0]]),
        ]

    def _only_reader(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        return self._readers.get(node.output[0]) if self._reads[node.output[0]] == 1 else None

    def _has_unshared_weights(self, layer: onnx.NodeProto) -> bool:
        if layer.op_type not in _LAYERS or any(self._reads[name] != 1 for name in layer.input[1:]):
            return False
        factors = (_attribute(layer, "alpha", 1.0), _attribute(layer, "beta", 1.0), _attribute(layer, "transA", 0))
        plain = layer.op_type == "Conv" or factors == (1, 1, 0)
        return plain and all(name in self._weights for name in layer.input[1:])

    def _affine(self, norm: onnx.NodeProto) -> tuple[Floats, Floats]:
        gamma, beta, mean, variance = (self._value(name) for name in norm.input[1:5])
        scale = gamma / np.sqrt(variance + _attribute(norm, "epsilon", _DEFAULT_EPS))
        return scale, beta - mean * scale

    def _value(self, name: str) -> Floats:
        return self._weights[name].astype(np.float64)

    def _set_bias(self, layer: onnx.NodeProto, bias: Floats) -> None:
        if len(layer.input) == 2:
            layer.input.append(f"{layer.input[1]}_bias")
            self._reads[layer.input[2]] += 1
        self._weights[layer.input[2]] = bias.astype(np.float32)


def _scaled(weights: NDArray[Any], factors: Floats, axis: int) -> NDArray[np.float32]:
    """Multiply weights by a factor for each index of an axis, in float64.

    One row at a time limits the memory: the last layer of an IResNet has 13 million weights.
    """
    scaled = np.empty(weights.shape, np.float32)
    for row, (target, source) in enumerate(zip(scaled, weights, strict=True)):
        target[...] = source * (factors[row] if axis == 0 else factors.reshape(-1, *[1] * (source.ndim - 1)))
    return scaled


def _product(rows: NDArray[Any], factors: Floats) -> Floats:
    """Multiply a matrix by a vector in float64, one row at a time to limit the memory."""
    return np.array([row.astype(np.float64) @ factors for row in rows])


def _attribute(node: onnx.NodeProto, name: str, default: float) -> float:
    found = next((item for item in node.attribute if item.name == name), None)
    return default if found is None else float(onnx.helper.get_attribute_value(found))
