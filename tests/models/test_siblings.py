"""Convolutions that read the same tensor are merged, without a change of any output."""

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.graph.siblings import merge_siblings
from models.runtime.onnxruntime_engine import PlainGraph

CHANNELS = 8
RNG = np.random.default_rng(0)


def _conv(graph: onnx.GraphProto, read: str, name: str, shape: tuple[int, ...], group: int = 1, pads: int = 1) -> None:
    for part, size in (("w", shape), ("b", shape[:1])):
        values = RNG.standard_normal(size).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(values, f"{name}_{part}"))
    node = helper.make_node("Conv", [read, f"{name}_w", f"{name}_b"], [name], group=group, pads=[pads] * 4)
    graph.node.append(node)


def _graph(outputs: dict[str, int]) -> onnx.ModelProto:
    """Return an empty graph from `x`, with named outputs of some channels."""
    graph = helper.make_graph(
        [],
        "heads",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", CHANNELS, "H", "W"])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", size, "H", "W"])
            for name, size in outputs.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _merged_and_equal(model: onnx.ModelProto) -> list[str]:
    """Merge the siblings of a model, check that it computes the same, and return the kinds of its nodes."""
    picture = RNG.standard_normal((2, CHANNELS, 6, 5)).astype(np.float32)
    before = _run(model, picture)
    merge_siblings(model)
    onnx.checker.check_model(model, full_check=True)
    for expected, actual in zip(before, _run(model, picture), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-5)
    return [node.op_type for node in model.graph.node]


def _run(model: onnx.ModelProto, picture: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    return PlainGraph(model.SerializeToString()).run(picture)


def test_heads_with_depthwise_layers_become_two_layers() -> None:
    model = _graph({"score": 1, "box": 4, "points": 10})
    for name, size in (("score", 1), ("box", 4), ("points", 10)):
        _conv(model.graph, "x", f"{name}_1x1", (size, CHANNELS, 1, 1), pads=0)
        _conv(model.graph, f"{name}_1x1", name, (size, 1, 3, 3), group=size)
    assert _merged_and_equal(model) == ["Conv", "Conv", "Split"]


def test_heads_of_one_layer_become_one_layer() -> None:
    model = _graph({"score": 2, "box": 8})
    _conv(model.graph, "x", "score", (2, CHANNELS, 3, 3))
    _conv(model.graph, "x", "box", (8, CHANNELS, 3, 3))
    assert _merged_and_equal(model) == ["Conv", "Split"]


def test_a_sibling_that_is_read_twice_keeps_the_layers_behind_it_apart() -> None:
    model = _graph({"score": 1, "box": 4, "score_1x1": 1})
    for name, size in (("score", 1), ("box", 4)):
        _conv(model.graph, "x", f"{name}_1x1", (size, CHANNELS, 1, 1), pads=0)
        _conv(model.graph, f"{name}_1x1", name, (size, 1, 3, 3), group=size)
    assert _merged_and_equal(model) == ["Conv", "Split", "Conv", "Conv"]


@pytest.mark.parametrize("difference", ["kernel", "groups", "width"])
def test_layers_that_differ_are_not_merged(difference: str) -> None:
    sizes = {"score": 64, "box": 64} if difference == "width" else {"score": 8, "box": 8}
    model = _graph(sizes)
    _conv(model.graph, "x", "score", (sizes["score"], CHANNELS, 3, 3))
    if difference == "groups":
        _conv(model.graph, "x", "box", (8, 1, 3, 3), group=8)
    elif difference == "kernel":
        _conv(model.graph, "x", "box", (8, CHANNELS, 1, 1), pads=0)
    else:
        _conv(model.graph, "x", "box", (64, CHANNELS, 3, 3))
    assert _merged_and_equal(model) == ["Conv", "Conv"]
