from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.embedding import OUTPUTS
from models.graph import Preprocessing, UnsupportedGraph, recognizer_graph, simplify
from models.runtime import RuntimeOptions, open_session


def tiny_recognizer(first: str = "Conv") -> tuple[onnx.ModelProto, NDArray[np.float32]]:
    """One convolution over the whole picture: embedding = weights . pixels, weights block-quantised."""
    rng = np.random.default_rng(0)
    quantised = rng.integers(-100, 100, (4, 3 * 8 * 8), dtype=np.int8)
    scales = rng.uniform(0.001, 0.01, (4, 12)).astype(np.float32)
    weights = (quantised.reshape(4, 12, 16) * scales[..., None]).reshape(4, 3, 8, 8).astype(np.float32)
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["flat_w"], axis=1, block_size=16),
        helper.make_node("Reshape", ["flat_w", "shape"], ["w"]),
    ]
    source = "data"
    if first == "Sub":
        nodes.append(helper.make_node("Sub", ["data", "zero"], ["centred"]))
        source = "centred"
    nodes += [
        helper.make_node("Conv", [source, "w"], ["conv"]),
        helper.make_node("Dropout", ["conv"], ["dropped"]),
        helper.make_node("Flatten", ["dropped"], ["out"]),
    ]
    initializers = [
        numpy_helper.from_array(quantised, "q"),
        numpy_helper.from_array(scales, "s"),
        numpy_helper.from_array(np.array([4, 3, 8, 8], np.int64), "shape"),
        numpy_helper.from_array(np.zeros(1, np.float32), "zero"),
    ]
    inputs = [
        helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, 3, 8, 8]),
        helper.make_tensor_value_info("s", TensorProto.FLOAT, [4, 12]),
        helper.make_tensor_value_info("weight", TensorProto.FLOAT, [4, 3, 8, 8]),  # as OpenCV's files do
    ]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 4])]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), weights


def test_simplifying_leaves_true_inputs_and_folded_weights() -> None:
    model, weights = tiny_recognizer()
    simple = simplify(model)
    assert [value.name for value in simple.graph.input] == ["data"]
    assert {node.op_type for node in simple.graph.node} == {"Conv", "Flatten"}
    (tensor,) = simple.graph.initializer
    np.testing.assert_allclose(numpy_helper.to_array(tensor), weights, rtol=1e-6)
    assert len(model.graph.input) == 3, "the model given is left as it was"


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("first", ["Conv", "Sub"])
@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing("rgb"),
        Preprocessing("bgr"),
        Preprocessing("rgb", 127.5, 128.0),
        Preprocessing("bgr", 127.5, 127.5),
    ],
)
def test_takes_uint8_rgb_whatever_the_network_wanted(
    tmp_path: Path, preprocessing: Preprocessing, first: str, engine: str
) -> None:
    model, weights = tiny_recognizer(first)
    onnx.save(recognizer_graph(simplify(model), preprocessing), tmp_path / "g.onnx")
    options = RuntimeOptions(engine=engine, precision="fp32")  # type: ignore[arg-type]
    session = open_session(tmp_path / "g.onnx", OUTPUTS, ((8, 8),), options)
    faces = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    embedding, norm = session.run(faces)
    ordered = faces if preprocessing.color == "rgb" else faces[..., ::-1]
    scaled = (ordered.astype(np.float64) - preprocessing.mean) / preprocessing.std
    raw = np.einsum("nhwc,dchw->nd", scaled, weights)
    np.testing.assert_allclose(norm, np.linalg.norm(raw, axis=1), rtol=1e-4)
    np.testing.assert_allclose(embedding * norm[:, None], raw, rtol=1e-3, atol=1e-3)


def test_an_embedding_of_zeros_stays_finite(tmp_path: Path) -> None:
    model, _ = tiny_recognizer()
    onnx.save(recognizer_graph(simplify(model), Preprocessing("rgb")), tmp_path / "g.onnx")
    session = open_session(tmp_path / "g.onnx", OUTPUTS, ((8, 8),), RuntimeOptions(engine="onnxruntime"))
    embedding, norm = session.run(np.zeros((1, 8, 8, 3), np.uint8))
    assert norm.tolist() == [0.0]
    assert not embedding.any()


def test_refuses_a_graph_with_two_outputs() -> None:
    model, _ = tiny_recognizer()
    model.graph.output.append(model.graph.output[0])
    with pytest.raises(UnsupportedGraph):
        recognizer_graph(simplify(model), Preprocessing("rgb"))
