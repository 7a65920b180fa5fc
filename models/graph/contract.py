"""Bring a simplified graph to the contract of the service.

A detector takes `images` uint8 RGB `[N, H, W, 3]` and gives, for its A anchors in the order of the strides, `scores`
`[N, A]`, `boxes` `[N, A, 4]` and `landmarks` `[N, A, 10]` as the network predicts them; `models.detection` turns those
into pixels. A recognizer takes `faces` uint8 RGB `[N, H, W, 3]` and gives `embedding` `[N, D]` of length 1 and `norm`
`[N]`, the length that it had before.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.graph.simplify import drop_unused_weights

CONVERSION = 1  # goes up when the same published file becomes another graph; packs converted before are made anew

ColorOrder = Literal["rgb", "bgr"]


class UnsupportedGraph(ValueError):
    """The graph does not have the form that this conversion knows."""


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What the network wants to see: `(pixel - mean) / std` of 0..255 values, in `color` order."""

    color: ColorOrder
    mean: float = 0.0
    std: float = 1.0


@dataclass(frozen=True, slots=True)
class DetectorOutputs:
    """Names of a detector's outputs, a tuple entry for each stride.

    With several names in one entry of `scores` the score is their geometric mean (YuNet: class and objectness).
    """

    scores: tuple[tuple[str, ...], ...]
    boxes: tuple[str, ...]
    landmarks: tuple[str, ...]


def recognizer_graph(model: onnx.ModelProto, preprocessing: Preprocessing) -> onnx.ModelProto:
    """Return the recognizer with uint8 RGB input and outputs `embedding` and `norm`.

    Args:
        model: Simplified; one float input `[N, 3, H, W]`, one output `[N, D]`.
        preprocessing: What stands outside of the graph so far and moves into it.

    Raises:
        UnsupportedGraph: The graph has several inputs or outputs, or other ranks.
    """
    graph = model.graph
    if len(graph.output) != 1 or len(_dims(graph.output[0])) != 2:
        raise UnsupportedGraph("a recognizer has one output [N, D]")
    height, width = _image_size(graph)
    raw, size = graph.output[0].name, _dims(graph.output[0])[1]
    _free_batch(model)
    _accept_uint8_rgb(graph, preprocessing, "faces", (height, width))
    axis = _weight(graph, "vultus_axis", np.array([1], np.int64))
    tiny = _weight(graph, "vultus_tiny", np.float32(1e-12))  # an all-zero embedding stays zero
    graph.node.extend(
        [
            helper.make_node("Mul", [raw, raw], ["vultus_squares"]),
            helper.make_node("ReduceSum", ["vultus_squares", axis], ["vultus_sum"], keepdims=1),
            helper.make_node("Sqrt", ["vultus_sum"], ["vultus_length"]),
            helper.make_node("Max", ["vultus_length", tiny], ["vultus_divisor"]),
            helper.make_node("Div", [raw, "vultus_divisor"], ["embedding"]),
            helper.make_node("Squeeze", ["vultus_length", axis], ["norm"]),
        ]
    )
    _set_outputs(graph, {"embedding": ["N", size], "norm": ["N"]})
    return _checked(model)


def detector_graph(model: onnx.ModelProto, preprocessing: Preprocessing, outputs: DetectorOutputs) -> onnx.ModelProto:
    """Return the detector with uint8 RGB input of any size and outputs `scores`, `boxes` and `landmarks`.

    Args:
        model: Simplified; one float input `[1, 3, H, W]`, outputs `[1, anchors, 1 | 4 | 10]` for each stride.
        preprocessing: What stands outside of the graph so far and moves into it.
        outputs: Which output is what.

    Raises:
        UnsupportedGraph: An output of that name is not there.
    """
    graph = model.graph
    missing = {name for entry in outputs.scores for name in entry}.union(outputs.boxes, outputs.landmarks)
    missing -= {value.name for value in graph.output}
    if missing:
        raise UnsupportedGraph(f"the detector has no output {', '.join(sorted(missing))}")
    _free_batch(model)
    _accept_uint8_rgb(graph, preprocessing, "images", ("H", "W"))
    last = _weight(graph, "vultus_last", np.array([2], np.int64))
    levels = [_geometric_mean(graph, names, stride) for stride, names in enumerate(outputs.scores)]
    graph.node.extend(
        [
            helper.make_node("Concat", levels, ["vultus_scores"], axis=1),
            helper.make_node("Squeeze", ["vultus_scores", last], ["scores"]),
            helper.make_node("Concat", list(outputs.boxes), ["boxes"], axis=1),
            helper.make_node("Concat", list(outputs.landmarks), ["landmarks"], axis=1),
        ]
    )
    _set_outputs(graph, {"scores": ["N", "A"], "boxes": ["N", "A", 4], "landmarks": ["N", "A", 10]})
    return _checked(model)


