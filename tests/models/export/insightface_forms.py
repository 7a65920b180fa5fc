"""Small networks with drawn weights in the ONNX forms in which InsightFace publishes its packs.

Names, shapes and operators are those that insightface's loader prints and reads: detectors exported from PyTorch with
an input of any or of one size, recognizers exported from PyTorch, and networks converted from MXNet, which begin with
their own scaling.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

STRIDES, ANCHORS = (8, 16, 32), 2
Shape = Sequence[int | str]


class Graph:
    """A graph to which layers are added."""

    def __init__(self, source: str, shape: Shape, seed: int) -> None:
        self.input, self.last = helper.make_tensor_value_info(source, TensorProto.FLOAT, shape), source
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self._rng = np.random.default_rng(seed)

    def constant(self, values: NDArray[np.generic]) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def drawn(self, *shape: int, mean: float = 0.0, scale: float = 1.0) -> str:
        return self.constant((mean + scale * self._rng.standard_normal(shape)).astype(np.float32))

    def add(self, kind: str, inputs: Sequence[str], output: str = "", name: str = "", **attributes: Any) -> str:
        number = len(self.nodes)
        self.last = output or f"t{number}"
        self.nodes.append(helper.make_node(kind, inputs, [self.last], name=name or f"{kind}_{number}", **attributes))
        return self.last

    def conv(self, source: str, channels: tuple[int, int], stride: int = 1, bias: float = 0.0) -> str:
        given, made = channels
        weights = self.drawn(made, given, 3, 3, scale=(2 / (9 * given)) ** 0.5)
        offsets = self.drawn(made, mean=bias, scale=0.1)
        return self.add("Conv", [source, weights, offsets], strides=[stride, stride], pads=[1, 1, 1, 1])

    def norm(self, source: str, channels: int, output: str = "") -> str:
        rows = [self.drawn(channels, mean=1, scale=0.1), *(self.drawn(channels, scale=0.1) for _ in range(2))]
        variance = self.constant(self._rng.uniform(0.5, 1.5, channels).astype(np.float32))
        return self.add("BatchNormalization", [source, *rows, variance], output, epsilon=1e-5)

    def prelu(self, source: str, channels: int) -> str:
        return self.add("PRelu", [source, self.drawn(channels, 1, 1, mean=0.25, scale=0.05)])

    def output(self, name: str, shape: Shape) -> None:
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def save(self, path: Path) -> None:
        graph = helper.make_graph(self.nodes, "torch-jit-export", [self.input], self.outputs, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
        onnx.checker.check_model(model)
        onnx.save(model, path)


def detector(path: Path, side: int | None = None, batched: bool = False) -> None:
    """Write a SCRFD detector with landmarks.

    Args:
        path: File to write.
        side: Width and height of its input; None for any.
        batched: Whether the outputs have an axis of pictures.
    """
    graph = Graph("input.1", [1, 3, *([side] * 2 if side else ["?", "?"])], seed=1)
    given, levels = 3, []
    for width in (8, 16, 16):
        graph.add("Relu", [graph.conv(graph.last, (given, width), stride=2)])
        given = width
    levels.append(graph.last)
    for _ in STRIDES[1:]:
        levels.append(graph.add("Relu", [graph.conv(graph.last, (given, given), stride=2)]))
    for name, values, bias in (("score", 1, -0.5), ("bbox", 4, 2.0), ("kps", 10, 0.0)):
        for level, stride in zip(levels, STRIDES, strict=True):
            raw = graph.conv(level, (given, ANCHORS * values), bias=bias)
            rows = graph.add("Transpose", [raw], perm=[0, 2, 3, 1] if batched else [2, 3, 0, 1])
            shape = graph.constant(np.array([*([1] if batched else []), -1, values], np.int64))
            output = f"{name}_{stride}"
            flat = graph.add("Reshape", [rows, shape], "" if values == 1 else output)
            if values == 1:
                graph.add("Sigmoid", [flat], output)
            cells: int | str = (side // stride) ** 2 * ANCHORS if side else f"{output}_rows"
            graph.output(output, [*([1] if batched else []), cells, values])
    graph.save(path)


def recognizer(path: Path, scales_itself: bool, side: int = 112, dimensions: int = 512) -> None:
    """Write a residual network from a picture to numbers, as ArcFace's; also used for landmarks and attributes.

    Args:
        path: File to write.
        scales_itself: Whether it was converted from MXNet and begins with its own scaling, else it is from PyTorch.
        side: Width and height of its input.
        dimensions: Number of its outputs.
    """
    source, output = ("data", "fc1") if scales_itself else ("input.1", "683")
    graph, width = Graph(source, ["None", 3, side, side], seed=side + dimensions), 8
    if scales_itself:
        mean, scale = (graph.constant(np.array([value], np.float32)) for value in (127.5, 1 / 128))
        graph.add("Sub", [source, mean], name="_minusscalar0")
        graph.add("Mul", [graph.last, scale], name="_mulscalar0")
    graph.prelu(graph.norm(graph.conv(graph.last, (3, width), stride=2), width), width)
    for stride in (2, 2, 2):
        shortcut = graph.norm(graph.conv(graph.last, (width, width), stride), width)
        branch = graph.conv(graph.norm(graph.nodes[-3].output[0], width), (width, width))
        branch = graph.conv(graph.prelu(branch, width), (width, width), stride)
        graph.add("Add", [branch, shortcut])
    graph.add("Flatten", [graph.norm(graph.last, width)], axis=1)
    values = width * (side // 16) ** 2
    weights, bias = graph.drawn(dimensions, values, scale=values**-0.5), graph.drawn(dimensions, scale=0.1)
    graph.add("Gemm", [graph.last, weights, bias], transB=1)
    graph.norm(graph.last, dimensions, output)
    graph.output(output, ["None" if scales_itself else 1, dimensions])
    graph.save(path)


def write_pack(directory: Path, recognizer_scales_itself: bool = False) -> Path:
    """Write the five networks of a directory like `buffalo_l`."""
    directory.mkdir()
    detector(directory / "det_10g.onnx")
    recognizer(directory / "w600k_r50.onnx", recognizer_scales_itself)
    for name, side, outputs in (("1k3d68", 192, 3309), ("2d106det", 192, 212), ("genderage", 96, 3)):
        recognizer(directory / f"{name}.onnx", True, side, outputs)
    return directory
