from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from models.embedding import EMBEDDER_OUTPUTS
from models.graph import Preprocessing, UnsupportedGraph, fold_batch_norms, recognizer_graph, simplify
from models.graph.weights import Weights, fill_weights, weights_file, write
from models.runtime import RuntimeOptions, open_session


def tiny_recognizer(first: str = "Conv") -> tuple[onnx.ModelProto, NDArray[np.float32]]:
    """Return a network of one convolution over the whole image, with block-quantised weights, and the weights."""
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
        helper.make_tensor_value_info("weight", TensorProto.FLOAT, [4, 3, 8, 8]),  # a weight, as in OpenCV's files
    ]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 4])]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), weights


def test_simplifying_keeps_only_real_inputs_and_folds_weights() -> None:
    model, weights = tiny_recognizer()
    simple = simplify(model)
    assert [value.name for value in simple.graph.input] == ["data"]
    assert {node.op_type for node in simple.graph.node} == {"Conv", "Flatten"}
    (tensor,) = simple.graph.initializer
    np.testing.assert_allclose(numpy_helper.to_array(tensor), weights, rtol=1e-6)
    assert len(model.graph.input) == 3, "simplify changed its argument"


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
def test_takes_uint8_rgb_for_every_preprocessing(
    tmp_path: Path, preprocessing: Preprocessing, first: str, engine: str
) -> None:
    model, weights = tiny_recognizer(first)
    onnx.save(recognizer_graph(simplify(model), preprocessing), tmp_path / "g.onnx")
    options = RuntimeOptions(engine=engine, precision="fp32")  # type: ignore[arg-type]
    session = open_session(tmp_path / "g.onnx", EMBEDDER_OUTPUTS, ((8, 8),), options)
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
    session = open_session(tmp_path / "g.onnx", EMBEDDER_OUTPUTS, ((8, 8),), RuntimeOptions(engine="onnxruntime"))
    embedding, norm = session.run(np.zeros((1, 8, 8, 3), np.uint8))
    assert norm.tolist() == [0.0]
    assert not embedding.any()


def test_refuses_a_graph_with_two_outputs() -> None:
    model, _ = tiny_recognizer()
    model.graph.output.append(model.graph.output[0])
    with pytest.raises(UnsupportedGraph):
        recognizer_graph(simplify(model), Preprocessing("rgb"))


def evaluate(model: onnx.ModelProto, **inputs: NDArray[Any]) -> list[NDArray[Any]]:
    return [np.asarray(array) for array in ReferenceEvaluator(model).run(None, inputs)]


def norm_nodes(
    before: str, after: str, channels: int, number: int
) -> tuple[onnx.NodeProto, dict[str, NDArray[np.float32]]]:
    rng = np.random.default_rng(number)
    names = [f"{part}{number}" for part in ("gamma", "beta", "mean", "variance")]
    values = [rng.uniform(0.5, 1.5, channels), rng.normal(size=channels), rng.normal(size=channels)]
    values.append(rng.uniform(0.5, 1.5, channels) * np.where(np.arange(channels) % 2, 1, 1e-4))
    node = helper.make_node("BatchNormalization", [before, *names], [after], epsilon=1e-5)
    return node, {name: value.astype(np.float32) for name, value in zip(names, values, strict=True)}


def network_with_norms() -> onnx.ModelProto:
    """Return a network with batch-norms around convolutions and a linear layer; two nodes read one of them."""
    rng = np.random.default_rng(9)
    weights: dict[str, NDArray[Any]] = {
        "w1": rng.normal(size=(4, 3, 3, 3)),
        "w2": rng.normal(size=(4, 4, 3, 3)),
        "fc": rng.normal(size=(6, 4 * 8 * 8)),
        "bias": rng.normal(size=6),
    }
    nodes = [helper.make_node("Conv", ["x", "w1"], ["a"], pads=[1] * 4)]
    weights = {name: value.astype(np.float32) for name, value in weights.items()}
    for before, after, channels in (("a", "b", 4), ("b", "c", 4), ("e", "f", 4), ("h", "y", 6)):
        node, parameters = norm_nodes(before, after, channels, len(nodes))
        weights |= parameters
        nodes.append(node)
        if after == "c":
            nodes.append(helper.make_node("Conv", ["c", "w2"], ["d"], pads=[1] * 4))
            nodes.append(helper.make_node("Add", ["d", "b"], ["e"]))
        if after == "f":
            nodes.append(helper.make_node("Flatten", ["f"], ["g"]))
            nodes.append(helper.make_node("Gemm", ["g", "fc", "bias"], ["h"], transB=1))
    graph = helper.make_graph(
        nodes,
        "norms",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 6])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