def _geometric_mean(graph: onnx.GraphProto, names: tuple[str, ...], stride: int) -> str:
    if len(names) == 1:
        return names[0]
    product = f"vultus_product_{stride}"
    graph.node.append(helper.make_node("Mul", list(names), [product]))
    graph.node.append(helper.make_node("Sqrt", [product], [f"vultus_score_{stride}"]))
    return f"vultus_score_{stride}"


def _accept_uint8_rgb(
    graph: onnx.GraphProto, preprocessing: Preprocessing, name: str, size: tuple[int | str, int | str]
) -> None:
    if len(graph.input) != 1:
        raise UnsupportedGraph(f"the graph has {len(graph.input)} inputs")
    network_input = graph.input[0].name
    nodes = [
        helper.make_node("Cast", [name], ["vultus_float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["vultus_float"], ["vultus_planes"], perm=[0, 3, 1, 2]),
    ]
    if preprocessing.color == "bgr" and not _swap_first_convolution(graph, network_input):
        order = _weight(graph, "vultus_bgr", np.array([2, 1, 0], np.int64))
        nodes.append(helper.make_node("Gather", ["vultus_planes", order], ["vultus_swapped"], axis=1))
    if preprocessing.mean:
        mean = _weight(graph, "vultus_mean", np.float32(preprocessing.mean))
        nodes.append(helper.make_node("Sub", [nodes[-1].output[0], mean], ["vultus_centred"]))
    if preprocessing.std != 1.0:
        std = _weight(graph, "vultus_std", np.float32(preprocessing.std))
        nodes.append(helper.make_node("Div", [nodes[-1].output[0], std], ["vultus_scaled"]))
    nodes[-1].output[0] = network_input
    for position, node in enumerate(nodes):
        graph.node.insert(position, node)
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info(name, TensorProto.UINT8, ["N", *size, 3]))


def _swap_first_convolution(graph: onnx.GraphProto, network_input: str) -> bool:
    """Reverse the input channels of the only convolution that reads the picture: a swap that costs nothing at run."""
    readers = [node for node in graph.node if network_input in node.input]
    if len(readers) != 1 or readers[0].op_type != "Conv":
        return False
    tensor = next((tensor for tensor in graph.initializer if tensor.name == readers[0].input[1]), None)
    if tensor is None or tensor.dims[1] != 3:
        return False
    weights = np.ascontiguousarray(numpy_helper.to_array(tensor)[:, ::-1])
    readers[0].input[1] = _weight(graph, f"{tensor.name}_rgb", weights)
    graph.initializer.remove(tensor)
    return True


def _free_batch(model: onnx.ModelProto) -> None:
    """Replace what ties the graph to one batch and one picture size: reshapes to 1 and resizes to fixed sizes."""
    graph = model.graph
    shapes = {value.name: _dims(value) for value in onnx.shape_inference.infer_shapes(model).graph.value_info}
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    writers = {name: node for node in graph.node for name in node.output}
    for index, node in enumerate(graph.node):
        target = weights.get(node.input[1]) if node.op_type == "Reshape" else None
        if target is not None and len(target) == 2 and target[0] == -1:
            before = writers.get(node.input[0])
            if before is not None and _perm(before) == [2, 3, 0, 1]:  # SCRFD's heads put the batch behind the positions
                before.attribute[0].ints[:] = [0, 2, 3, 1]
                target = np.array([1, *target], np.int64)
        if target is not None and target.size and target[0] == 1:
            node.input[1] = _weight(graph, f"vultus_shape_{index}", np.array([0, *target[1:]], np.int64))  # 0: as it is
        sizes = weights.get(node.input[3]) if node.op_type == "Resize" and len(node.input) == 4 else None
        if sizes is not None:
            scales = np.array([1, 1, *(sizes[2:] / np.array(shapes[node.input[0]][2:]))], np.float32)
            del node.input[3]
            node.input[2] = _weight(graph, f"vultus_scales_{index}", scales)


def _perm(node: onnx.NodeProto) -> list[int]:
    return list(node.attribute[0].ints) if node.op_type == "Transpose" else []


def _image_size(graph: onnx.GraphProto) -> tuple[int, int]:
    dims = _dims(graph.input[0])
    if len(dims) != 4 or dims[1] != 3 or not all(isinstance(size, int) and size > 0 for size in dims[2:]):
        raise UnsupportedGraph("a recognizer takes [N, 3, H, W] with fixed H and W")
    return int(dims[2]), int(dims[3])


def _dims(value: onnx.ValueInfoProto) -> list[int | str]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def _weight(graph: onnx.GraphProto, name: str, value: NDArray[np.generic] | np.generic) -> str:
    graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return name


def _set_outputs(graph: onnx.GraphProto, outputs: dict[str, list[int | str]]) -> None:
    del graph.output[:]
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in outputs.items())


def _checked(model: onnx.ModelProto) -> onnx.ModelProto:
    drop_unused_weights(model.graph)
    onnx.checker.check_model(model, full_check=True)
    return model
