"""Replace the operators of ONNX Runtime's optimiser by standard ones, so that every engine runs the graph.

The optimiser fuses activations into convolutions and linear layers (domain `com.microsoft`). On x86 it also stores
filters in blocks of channels (domain `com.microsoft.nchwc`; the order is that of `MlasReorderFilterOIHWBiBo` and
`MlasReorderFilterOIHWBo` in ONNX Runtime, MIT licence). The size of a block depends on the processor and is not in the
file. Other operators of these domains stay; only ONNX Runtime runs them.
"""

from collections.abc import Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from models.graph.shapes import infer_shapes
from models.graph.weights import Weights

BLOCKS = (16, 8, 4)
"""Channels of a block: AVX-512, AVX2, NEON."""

_STANDARD = {"", "ai.onnx"}
_BLOCKED = "com.microsoft.nchwc"
_FUSED = {"FusedConv": "Conv", "FusedGemm": "Gemm"}
_SAME = {"MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool"}
_PARAMETERS = {"LeakyRelu": ("alpha",), "HardSigmoid": ("alpha", "beta")}


def foreign_operators(model: onnx.ModelProto) -> list[str]:
    """Return the operators outside ONNX's own domain, sorted."""
    return sorted({f"{node.domain}.{node.op_type}" for node in model.graph.node if node.domain not in _STANDARD})


def is_blocked(model: onnx.ModelProto) -> bool:
    """Return whether filters are stored in blocks of channels, for one kind of processor."""
    return any(node.domain == _BLOCKED for node in model.graph.node)


def standard_operators(model: onnx.ModelProto, block: int | None = None) -> None:
    """Replace fused and blocked operators in place.

    Args:
        model: The model, whose filters are weights.
        block: Channels of a block, if the graph is blocked.
    """
    weights = Weights(model.graph, None)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.domain == _BLOCKED and block is not None:
            nodes.extend(_unblocked(node, weights, block))
        elif node.domain == "com.microsoft" and node.op_type in _FUSED:
            nodes.extend(_unfused(node, _FUSED[node.op_type]))
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    if block is not None:
        _cut_padding(model)
    used = {node.domain for node in model.graph.node} | _STANDARD
    imports = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(imports)


def _unblocked(node: onnx.NodeProto, weights: Weights, block: int) -> Iterator[onnx.NodeProto]:
    last = bool(_number(node, "channels_last"))
    if node.op_type == "ReorderInput":
        yield (
            helper.make_node("Transpose", list(node.input), list(node.output), perm=[0, 3, 1, 2])
            if last
            else helper.make_node("Identity", list(node.input), list(node.output))
        )
    elif node.op_type == "ReorderOutput":
        planes = f"{node.output[0]}_planes" if last else node.output[0]
        yield helper.make_node("Identity", list(node.input), [planes], name=f"cut {_number(node, 'channels')}")
        if last:
            yield helper.make_node("Transpose", [planes], list(node.output), perm=[0, 2, 3, 1])
    elif node.op_type == "Conv":
        name = f"{node.input[1]}_oihw"
        if name not in weights:
            weights[name] = _ordered(weights[node.input[1]], block, _number(node, "group") or 1)
        node.input[1] = name
        yield from _unfused(node, "Conv")
    else:
        plain = onnx.NodeProto()
        plain.CopyFrom(node)
        plain.domain = "" if node.op_type in _SAME else node.domain
        yield plain


def _ordered(filters: NDArray[np.float32], block: int, groups: int) -> NDArray[np.float32]:
    """Return filters [O, I, H, W] in this order; they are stored as [O/B, I/B, H, W, B, B] or [O/B, I, H, W, B]."""
    outputs, inputs, height, width = filters.shape
    if outputs % block:
        return filters  # of another block size; the comparison with the original tells
    if (groups == 1 and inputs < block) or (inputs == 1 and groups > 1) or inputs % block:
        stored = filters.reshape(outputs // block, inputs, height, width, block)
        return np.ascontiguousarray(stored.transpose(0, 4, 1, 2, 3)).reshape(filters.shape)
    stored = filters.reshape(outputs // block, inputs // block, height, width, block, block)
    return np.ascontiguousarray(stored.transpose(0, 5, 1, 4, 2, 3)).reshape(filters.shape)


def _cut_padding(model: onnx.ModelProto) -> None:
    """Cut the channels that fill up the last block."""
    shapes = infer_shapes(model)
    for node in model.graph.node:
        if node.op_type != "Identity" or not node.name.startswith("cut "):
            continue
        channels = int(node.name.removeprefix("cut "))
        shape = shapes.get(node.input[0], ())
        node.name = ""
        if len(shape) < 2 or shape[1] != channels:
            names = []
            for part, number in (("from", 0), ("to", channels), ("axis", 1)):
                names.append(f"{node.output[0]}_{part}")
                model.graph.initializer.append(numpy_helper.from_array(np.array([number], np.int64), names[-1]))
            node.CopyFrom(helper.make_node("Slice", [node.input[0], *names], list(node.output)))


def _unfused(node: onnx.NodeProto, kind: str) -> Iterator[onnx.NodeProto]:
    """Return the layer, the addition of a second summand if there is one, and the activation."""
    attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    activation = attributes.pop("activation", b"").decode()
    values = list(attributes.pop("activation_params", []))
    values += [attributes.pop(name) for name in ("activation_alpha", "activation_beta") if name in attributes]
    attributes.pop("activation_gamma", None)
    summand = node.input[3] if len(node.input) > 3 else ""
    inputs = list(node.input[:3])
    while inputs and not inputs[-1]:
        inputs.pop()
    stages = [name for name in ("summed" * bool(summand), "activated" * bool(activation)) if name]
    names = [f"{node.output[0]}_before_{stage}" for stage in stages] + [node.output[0]]
    yield helper.make_node(kind, inputs, [names[0]], **attributes)
    if summand:
        yield helper.make_node("Add", [names[0], summand], [names[1]])
    if activation == "Clip":
        low, high = (
            helper.make_node("Constant", [], [f"{names[-1]}_{end}"], value_float=value)
            for end, value in zip(("low", "high"), values, strict=True)
        )
        yield from (low, high)
        yield helper.make_node("Clip", [names[-2], low.output[0], high.output[0]], [names[-1]])
    elif activation:
        parameters = dict(zip(_PARAMETERS.get(activation, ()), values, strict=False))
        yield helper.make_node(activation, [names[-2]], [names[-1]], **parameters)


def _number(node: onnx.NodeProto, name: str) -> int:
    return next((item.i for item in node.attribute if item.name == name), 0)
