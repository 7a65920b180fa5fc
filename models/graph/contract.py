"""Convert a simplified graph to the contract of the service.

A detector takes `images`, uint8 RGB `[N, H, W, 3]`. For its A anchors, in the order of the strides, it returns `scores`
`[N, A]`, `boxes` `[N, A, 4]` and `landmarks` `[N, A, 10]` as the network predicts them. `models.detection` converts
boxes and landmarks to pixels. A recognizer takes `faces`, uint8 RGB `[N, H, W, 3]`. It returns `embedding` `[N, D]`
of length 1, and `norm` `[N]`, the length of the embedding before normalisation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.graph.siblings import merge_siblings
from models.graph.simplify import drop_unused
from models.graph.weights import ExternalWeights, Weights, write

ColorOrder = Literal["rgb", "bgr"]


class UnsupportedGraph(ValueError):
    """The graph does not have the form that the conversion expects."""


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """The input that the network expects: `(pixel - mean) / std` of pixels in 0..255, in `color` order.

    Attributes:
        color: Order of the channels.
        mean, std: One number for all channels, or one for each channel in `color` order.
        mirror: Embed the crop and its mirror image, and add both embeddings before normalisation, as the official
            evaluations of ArcFace, ElasticFace and AdaFace do.
    """

    color: ColorOrder
    mean: float | tuple[float, float, float] = 0.0
    std: float | tuple[float, float, float] = 1.0
    mirror: bool = False

    def record(self) -> dict[str, Any]:
        """Return the preprocessing as a card records it; it is part of the embedding contract."""
        record: dict[str, Any] = {"color": self.color, "mean": self.mean, "std": self.std}
        return {**record, "mirror": True} if self.mirror else record


@dataclass(frozen=True, slots=True)
class DetectorOutputs:
    """The names of a detector's outputs, one entry for each stride.

    If an entry of `scores` has several names, the score is their geometric mean (YuNet: class and objectness).
    """

    scores: tuple[tuple[str, ...], ...]
    boxes: tuple[str, ...]
    landmarks: tuple[str, ...]


def recognizer_graph(
    model: onnx.ModelProto, preprocessing: Preprocessing, external: ExternalWeights | None = None
) -> onnx.ModelProto:
    """Return the recognizer with uint8 RGB input and outputs `embedding` and `norm`.

    Args:
        model: A simplified model with one float input `[N, 3, H, W]` and one output `[N, D]`. It is changed.
        preprocessing: The preprocessing of the published model, which becomes part of the graph.
        external: Large weights stored outside the model; see `models.graph.weights`.

    Raises:
        UnsupportedGraph: The graph has several inputs or outputs, or their ranks differ from these.
    """
    graph = model.graph
    raw, size, crop_size = _recognizer_form(graph)
    _free_batch(model)
    _accept_uint8_rgb(graph, preprocessing, "faces", crop_size, external)
    if preprocessing.mirror:
        raw = _add_halves(graph, raw, size)
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
    drop_unused(graph)
    return model


def insightface_graph(
    model: onnx.ModelProto, preprocessing: Preprocessing, external: ExternalWeights | None = None
) -> onnx.ModelProto:
    """Return the recognizer in the form that insightface's `ArcFaceONNX` loads.

    `ArcFaceONNX` feeds `(pixel - 127.5) / 127.5` in RGB as float `[N, 3, H, W]` to the only input, and reads the
    embedding before normalisation from the only output. It detects graphs with built-in scaling by the names of their
    first nodes, so every node name is removed here.

    Args:
        model: A model as `recognizer_graph` takes it. It is changed.
        preprocessing: The input that the network expects.
        external: Large weights stored outside the model; see `models.graph.weights`.

    Raises:
        UnsupportedGraph: The graph has several inputs or outputs, or their ranks differ from these.
    """
    graph = model.graph
    raw, size, (height, width) = _recognizer_form(graph)
    _free_batch(model)
    caller = np.float32(127.5)  # mean and std that `ArcFaceONNX` applies
    mean, std = (np.broadcast_to(np.asarray(value, np.float32), 3) for value in (preprocessing.mean, preprocessing.std))
    relative = Preprocessing(
        preprocessing.color,
        mean=tuple(float(value) for value in (mean - caller) / caller),  # type: ignore[arg-type]  # three values
        std=tuple(float(value) for value in std / caller),  # type: ignore[arg-type]
        mirror=preprocessing.mirror,
    )
    _precede(graph, _scaling(graph, "input", relative, external), "input")
    graph.input.append(helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, height, width]))
    if preprocessing.mirror:
        raw = _add_halves(graph, raw, size)
    graph.node.append(helper.make_node("Identity", [raw], ["raw_embedding"]))
    _set_outputs(graph, {"raw_embedding": ["N", size]})
    for node in graph.node:
        node.name = ""
    drop_unused(graph)
    return model


def annotate(model: onnx.ModelProto, notes: Mapping[str, str]) -> None:
    """Write notes into the model's metadata, which tools such as Netron show."""
    helper.set_model_props(model, {f"vultus.{name}": value for name, value in notes.items()})
    model.producer_name = "vultus"