@pytest.mark.parametrize("is_external", [False, True], ids=["weights inside", "weights external"])
def test_folding_batch_norms_keeps_the_output(is_external: bool, tmp_path: Path) -> None:
    model = network_with_norms()
    images = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    (before,) = evaluate(model, x=images)
    external: dict[str, NDArray[np.float32]] | None = None
    if is_external:
        weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        for tensor in model.graph.initializer:
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
        external = fill_weights(model, weights)
    fold_batch_norms(model, external)
    write(model, tmp_path / "folded.onnx", external)
    folded = onnx.load(tmp_path / "folded.onnx")
    onnx.checker.check_model(folded, full_check=True)
    assert [node.op_type for node in folded.graph.node] == ["Conv", "Mul", "Add", "Conv", "Add", "Flatten", "Gemm"]
    (after,) = evaluate(folded, x=images)
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("between", "columns"),
    [
        (helper.make_node("Flatten", ["b"], ["c"], axis=1), 64),
        (helper.make_node("Flatten", ["b"], ["c"], axis=2), 16),
        (helper.make_node("Flatten", ["b"], ["c"], axis=3), 4),
        (helper.make_node("Reshape", ["b", "target"], ["c"]), 64),
        (helper.make_node("Reshape", ["b", "target"], ["c"]), 16),
        (helper.make_node("Reshape", ["b", "target"], ["c"]), 4),
        (helper.make_node("Reshape", ["b", "target"], ["c"]), 128),
    ],
)
@pytest.mark.parametrize("transposed", [0, 1])
def test_a_batch_norm_is_folded_only_across_what_makes_one_row_of_a_face(
    between: onnx.NodeProto, columns: int, transposed: int
) -> None:
    rng = np.random.default_rng(4)
    norm, weights = norm_nodes("x", "b", 4, 0)
    fc = rng.normal(size=(5, columns) if transposed else (columns, 5)).astype(np.float32)
    weights |= {"fc": fc, "target": np.array([-1, columns], np.int64)}
    graph = helper.make_graph(
        [norm, between, helper.make_node("Gemm", ["c", "fc"], ["y"], transB=transposed)],
        "reshaped",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(value, name)
            for name, value in weights.items()
            if name in ("fc", *norm.input, *between.input)
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    images = rng.normal(size=(2, 4, 4, 4)).astype(np.float32)
    (before,) = evaluate(model, x=images)
    fold_batch_norms(model)
    (after,) = evaluate(model, x=images)
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-3)
    folds = columns == 64
    assert ("BatchNormalization" in {node.op_type for node in model.graph.node}) != folds


def test_large_weights_stay_outside_the_graph_until_it_is_written(tmp_path: Path) -> None:
    graph = helper.make_graph([], "a", [], [], [])
    large, small = np.arange(40_000, dtype=np.float32), np.arange(4, dtype=np.float32)
    external: dict[str, NDArray[np.float32]] = {}
    weights = Weights(graph, external)
    weights["large"], weights["small"] = large, small
    assert list(external) == ["large"]
    np.testing.assert_array_equal(weights["large"], large)
    assert graph.ByteSize() < 1000
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], producer_name="a test")
    write(model, tmp_path / "a.onnx", external)
    read = onnx.load(tmp_path / "a.onnx")
    assert read.producer_name == "a test"
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in read.graph.initializer}
    np.testing.assert_array_equal(found["large"], large)
    np.testing.assert_array_equal(found["small"], small)


def test_weights_that_exceed_one_file_go_into_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.graph.weights.MAX_FILE_BYTES", 100_000)
    graph = helper.make_graph([], "a", [], [], [])
    large = np.arange(40_000, dtype=np.float32)
    external: dict[str, NDArray[np.float32]] = {}
    Weights(graph, external)["large"] = large
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    write(model, tmp_path / "a.onnx", external)
    assert (tmp_path / "a.onnx").stat().st_size < 1000
    assert weights_file(tmp_path / "a.onnx").stat().st_size >= large.nbytes
    (tensor,) = onnx.load(tmp_path / "a.onnx").graph.initializer
    np.testing.assert_array_equal(numpy_helper.to_array(tensor), large)


@pytest.mark.parametrize("color", ["rgb", "bgr"])
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("first", ["Conv", "Relu"], ids=["convolution first", "another layer first"])
def test_a_mean_for_each_channel_follows_the_colour_order(
    color: Literal["rgb", "bgr"], mirror: bool, first: str
) -> None:
    rng = np.random.default_rng(1)
    kernel = rng.normal(size=(2, 3, 8, 8)).astype(np.float32)
    nodes = [helper.make_node("Relu", ["x"], ["z"])] if first == "Relu" else []
    nodes.append(helper.make_node("Conv", ["z" if nodes else "x", "w"], ["c"]))
    nodes.append(helper.make_node("Flatten", ["c"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "a",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(kernel, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    mean, std = (10.0, 20.0, 30.0), (50.0, 60.0, 70.0)
    faces = rng.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    views = [faces, faces[:, :, ::-1]] if mirror else [faces]
    raw = np.zeros((3, 2))
    for view in views:
        ordered = view[..., ::-1] if color == "bgr" else view
        planes = ((ordered - np.array(mean)) / np.array(std)).transpose(0, 3, 1, 2)
        planes = np.maximum(planes, 0) if first == "Relu" else planes
        raw += np.einsum("nchw,ochw->no", planes, kernel)
    converted = recognizer_graph(model, Preprocessing(color, mean, std, mirror))
    embedding, norm = evaluate(converted, faces=faces)
    np.testing.assert_allclose(embedding * norm[:, None], raw, rtol=1e-3, atol=1e-3)
