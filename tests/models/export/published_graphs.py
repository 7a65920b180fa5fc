"""A small recognizer in the ONNX forms that exporters write."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Node = helper.make_node
_RNG = np.random.default_rng(3)


def drawn(*shape: int) -> NDArray[np.float32]:
    values: NDArray[np.float32] = (_RNG.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)
    return values


def integers(*numbers: int) -> NDArray[np.int64]:
    return np.array(numbers, np.int64)


WEIGHTS: dict[str, NDArray[Any]] = {"w": drawn(8, 3, 28, 28), "slope": np.linspace(0.1, 0.5, 8, dtype=np.float32)}
WEIGHTS |= {"fc": drawn(16, 128), "fct": drawn(128, 16), "bias": drawn(16, 1)[:, 0], "four": drawn(16, 8, 4, 4)}
STATISTICS: dict[str, NDArray[Any]] = {
    "gamma": np.linspace(0.5, 1.5, 8, dtype=np.float32),
    "beta": drawn(8, 1)[:, 0],
    "mean": drawn(8, 1)[:, 0],
    "variance": np.linspace(0.5, 2, 8, dtype=np.float32),
}


def body(source: str = "x", output: str = "c") -> list[onnx.NodeProto]:
    """Return a convolution from `[N, 3, 112, 112]` to `[N, 8, 4, 4]` with an activation."""
    return [Node("Conv", [source, "w"], ["a"], strides=[28, 28]), Node("LeakyRelu", ["a"], [output], alpha=0.2)]


def head(source: str, output: str = "y") -> list[onnx.NodeProto]:
    return [Node("Gemm", [source, "fc", "bias"], [output], transB=1, alpha=1.0, beta=1.0)]


FLAT = Node("Flatten", ["c"], ["f"])
PLAIN = [*body(), FLAT, *head("f")]
NORMALISED = [*body(), FLAT, *head("f", "raw"), Node("ReduceL2", ["raw"], ["length"], axes=[1], keepdims=1)]
NORMALISED += [Node("Div", ["raw", "length"], ["y"])]


def model(
    nodes: Sequence[onnx.NodeProto],
    *,
    takes: Sequence[int | str] | None = (1, 3, 112, 112),
    kind: int = TensorProto.FLOAT,
    returns: dict[str, Sequence[int | str] | None] | None = None,
    opset: int = 13,
    domains: Sequence[str] = (),
    **weights: NDArray[Any],
) -> onnx.ModelProto:
    """Return a model of nodes; only the weights that they read are stored."""
    read = {name for node in nodes for name in node.input}
    stored = [
        numpy_helper.from_array(np.asarray(array), name)
        for name, array in {**WEIGHTS, **STATISTICS, **weights}.items()
        if name in read
    ]
    inputs = [helper.make_tensor_value_info("x", kind, takes)]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (returns or {"y": ["N", 16]}).items()
    ]
    graph = helper.make_graph(list(nodes), "published", inputs, outputs, stored)
    imports = [helper.make_opsetid(domain, 1) for domain in domains]
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset), *imports], ir_version=8)


def halved(published: onnx.ModelProto, outside: bool) -> onnx.ModelProto:
    """Return a model in float16, with float32 input and output if `outside`."""
    half = onnx.ModelProto()
    half.CopyFrom(published)
    graph = half.graph
    for tensor in graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    if outside:
        graph.node[0].input[0] = "x_half"
        graph.node.insert(0, Node("Cast", ["x"], ["x_half"], to=TensorProto.FLOAT16))
        graph.node[-1].output[0] = "y_half"
        graph.node.append(Node("Cast", ["y_half"], ["y"], to=TensorProto.FLOAT))
    else:
        for value in (*graph.input, *graph.output):
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    return half


def with_listed_weights(published: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model of IR version 3, which lists every weight as an input."""
    listed = onnx.ModelProto()
    listed.CopyFrom(published)
    listed.ir_version = 3
    for tensor in listed.graph.initializer:
        listed.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return listed


def saved(published: onnx.ModelProto | bytes, path: Path) -> Path:
    path.write_bytes(published if isinstance(published, bytes) else published.SerializeToString())
    return path