def _recognizer_form(graph: onnx.GraphProto) -> tuple[str, int, tuple[int, int]]:
    dims = _dims(graph.output[0]) if len(graph.output) == 1 else []
    if len(dims) != 2 or not isinstance(dims[1], int) or dims[1] < 1:
        raise UnsupportedGraph("a recognizer must have one output [N, D] with a fixed D")
    return graph.output[0].name, dims[1], _image_size(graph)


def _add_halves(graph: onnx.GraphProto, raw: str, size: int) -> str:
    """Add the embeddings of crops and their mirror images, which run as one batch."""
    shape = _weight(graph, "vultus_halves", np.array([2, -1, size], np.int64))
    first = _weight(graph, "vultus_first", np.array([0], np.int64))
    graph.node.append(helper.make_node("Reshape", [raw, shape], ["vultus_both"]))
    graph.node.append(helper.make_node("ReduceSum", ["vultus_both", first], ["vultus_fused"], keepdims=0))
    return "vultus_fused"


def detector_graph(model: onnx.ModelProto, preprocessing: Preprocessing, outputs: DetectorOutputs) -> onnx.ModelProto:
    """Return the detector with uint8 RGB input of any size and outputs `scores`, `boxes` and `landmarks`.

    Args:
        model: A simplified model with one float input `[1, 3, H, W]` and outputs `[1, anchors, 1 | 4 | 10]` for each
            stride. It is changed.
        preprocessing: The preprocessing of the published model, which becomes part of the graph.
        outputs: The names of the scores, boxes and landmarks.

    Raises:
        UnsupportedGraph: An output is missing, or the graph has several inputs.
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
    merge_siblings(model)
    drop_unused(graph)
    return model


def _geometric_mean(graph: onnx.GraphProto, names: tuple[str, ...], stride: int) -> str:
    if len(names) == 1:
        return names[0]
    product = f"vultus_product_{stride}"
    graph.node.append(helper.make_node("Mul", list(names), [product]))
    graph.node.append(helper.make_node("Sqrt", [product], [f"vultus_score_{stride}"]))
    return f"vultus_score_{stride}"


def _accept_uint8_rgb(
    graph: onnx.GraphProto,
    preprocessing: Preprocessing,
    name: str,
    size: tuple[int | str, int | str],
    external: ExternalWeights | None = None,
) -> None:
    nodes = [
        helper.make_node("Cast", [name], ["vultus_float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["vultus_float"], ["vultus_planes"], perm=[0, 3, 1, 2]),
    ]
    _precede(graph, nodes + _scaling(graph, "vultus_planes", preprocessing, external), "vultus_planes")
    graph.input.append(helper.make_tensor_value_info(name, TensorProto.UINT8, ["N", *size, 3]))


def _scaling(
    graph: onnx.GraphProto, planes: str, preprocessing: Preprocessing, external: ExternalWeights | None
) -> list[onnx.NodeProto]:
    """Return the nodes that convert RGB planes to the input that the network expects."""
    if len(graph.input) != 1:
        raise UnsupportedGraph(f"the graph has {len(graph.input)} inputs; expected one")
    nodes: list[onnx.NodeProto] = []

    def append(kind: str, operand: str, output: str, axis: int | None = None) -> None:
        last = nodes[-1].output[0] if nodes else planes
        nodes.append(helper.make_node(kind, [last, operand], [output]))
        if axis is not None:
            nodes[-1].attribute.append(helper.make_attribute("axis", axis))

    mean, std = preprocessing.mean, preprocessing.std
    if preprocessing.color == "bgr":
        if _swap_first_convolution(graph, graph.input[0].name, external):
            # The planes stay in RGB order, so mean and std are reversed instead.
            mean, std = (value[::-1] if isinstance(value, tuple) else value for value in (mean, std))
        else:
            append("Gather", _weight(graph, "vultus_bgr", np.array([2, 1, 0], np.int64)), "vultus_swapped", axis=1)
    if np.any(mean):
        append("Sub", _weight(graph, "vultus_mean", _per_channel(mean)), "vultus_centred")
    if np.any(np.not_equal(std, 1.0)):
        append("Div", _weight(graph, "vultus_std", _per_channel(std)), "vultus_scaled")
    if preprocessing.mirror:
        width = int(_dims(graph.input[0])[3])
        reverse = _weight(graph, "vultus_reverse", np.arange(width - 1, -1, -1, dtype=np.int64))
        original = nodes[-1].output[0] if nodes else planes
        append("Gather", reverse, "vultus_mirrored", axis=3)
        nodes.append(helper.make_node("Concat", [original, "vultus_mirrored"], ["vultus_pairs"], axis=0))
    return nodes


def _precede(graph: onnx.GraphProto, nodes: list[onnx.NodeProto], replacement: str) -> None:
    """Insert nodes before the graph and remove its input; without nodes, rename the input to `replacement`."""
    network_input = graph.input[0].name
    if nodes:
        nodes[-1].output[0] = network_input
    else:
        for node in graph.node:
            for position, name in enumerate(node.input):
                node.input[position] = replacement if name == network_input else name
    for position, node in enumerate(nodes):
        graph.node.insert(position, node)
    del graph.input[:]


def _per_channel(value: float | tuple[float, float, float]) -> NDArray[np.float32]:
    numbers = np.asarray(value, np.float32)
    return numbers.reshape(3, 1, 1) if numbers.ndim else numbers


def _swap_first_convolution(graph: onnx.GraphProto, network_input: str, external: ExternalWeights | None) -> bool:
    """Swap the colours at no runtime cost, by reversing the input channels of the first convolution.

    Returns:
        Whether the graph allows it: a single convolution of three channels reads the input.
    """
    readers = [node for node in graph.node if network_input in node.input]
    if len(readers) != 1 or readers[0].op_type != "Conv":
        return False
    weights, name = Weights(graph, external), readers[0].input[1]
    if name not in weights or weights[name].shape[1] != 3:
        return False
    readers[0].input[1] = f"{name}_rgb"
    weights[readers[0].input[1]] = np.ascontiguousarray(weights[name][:, ::-1])
    return True


def _free_batch(model: onnx.ModelProto) -> None:
    """Remove fixed batch and image sizes: reshapes to a batch of 1, and resizes to fixed sizes."""
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    writers = {name: node for node in graph.node for name in node.output}
    resizes = any(node.op_type == "Resize" and len(node.input) == 4 for node in graph.node)
    inferred = onnx.shape_inference.infer_shapes(model).graph.value_info if resizes else ()  # copies all weights
    shapes = {value.name: _dims(value) for value in inferred}
    for index, node in enumerate(graph.node):
        target = _constant(weights, node, 1) if node.op_type == "Reshape" else None
        if target is not None and len(target) == 2 and target[0] == -1:
            before = writers.get(node.input[0])
            if before is not None and _perm(before) == [2, 3, 0, 1]:  # SCRFD's heads move the batch axis last
                before.attribute[0].ints[:] = [0, 2, 3, 1]
                target = np.array([1, *target], np.int64)
        if target is not None and target.size and target[0] == 1:
            node.input[1] = _weight(graph, f"vultus_shape_{index}", np.array([0, *target[1:]], np.int64))  # 0: keep
        sizes = _constant(weights, node, 3) if node.op_type == "Resize" and len(node.input) == 4 else None
        if sizes is not None:
            scales = np.array([1, 1, *(sizes[2:] / np.array(shapes[node.input[0]][2:]))], np.float32)
            del node.input[3]
            node.input[2] = _weight(graph, f"vultus_scales_{index}", scales)


def _constant(weights: dict[str, onnx.TensorProto], node: onnx.NodeProto, position: int) -> NDArray[Any] | None:
    tensor = weights.get(node.input[position])
    return None if tensor is None else numpy_helper.to_array(tensor)


def _perm(node: onnx.NodeProto) -> list[int]:
    return list(node.attribute[0].ints) if node.op_type == "Transpose" else []


def _image_size(graph: onnx.GraphProto) -> tuple[int, int]:
    dims = _dims(graph.input[0])
    if len(dims) != 4 or dims[1] != 3 or not all(isinstance(size, int) and size > 0 for size in dims[2:]):
        raise UnsupportedGraph("a recognizer must take [N, 3, H, W] with fixed H and W")
    return int(dims[2]), int(dims[3])


def _dims(value: onnx.ValueInfoProto) -> list[int | str]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def _weight(graph: onnx.GraphProto, name: str, value: NDArray[np.generic] | np.generic) -> str:
    graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return name


def _set_outputs(graph: onnx.GraphProto, outputs: dict[str, list[int | str]]) -> None:
    del graph.output[:]
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in outputs.items())


def save_checked(model: onnx.ModelProto, path: Path, external: ExternalWeights | None = None) -> None:
    """Write a graph, then validate the file with ONNX's checker, types and shapes included.

    `external` is cleared once its weights are written, because the checker loads its own copies.

    Raises:
        onnx.checker.ValidationError: The graph is invalid.
        onnx.shape_inference.InferenceError: The types or shapes in the graph are inconsistent.
    """
    write(model, path, external)
    if external is not None:
        external.clear()
    onnx.checker.check_model(path, full_check=True)
