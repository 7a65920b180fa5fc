"""Express int8 arithmetic in a graph as QuantizeLinear and DequantizeLinear pairs, which every engine understands.

Each convolution and linear layer gets a pair on its input, after the preceding activation or batch-norm, and int8
weights with one scale for each output channel. Layer outputs get no pair: a pair between a convolution and its ReLU
costs more accuracy than all other quantization together. Biases stay in float32.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from models.graph.simplify import drop_unused

LARGEST_INT8 = 127  # symmetric without -128, as TensorRT requires
WeightBits = Literal[7, 8]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scale:
    """The quantization of a tensor to 8 bits: `round(x / scale) + zero_point`.

    Attributes:
        scale: Width of a quantization step.
        zero_point: The integer that represents zero; 0 for int8.
        signed: Whether the integers are int8 rather than uint8.
    """

    scale: float
    zero_point: int = 0
    signed: bool = True


def layers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """Return the layers that int8 can compute, by the name of their output, in graph order."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return {
        node.output[0]: node
        for node in model.graph.node
        if node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in weights and node.input[0] not in weights
    }


def quantize(
    model: onnx.ModelProto,
    scales: Mapping[str, Scale],
    means: Mapping[str, Floats],
    chosen: Collection[str],
    weight_bits: WeightBits = 8,
) -> onnx.ModelProto:
    """Return the graph with the chosen layers in int8.

    Args:
        model: A float32 model with folded batch-norms.
        scales: The scale of every tensor that a chosen layer reads, by tensor name.
        means: (C,) mean of each channel of those tensors, by tensor name. They correct each bias by the mean error
            that the rounding of the weights adds to the layer's output.
        chosen: Output names of the layers to quantize, as `layers` returns them.
        weight_bits: 7 for weights in -63..63. The sum of two products with 8-bit activations then fits into 16 bits
            (2 * 63 * 255 = 32130), which processors without VNNI saturate at.
    """
    quantized = onnx.ModelProto()
    quantized.CopyFrom(model)
    graph = quantized.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    pairs: dict[str, str] = {}
    behind: dict[str, list[onnx.NodeProto]] = defaultdict(list)  # nodes after the writer of a tensor, by tensor
    before: dict[str, list[onnx.NodeProto]] = defaultdict(list)  # nodes before a layer, by its output
    for name, layer in layers(quantized).items():
        if name not in chosen:
            continue
        read = layer.input[0]
        if read not in pairs:
            pairs[read] = f"{read}_dequantized"
            behind[read] = _pair(graph, read, scales[read])
        before[name].append(_quantize_weights(graph, layer, weights, means[read], 2 ** (weight_bits - 1) - 1))
        layer.input[0] = pairs[read]
    nodes: list[onnx.NodeProto] = list(behind.pop(graph.input[0].name, []))
    for node in graph.node:
        nodes.extend(before[node.output[0]])
        nodes.append(node)
        for written in node.output:
            nodes.extend(behind[written])
    del graph.node[:]
    graph.node.extend(nodes)
    drop_unused(graph)
    return quantized


def _pair(graph: onnx.GraphProto, name: str, scale: Scale) -> list[onnx.NodeProto]:
    kind = np.int8 if scale.signed else np.uint8
    operands = _constants(graph, name, np.float32(scale.scale), np.asarray(scale.zero_point, kind))
    return [
        helper.make_node("QuantizeLinear", [name, *operands], [f"{name}_quantized"]),
        helper.make_node("DequantizeLinear", [f"{name}_quantized", *operands], [f"{name}_dequantized"]),
    ]


def _quantize_weights(
    graph: onnx.GraphProto, layer: onnx.NodeProto, weights: dict[str, onnx.TensorProto], mean: Floats, largest: int
) -> onnx.NodeProto:
    """Quantize a layer's weights to int8 up to `largest`, and correct its bias for the mean rounding error."""
    stored = layer.input[1]
    values = numpy_helper.to_array(weights[stored]).astype(np.float64)
    axis = 0 if layer.op_type == "Conv" or _is_transposed(layer) else 1
    others = tuple(item for item in range(values.ndim) if item != axis)
    steps = np.maximum(np.abs(values).max(axis=others, keepdims=True), 1e-9) / largest
    steps = steps.astype(np.float32).astype(np.float64)
    integers = np.clip(np.rint(values / steps), -largest, largest)
    prefix = f"{layer.output[0]}_weights"
    graph.initializer.append(numpy_helper.from_array(integers.astype(np.int8), f"{prefix}_quantized"))
    zeros = np.zeros(values.shape[axis], np.int8)
    operands = _constants(graph, prefix, steps.reshape(-1).astype(np.float32), zeros)
    layer.input[1] = f"{prefix}_dequantized"
    if len(layer.input) > 2 and layer.input[2] in weights:
        bias = numpy_helper.to_array(weights[layer.input[2]]) + _mean_error(values - integers * steps, axis, mean)
        graph.initializer.append(numpy_helper.from_array(bias.astype(np.float32), f"{prefix}_bias"))
        layer.input[2] = f"{prefix}_bias"
    return helper.make_node("DequantizeLinear", [f"{prefix}_quantized", *operands], [layer.input[1]], axis=axis)


def _mean_error(error: Floats, axis: int, mean: Floats) -> Floats:
    """Return how much the rounding of weights reduces each output on average, given the mean of each input channel."""
    if error.ndim == 2:
        return (error if axis == 0 else error.T) @ mean
    by_input = error.sum(axis=(2, 3))  # (outputs, inputs of the group)
    outputs, inputs = by_input.shape
    groups = len(mean) // inputs
    group_means = mean.reshape(groups, inputs)[np.arange(outputs) // (outputs // groups)]
    corrected: Floats = (by_input * group_means).sum(axis=1)
    return corrected


def _constants(graph: onnx.GraphProto, name: str, *values: NDArray[np.generic] | np.generic) -> list[str]:
    names = [f"{name}_quantized_{part}" for part in ("scale", "zero_point")]
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), key) for value, key in zip(values, names, strict=True)
    )
    return names


def _is_transposed(layer: onnx.NodeProto) -> bool:
    return any(item.name == "transB" and item.i for item in layer.attribute)


def equalize(model: onnx.ModelProto, channel_largest: Mapping[str, Floats]) -> dict[str, float]:
    """Equalize the ranges of all channels that a depthwise convolution reads, in place, at no runtime cost.

    A depthwise layer computes each channel separately, but all channels of its input share one scale. Channels much
    smaller than the largest therefore lose precision. For each channel, the weights of the preceding layer are divided
    by a factor, and the depthwise kernel is multiplied by it. The ReLU or PReLU in between commutes with the factor. A
    clip at a fixed value does not, so the saturation of the 8 bits replaces it. The idea is from M. Nagel et al., ICCV
    2019, arXiv 1906.04721.

    Args:
        model: A float32 model with folded batch-norms.
        channel_largest: (C,) largest magnitude of each channel of the inputs of depthwise layers, by tensor name.
            Layers whose input is missing stay as they are.

    Returns:
        The largest magnitude that the quantization of each equalized input must cover, by tensor name. The layers that
        read these inputs must be quantized.
    """
    graph = _Wiring(model.graph)
    ends: dict[str, float] = {}
    for depthwise in depthwise_layers(model):
        found = graph.sole_activation(depthwise) if depthwise.input[0] in channel_largest else None
        if found is None:
            continue
        activation, layer = found
        largest = channel_largest[depthwise.input[0]]
        factors = equalizing_factors(largest)
        graph.multiply(layer.input[1], 1 / factors)
        graph.multiply(layer.input[2], 1 / factors)
        graph.multiply(depthwise.input[1], factors)
        if activation.op_type == "Clip":
            activation.CopyFrom(helper.make_node("Relu", [activation.input[0]], list(activation.output)))
        ends[depthwise.input[0]] = float(largest.max())
    return ends


def equalizing_factors(largest: Floats) -> Floats:
    """Return the numbers in (0, 1] by which the channels are divided, given the largest magnitude of each, (C,)."""
    factors: Floats = np.maximum(largest / max(float(largest.max()), 1e-9), _SMALLEST_CHANNEL)
    return factors


def depthwise_layers(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the convolutions with several groups, such as those that compute each channel separately."""
    return [
        node
        for node in layers(model).values()
        if node.op_type == "Conv" and any(item.name == "group" and item.i > 1 for item in node.attribute)
    ]


_SMALLEST_CHANNEL = 1e-3  # relative to the largest; a channel that is always zero would be scaled without bound


class _Wiring:
    """The writers of a graph's edges and how often each edge is read."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        self._writer = {name: node for node in graph.node for name in node.output}
        self._reads: dict[str, int] = defaultdict(int)
        for name in _read_names(graph):
            self._reads[name] += 1

    def sole_activation(self, depthwise: onnx.NodeProto) -> tuple[onnx.NodeProto, onnx.NodeProto] | None:
        """Return the activation and convolution before a depthwise layer, or None if other nodes read their outputs."""
        activation = self._writer.get(depthwise.input[0])
        if activation is None or activation.op_type not in ("Relu", "PRelu", "Clip"):
            return None
        layer = self._writer.get(activation.input[0])
        if layer is None or layer.op_type != "Conv" or len(layer.input) < 3:
            return None
        unshared = all(self._reads[name] == 1 for name in (depthwise.input[0], activation.input[0], *layer.input[1:]))
        if activation.op_type == "Clip" and not self._clips_from_zero(activation):
            return None
        return (activation, layer) if unshared and self._reads[depthwise.input[1]] == 1 else None

    def multiply(self, name: str, factors: Floats) -> None:
        tensor = self._weights[name]
        values = numpy_helper.to_array(tensor)
        scaled = values * factors.reshape(-1, *[1] * (values.ndim - 1))
        tensor.CopyFrom(numpy_helper.from_array(scaled.astype(np.float32), name))

    def _clips_from_zero(self, clip: onnx.NodeProto) -> bool:
        low = self._weights.get(clip.input[1]) if len(clip.input) > 1 else None
        return low is not None and float(numpy_helper.to_array(low)) == 0.0


def _read_names(graph: onnx.GraphProto) -> Iterable[str]:
    for node in graph.node:
        yield from node.input
    yield from (value.name for value in graph.output)
