# ruff: noqa: E501  # one form in a line
"""Imports of the ONNX forms that exporters write: the artefact embeds as the file in ONNX Runtime, or a sentence."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.errors import ExportError, GraphUnsupported
from models.export.exporter import Exported, Exporter, ExportSpec
from models.export.isolation import run_here
from models.export.onnx_file import read_onnx, weights_digest
from models.export.published import describe_onnx, embed_by_published, write_imported
from models.export.steps import SourceSpec
from models.runtime.onnxruntime_engine import PlainGraph
from models.synthetic import synthetic_pictures
from tests.models.export.published_graphs import (
    FLAT,
    NORMALISED,
    PLAIN,
    STATISTICS,
    WEIGHTS,
    Node,
    body,
    drawn,
    halved,
    head,
    integers,
    model,
    saved,
    with_listed_weights,
)

FACES = synthetic_pictures(3, 112, 112, seed=5)
PLANES = ((FACES.astype(np.float32) - 127.5) / 127.5).transpose(0, 3, 1, 2)
PIXELS: dict[str, Any] = {"mean": 0.0, "std": 1.0}


def source(path: Path, **about: Any) -> SourceSpec:
    return SourceSpec(path, **{"color": "rgb", "mean": 127.5, "std": 127.5, **about})


def in_onnxruntime(
    published: onnx.ModelProto | bytes, pictures: NDArray[Any] = PLANES, batch: int = 1
) -> NDArray[np.float32]:
    """Return the first output of the unchanged graph, in batches of one size."""
    content = published if isinstance(published, bytes) else published.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    name, output = session.get_inputs()[0].name, session.get_outputs()[0].name
    rows = []
    for start in range(0, len(pictures), batch):
        piece = pictures[start : start + batch]
        piece = np.concatenate([piece, np.repeat(piece[:1], batch - len(piece), axis=0)])
        rows.append(session.run([output], {name: np.ascontiguousarray(piece)})[0].reshape(batch, -1))
    return np.concatenate(rows)[: len(pictures)].astype(np.float32)


def imported(path: Path, **about: Any) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Import a graph and return embedding and norm of the artefact, and the reference of its proof."""
    stated = source(path, **about)
    described = describe_onnx(stated)
    np.save(path.with_suffix(".npy"), FACES)
    (reference,), _ = embed_by_published(stated, described, [path.with_suffix(".npy")])
    write_imported(stated, described, path.with_suffix(".out"), "vultus", {})
    graph = PlainGraph(path.with_suffix(".out"))
    together = graph.run(FACES, ["embedding", "norm"])
    alone = [graph.run(face[None], ["embedding", "norm"]) for face in FACES]
    for position, array in enumerate(together):
        np.testing.assert_allclose(array, np.concatenate([one[position] for one in alone]), rtol=1e-3, atol=1e-5)
    return together[0], together[1], reference


def reshaped(*target: int) -> list[onnx.NodeProto]:
    """Return the network with a Reshape to a constant shape instead of Flatten."""
    shape = Node("Constant", [], ["target"], value=numpy_helper.from_array(integers(*target)))
    return [*body(), shape, Node("Reshape", ["c", "target"], ["f"])]


LINEAR = [Node("MatMul", ["f", "fct"], ["product"]), Node("Add", ["product", "bias"], ["y"])]
VECTOR: dict[str, Any] = {"returns": {"y": [16]}}
ALL_AXES = [*body(), FLAT, *head("f", "raw"), Node("ReduceL2", ["raw"], ["length"], keepdims=0)]
ALL_AXES += [Node("Div", ["raw", "length"], ["y"])]
SQUEEZED = [*body(), FLAT, *head("f", "raw"), Node("Squeeze", ["raw"], ["v"])]
FIRST = [*body(), FLAT, *head("f", "raw"), Node("Gather", ["raw", "zero"], ["y"], axis=0)]
CONVOLVED = [*body(), Node("Conv", ["c", "four", "bias"], ["four_d"])]
TOKEN = [*reshaped(1, 8, 16), Node("Concat", ["token", "f"], ["t"], axis=2), Node("ReduceMax", ["t"], ["m"], axes=[1])]
TOKEN += [Node("Flatten", ["m"], ["y"])]
HEADS = [*reshaped(1, 8, 16), Node("Transpose", ["f"], ["u"], perm=[2, 0, 1]), Node("Reshape", ["u", "heads"], ["h"])]
HEADS += [Node("Transpose", ["h"], ["q"], perm=[1, 0, 2]), Node("Transpose", ["q"], ["k"], perm=[0, 2, 1])]
HEADS += [
    Node("MatMul", ["q", "k"], ["s"]),
    Node("MatMul", ["s", "q"], ["o"]),
    Node("Transpose", ["o"], ["j"], perm=[1, 0, 2]),
]
HEADS += [Node("Reshape", ["j", "joined"], ["r"]), Node("ReduceMean", ["r"], ["y"], axes=[0], keepdims=0)]

BY_POSITION: dict[str, Any] = {name: np.abs(drawn(8, 4, 4)) + np.float32(0.1) for name in STATISTICS}

BATCH_OF_ONE = {
    "opset 7": model(PLAIN, opset=7),
    "opset 21": model(PLAIN, opset=21),
    "free batch": model(PLAIN, takes=["N", 3, 112, 112]),
    "no shape of the input": model(PLAIN, takes=None),
    "free height and width": model(PLAIN, takes=["N", 3, "H", "W"]),
    "unknown D": model(PLAIN, opset=18, returns={"y": ["N", "D"]}),
    "Flatten of axis 0": model([*body(), Node("Flatten", ["c"], ["f"], axis=0), *head("f")]),
    "Flatten of axis -3": model([*body(), Node("Flatten", ["c"], ["f"], axis=-3), *head("f")]),
    "Reshape to 0, -1": model([*reshaped(0, -1), *head("f")]),
    "Reshape to 1, -1 in a free batch": model([*reshaped(1, -1), *head("f")], takes=["N", 3, 112, 112]),
    "Reshape to 1, 128": model([*reshaped(1, 128), *LINEAR]),
    "Reshape to 128": model([*reshaped(128), *LINEAR], **VECTOR),
    "Reshape to -1": model([*reshaped(-1), *LINEAR], **VECTOR),
    "ReduceL2 of all axes": model(ALL_AXES),
    "ReduceL2 of all axes, opset 18": model(ALL_AXES, opset=18),
    "ReduceL2 of all axes in a free batch": model(ALL_AXES, opset=18, takes=["N", 3, 112, 112]),
    "Squeeze without axes": model([*CONVOLVED, Node("Squeeze", ["four_d"], ["y"])], opset=11, **VECTOR),
    "N, D, 1, 1": model([*CONVOLVED, Node("Identity", ["four_d"], ["y"])], returns={"y": ["N", 16, 1, 1]}),
    "norm of a vector": model([*SQUEEZED, Node("LpNormalization", ["v"], ["y"], axis=0, p=2)], **VECTOR),
    "vector made a row": model([*SQUEEZED, Node("Unsqueeze", ["v", "axis"], ["y"])], axis=integers(0)),
    "the first face": model(FIRST, zero=np.array(0), **VECTOR),
    "class token": model(TOKEN, token=drawn(1, 8, 1), returns={"y": [1, 17]}),
    "heads that join the batch": model(HEADS, heads=integers(16, 2, 4), joined=integers(16, 1, 8), returns={"y": [1, 8]}),
    "Dropout with a mask": model([*body(), Node("Dropout", ["c"], ["d", "mask"]), Node("Flatten", ["d"], ["f"]), *head("f")]),
    "norm inside": model(NORMALISED),
    "contrib operator": model([*PLAIN[:-1], *head("f", "r"), Node("BiasGelu", ["r", "bias"], ["y"], domain="com.microsoft")], domains=["com.microsoft"]),
    "spatial=0 folded by the engine": with_listed_weights(model([PLAIN[0], Node("BatchNormalization", ["a", *STATISTICS], ["c"], spatial=0), FLAT, *head("f")], opset=8)),
    "BatchNormalization by position": model([*body(output="b"), Node("BatchNormalization", ["b", *STATISTICS], ["c"], spatial=0), FLAT, *head("f")], opset=8, **BY_POSITION),
}  # fmt: skip


@pytest.mark.parametrize("form", BATCH_OF_ONE)
def test_a_form_is_imported_for_any_batch(form: str, tmp_path: Path) -> None:
    published = BATCH_OF_ONE[form]
    embedding, norm, reference = imported(saved(published, tmp_path / "a.onnx"))
    expected = in_onnxruntime(published)
    np.testing.assert_allclose(reference, expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(embedding * norm[:, None], expected, rtol=1e-3, atol=1e-4)


def test_a_fixed_batch_of_several_faces_becomes_free(tmp_path: Path) -> None:
    published = model([*reshaped(4, 128), *head("f")], takes=[4, 3, 112, 112])
    embedding, norm, _ = imported(saved(published, tmp_path / "a.onnx"))
    expected = in_onnxruntime(published, batch=4)
    np.testing.assert_allclose(embedding * norm[:, None], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("own_transposition", [True, False])
def test_channels_last_input_is_transposed(own_transposition: bool, tmp_path: Path) -> None:
    turned = [Node("Transpose", ["x"], ["z"], perm=[0, 3, 1, 2])]
    turned = (
        turned if own_transposition else [Node("Neg", ["x"], ["n"]), Node("Transpose", ["n"], ["z"], perm=[0, 3, 1, 2])]
    )
    published = model([*turned, *body("z"), FLAT, *head("f")], takes=["N", 112, 112, 3])
    embedding, norm, _ = imported(saved(published, tmp_path / "a.onnx"))
    expected = in_onnxruntime(published, PLANES.transpose(0, 2, 3, 1))
    np.testing.assert_allclose(embedding * norm[:, None], expected, rtol=1e-3, atol=1e-4)
    kept = [node.op_type for node in onnx.load(tmp_path / "a.out").graph.node]
    assert kept.count("Transpose") == (1 if own_transposition else 3)


@pytest.mark.parametrize("outside", [True, False], ids=["float32 outside", "float16 outside"])
def test_half_precision_is_widened(outside: bool, tmp_path: Path) -> None:
    published = halved(model(PLAIN), outside)
    path = saved(published, tmp_path / "a.onnx")
    embedding, norm, _ = imported(path)
    expected = in_onnxruntime(published, PLANES if outside else PLANES.astype(np.float16))
    np.testing.assert_allclose(embedding * norm[:, None], expected, rtol=2e-2, atol=2e-3)
    kinds = {tensor.data_type for tensor in onnx.load(path.with_suffix(".out")).graph.initializer}
    assert TensorProto.FLOAT16 not in kinds
    exported = proven(path, tmp_path / "out")
    assert exported.proof.passed
    assert exported.proof.reference["runtime"].endswith("float16")


def test_pixels_as_whole_numbers_need_no_scaling_outside(tmp_path: Path) -> None:
    published = model(
        [Node("Cast", ["x"], ["z"], to=TensorProto.FLOAT), *body("z"), FLAT, *head("f")], kind=TensorProto.UINT8
    )
    path = saved(published, tmp_path / "a.onnx")
    embedding, norm, _ = imported(path, color="bgr", **PIXELS)
    expected = in_onnxruntime(published, FACES[..., ::-1].transpose(0, 3, 1, 2))
    np.testing.assert_allclose(embedding * norm[:, None], expected, rtol=1e-3, atol=1e-2)
    with pytest.raises(GraphUnsupported, match="--mean 0 --std 1"):
        describe_onnx(source(path))


def slopes(shape: tuple[int, ...], **about: Any) -> onnx.ModelProto:
    nodes = [
        Node("Conv", ["x", "w"], ["a"], strides=[28, 28]),
        Node("BatchNormalization", ["a", *STATISTICS], ["b"], **about),
        Node("PRelu", ["b", "slope"], ["c"]),
    ]
    return model([*nodes, FLAT, *head("f")], opset=8, slope=WEIGHTS["slope"].reshape(shape))


def test_graphs_of_mxnet_are_mended_and_the_proof_says_so(tmp_path: Path) -> None:
    path = saved(with_listed_weights(slopes((8,), spatial=0)), tmp_path / "a.onnx")
    exported = proven(path, tmp_path / "out")
    assert exported.proof.passed
    assert "PRelu slopes [C] are per channel" in exported.card.source["form"]
    assert any("spatial=0" in note for note in exported.notes)
    embedding, norm, _ = imported(path)
    expected = in_onnxruntime(slopes((8, 1, 1)))
    np.testing.assert_allclose(embedding * norm[:, None], expected, rtol=1e-3, atol=1e-4)


def test_a_slope_for_the_last_axis_is_not_mended(tmp_path: Path) -> None:
    nodes = [Node("Conv", ["x", "w"], ["a"], strides=[12, 12]), Node("PRelu", ["a", "slope"], ["b"])]
    nodes += [Node("GlobalAveragePool", ["b"], ["m"]), Node("Flatten", ["m"], ["y"])]
    published = model(nodes, returns={"y": [1, 8]})  # eight channels of 8 x 8: valid for the last axis
    embedding, norm, _ = imported(saved(published, tmp_path / "a.onnx"))
    np.testing.assert_allclose(embedding * norm[:, None], in_onnxruntime(published), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("listed", [[], ["w", "fc"]], ids=["weights not listed", "some weights listed"])
def test_weights_of_ir_version_3_need_not_be_listed(listed: list[str], tmp_path: Path) -> None:
    published = with_listed_weights(model(PLAIN, opset=8))
    kept = [value for value in published.graph.input if value.name in {"x", *listed}]
    del published.graph.input[:]
    published.graph.input.extend(kept)
    embedding, norm, _ = imported(saved(published, tmp_path / "a.onnx"))
    np.testing.assert_allclose(embedding * norm[:, None], in_onnxruntime(published), rtol=1e-3, atol=1e-4)


def optimised(published: onnx.ModelProto, path: Path, level: str, form: str = "ONNX") -> Path:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.optimized_model_filepath = str(path)
    options.add_session_config_entry("session.save_model_format", form)
    onnxruntime.InferenceSession(published.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return path


def draw_deep() -> onnx.ModelProto:
    """Return a network with a shortcut, grouped filters, pooling and channels that fill no block."""
    nodes = [Node("Conv", ["x", "w1"], ["a"], strides=[8, 8]), Node("Relu", ["a"], ["b"])]
    nodes += [
        Node("Conv", ["b", "w2"], ["c"], pads=[1] * 4),
        Node("Add", ["b", "c"], ["d"]),
        Node("Relu", ["d"], ["e"]),
    ]
    nodes += [Node("Conv", ["e", "w3", "b3"], ["g"], group=32, pads=[1] * 4), Node("Clip", ["g", "low", "high"], ["h"])]
    nodes += [Node("MaxPool", ["h"], ["i"], kernel_shape=[2, 2], strides=[2, 2]), Node("Conv", ["i", "w4"], ["j"])]
    nodes += [Node("GlobalAveragePool", ["j"], ["k"]), Node("Flatten", ["k"], ["y"])]
    weights: dict[str, Any] = {
        "w1": drawn(32, 3, 8, 8),
        "w2": drawn(32, 32, 3, 3),
        "w3": drawn(32, 1, 3, 3),
        "w4": drawn(20, 32, 3, 3),
    }
    limits: dict[str, Any] = {"b3": drawn(32, 1)[:, 0], "low": np.array(0, np.float32), "high": np.array(6, np.float32)}
    return model(nodes, takes=["N", 3, 112, 112], returns={"y": ["N", 20]}, **weights, **limits)


DEEP = draw_deep()


@pytest.mark.parametrize("form", ["ONNX", "ORT"])
@pytest.mark.parametrize("level", ["ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"])
def test_what_the_optimiser_of_onnx_runtime_wrote_becomes_standard(level: str, form: str, tmp_path: Path) -> None:
    path = optimised(DEEP, tmp_path / "a.model", level, form)
    embedding, norm, _ = imported(path)
    np.testing.assert_allclose(embedding * norm[:, None], in_onnxruntime(DEEP), rtol=1e-3, atol=1e-4)
    assert {node.domain for node in onnx.load(path.with_suffix(".out")).graph.node} == {""}


def test_an_engine_without_an_operator_of_the_graph_is_not_required(tmp_path: Path) -> None:
    expanded = [*body(), FLAT, *head("f", "r"), Node("ExpandDims", ["r", "last"], ["y"], domain="com.microsoft")]
    published = model(expanded, domains=["com.microsoft"], last=np.array(2, np.int32), returns={"y": None})
    exported = proven(saved(published, tmp_path / "a.onnx"), tmp_path / "out")
    assert exported.proof.passed
    rows = {(row.precision, row.engine): row for row in exported.proof.rows}
    assert rows["fp32", "onnxruntime"].passed
    assert not rows["fp32", "openvino"].passed
    assert "OpenVINO could not read the graph" in rows["fp32", "openvino"].why[0]


def pair(factor: float = 1.0) -> onnx.ModelProto:
    scaled = [Node("Mul", ["length", "factor"], ["norm"])]
    returns: dict[str, Any] = {"y": ["N", 16], "norm": ["N", 1]}
    return model([*NORMALISED, *scaled], returns=returns, factor=np.array(factor, np.float32))


@pytest.mark.parametrize("before", [[], [Node("Transpose", ["x"], ["t"], perm=[0, 1, 2, 3])]])
def test_a_graph_that_scales_its_input_itself_is_pointed_out(tmp_path: Path, before: list[onnx.NodeProto]) -> None:
    first = before[-1].output[0] if before else "x"
    scaling = [Node("Sub", [first, "mean"], ["s"]), Node("Mul", ["s", "factor"], ["m"])]
    weights: dict[str, Any] = {"mean": np.array([127.5], np.float32), "factor": np.array([1 / 128], np.float32)}
    path = saved(model([*before, *scaling, *body("m"), FLAT, *head("f")], **weights), tmp_path / "a.onnx")
    assert any("give --mean 0 --std 1" in note for note in describe_onnx(source(path)).notes)
    assert describe_onnx(source(path, mean=0, std=1)).notes == ()
    plain = saved(model(PLAIN), tmp_path / "b.onnx")
    assert describe_onnx(source(plain)).notes == ()


def test_a_unit_embedding_and_its_norm_are_multiplied(tmp_path: Path) -> None:
    path = saved(pair(), tmp_path / "a.onnx")
    raw = in_onnxruntime(model([*body(), FLAT, *head("f")]))
    embedding, norm, _ = imported(path)
    np.testing.assert_allclose(embedding * norm[:, None], raw, rtol=1e-3, atol=1e-4)
    assert "--output y" in describe_onnx(source(path)).notes[0]
    alone, unit, _ = imported(path, output="y")
    np.testing.assert_allclose(alone, embedding, atol=1e-5)
    np.testing.assert_allclose(unit, 1, atol=1e-5)
    both = [describe_onnx(source(path, **about)).weights for about in ({}, {"output": "y"})]
    assert both[0] != both[1], "embeddings of different outputs must not be compared"


def test_an_option_decides_where_the_file_cannot_tell(tmp_path: Path) -> None:
    two = model([*PLAIN, Node("Relu", ["y"], ["z"])], returns={"y": ["N", 16], "z": ["N", 16]})
    path = saved(two, tmp_path / "two.onnx")
    with pytest.raises(GraphUnsupported, match="--output y or --output z"):
        describe_onnx(source(path))
    embedding, norm, _ = imported(path, output="z")
    expected = np.maximum(in_onnxruntime(two), 0)
    np.testing.assert_allclose(embedding * norm[:, None], expected, rtol=1e-3, atol=1e-4)
    with pytest.raises(GraphUnsupported, match="no output q"):
        describe_onnx(source(path, output="q"))
    pooled = [*body(), Node("GlobalMaxPool", ["c"], ["y"])]
    path = saved(model(pooled, takes=["N", 3, "H", "W"], returns={"y": None}), tmp_path / "pooled.onnx")
    with pytest.raises(GraphUnsupported, match=r"--template arcface-112 .* or --template arcface-112x96"):
        describe_onnx(source(path))
    assert describe_onnx(source(path, template="arcface-112x96")).template == "arcface-112x96"


def test_quantised_graphs_keep_their_integers(tmp_path: Path) -> None:
    scale, zero = np.array(0.02, np.float32), np.array(128, np.uint8)
    weights = np.clip(np.round(WEIGHTS["fc"] / 0.01), -127, 127).astype(np.int8)
    nodes = [*body(), FLAT, Node("QuantizeLinear", ["f", "scale", "zero"], ["q"])]
    nodes += [
        Node("DequantizeLinear", ["q", "scale", "zero"], ["g"]),
        Node("DequantizeLinear", ["qw", "sw", "zw"], ["v"]),
    ]
    nodes += [Node("Gemm", ["g", "v", "bias"], ["y"], transB=1)]
    about: dict[str, Any] = {
        "scale": scale,
        "zero": zero,
        "qw": weights,
        "sw": np.array(0.01, np.float32),
        "zw": np.array(0, np.int8),
    }
    published = model(nodes, **about)
    path = saved(published, tmp_path / "a.onnx")
    embedding, norm, _ = imported(path)
    np.testing.assert_allclose(embedding * norm[:, None], in_onnxruntime(published), rtol=0.05, atol=0.05)
    kinds = [node.op_type for node in onnx.load(path.with_suffix(".out")).graph.node]
    assert kinds.count("DequantizeLinear") == 2
    with pytest.raises(GraphUnsupported, match="omit --precision"):
        proven(path, tmp_path / "out", precisions=("fp16",))


def test_the_contract_covers_weights_in_files_beside_the_graph(tmp_path: Path) -> None:
    digests = []
    for number, factor in enumerate((1.0, 2.0)):
        folder = tmp_path / str(number)
        folder.mkdir()
        published = model(PLAIN, fc=WEIGHTS["fc"] * np.float32(factor))
        onnx.save(published, folder / "a.onnx", save_as_external_data=True, location="a.data", size_threshold=0)
        digests.append(describe_onnx(source(folder / "a.onnx")).weights)
    assert (tmp_path / "0/a.onnx").read_bytes() == (tmp_path / "1/a.onnx").read_bytes()
    assert digests[0] != digests[1]
    with (tmp_path / "0/a.data").open("r+b") as file:
        file.truncate(100)
    with pytest.raises(GraphUnsupported, match=r"a\.data.* is truncated"):
        describe_onnx(source(tmp_path / "0/a.onnx"))
    (tmp_path / "0/a.data").unlink()
    with pytest.raises(GraphUnsupported, match=r"a\.data, which is not beside it"):
        describe_onnx(source(tmp_path / "0/a.onnx"))


def outside(path: Path, *numbers: float) -> TensorProto:
    """Return a vector whose numbers are in a file."""
    tensor = numpy_helper.from_array(np.array(numbers, np.float32), "inner")
    path.write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=path.name)
    return tensor


def holding(tensor: TensorProto, place: str) -> onnx.ModelProto:
    """Return a model that holds a tensor in one place; only what reads tensors needs to accept it."""
    value = helper.make_tensor_value_info("inner", TensorProto.FLOAT, list(tensor.dims))
    initializers, sparse = [], onnx.SparseTensorProto(values=tensor, dims=tensor.dims)
    node = Node("Constant", [], ["inner"])
    if place == "an attribute":
        node.attribute.append(onnx.AttributeProto(name="value", type=onnx.AttributeProto.TENSOR, t=tensor))
    elif place == "a list of tensors":
        node.attribute.append(onnx.AttributeProto(name="own", type=onnx.AttributeProto.TENSORS, tensors=[tensor]))
    elif place == "a sparse attribute":
        kind = onnx.AttributeProto.SPARSE_TENSOR
        node.attribute.append(onnx.AttributeProto(name="sparse_value", type=kind, sparse_tensor=sparse))
    elif "branch" in place:
        initializers = [tensor] if "sparse" not in place else []
        sparse_weights = [sparse] if "sparse" in place else []
        branch = helper.make_graph([], "branch", [], [value], initializers, sparse_initializer=sparse_weights)
        node = Node("If", ["condition"], ["inner"], then_branch=branch, else_branch=branch)
    functions = []
    if place.endswith("of a function"):
        functions = [helper.make_function("own", "Part", [], ["inner"], [node], [helper.make_opsetid("", 17)])]
        node = Node("Part", [], ["inner"], domain="own")
    graph = helper.make_graph([node], "g", [], [value], sparse_initializer=[sparse] if place == "sparse" else [])
    return helper.make_model(graph, functions=functions)


@pytest.mark.parametrize(
    "place",
    [
        "an attribute",
        "a list of tensors",
        "a sparse attribute",
        "a branch",
        "a sparse weight of a branch",
        "a branch of a function",
        "sparse",
    ],
)
def test_the_contract_covers_weights_in_other_files_wherever_they_are(place: str, tmp_path: Path) -> None:
    digests = []
    for number in range(2):
        path = tmp_path / f"{number}/a.onnx"
        path.parent.mkdir()
        published = holding(outside(path.with_name("inner.bin"), 1, 2, number), place)
        assert b"inner.bin" in published.SerializeToString()
        digests.append(weights_digest(saved(published, path)))
        assert b"inner.bin" not in read_onnx(path).SerializeToString(), "every weight is read"
    assert (tmp_path / "0/a.onnx").read_bytes() == (tmp_path / "1/a.onnx").read_bytes()
    assert digests[0] != digests[1]
    (tmp_path / "0/inner.bin").unlink()
    with pytest.raises(GraphUnsupported, match=r"inner\.bin, which is not beside it"):
        read_onnx(tmp_path / "0/a.onnx")


def test_the_contract_covers_weights_of_functions(tmp_path: Path) -> None:
    described = []
    for factor in (1.0, 2.0):
        path = tmp_path / f"{factor}/a.onnx"
        path.parent.mkdir()
        weights = outside(path.with_name("w.bin"), *(WEIGHTS["w"] * np.float32(factor)).ravel())
        weights.dims[:] = WEIGHTS["w"].shape
        constant = Node("Constant", [], ["w"])
        constant.attribute.append(onnx.AttributeProto(name="value", type=onnx.AttributeProto.TENSOR, t=weights))
        imports = [helper.make_opsetid("", 13)]
        function = helper.make_function("own", "Stem", ["x"], ["c"], [constant, *body()], imports)
        published = model([Node("Stem", ["x"], ["c"], domain="own"), FLAT, *head("f")], domains=["own"])
        published.functions.append(function)
        described.append(describe_onnx(source(saved(published, path))))
    assert (tmp_path / "1.0/a.onnx").read_bytes() == (tmp_path / "2.0/a.onnx").read_bytes()
    assert described[0].weights != described[1].weights


def test_a_quantisation_that_nothing_reads_does_not_loosen_the_proof(tmp_path: Path) -> None:
    unread = Node("QuantizeLinear", ["f", "step", "zero"], ["unread"])
    weights: dict[str, Any] = {"step": np.array(0.1, np.float32), "zero": np.array(0, np.uint8)}
    path = saved(model([*body(), FLAT, unread, *head("f")], **weights), tmp_path / "a.onnx")
    described = describe_onnx(source(path))
    assert described.published is not None
    assert described.published.precision == "fp32"
    assert described.source["arithmetic"] == "float32"


TWO_INPUTS = model([*body(), FLAT, Node("Mul", ["f", "keep_prob"], ["g"]), *head("g")])
TWO_INPUTS.graph.input.append(helper.make_tensor_value_info("keep_prob", TensorProto.FLOAT, []))
SEQUENCE = model([*body(), FLAT, Node("SequenceConstruct", ["f"], ["y"])])
SEQUENCE.graph.output[0].CopyFrom(
    helper.make_value_info("y", helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None)))
)
TRAINING = [*body(output="b"), Node("BatchNormalization", ["b", *STATISTICS], ["c", "m", "v"], training_mode=1)]
OTHERS = [*body(), FLAT, Node("ReduceMean", ["f"], ["mean_f"], axes=[0]), Node("Mul", ["mean_f", "part"], ["shift"])]
OTHERS += [Node("Add", ["f", "shift"], ["g"]), *head("g")]
DETECTOR = [*body(), Node("Reshape", ["c", "rows"], ["y"])]

REFUSED: dict[str, tuple[onnx.ModelProto | bytes, str]] = {
    "grey": (model(PLAIN, takes=[1, 1, 112, 112], w=drawn(8, 1, 28, 28)), "a recognizer takes"),
    "another size": (model(PLAIN, takes=["N", 3, 160, 160], fc=drawn(16, 200)), "112x112"),
    "three axes": (model([Node("Unsqueeze", ["x", "axis"], ["z"]), *body("z"), FLAT, *head("f")], takes=[3, 112, 112], axis=integers(0)), "a recognizer takes"),
    "truth values": (model([Node("Cast", ["x"], ["z"], to=1), *body("z"), FLAT, *head("f")], kind=TensorProto.BOOL), "takes tensor.bool"),
    "two inputs": (TWO_INPUTS, "2 inputs .x, keep_prob"),
    "a map of features": (model([*body()], returns={"c": None}), "no output is an embedding"),
    "a detector": (model(DETECTOR, rows=integers(-1, 4), returns={"y": None}), "no output is an embedding"),
    "one number": (model([*body(), Node("GlobalMaxPool", ["c"], ["p"]), Node("ReduceMax", ["p"], ["y"], axes=[1])], returns={"y": None}), "no output is an embedding"),
    "a sequence": (SEQUENCE, "no recognizer"),
    "training mode": (model([*TRAINING, FLAT, *head("f")], opset=15, takes=["N", 3, 112, 112]), "training mode"),
    "a mean over a fixed batch": (model(OTHERS, takes=[4, 3, 112, 112], part=np.array(-0.5, np.float32)), "alone than in a batch"),
    "a slight dependence": (model(OTHERS, takes=["N", 3, 112, 112], part=np.array(3e-4, np.float32)), "alone than in a batch"),
    "unknown operator": (model([*body(), Node("Own", ["c"], ["y"], domain="own")], domains=["own"]), "own:Own"),
    "old opset": (model(PLAIN, opset=6), "cannot be imported"),
    "wrong sizes": (model(PLAIN, fc=drawn(16, 100)), "cannot be imported"),
    "empty": (b"", "is empty"),
    "text": (b"<!doctype html>" * 9, "not an ONNX file"),
    "checkpoint": (b"PK\x03\x04" + bytes(40), "vultus export"),
    "no graph": (helper.make_model(helper.make_graph([], "a", [], [])), "holds no ONNX graph"),
    "truncated": (model(PLAIN).SerializeToString()[:9000], "truncated"),
    "truncated .ort": (bytes(4) + b"ORTM" + bytes(60), "ONNX Runtime's own format"),
}  # fmt: skip


def test_a_graph_that_runs_with_both_orders_of_axes_says_which_is_taken(tmp_path: Path) -> None:
    flat = [Node("Flatten", ["x"], ["f"]), *head("f")]
    weights: dict[str, Any] = {"fc": drawn(16, 3 * 112 * 112)}
    free = saved(model(flat, takes=["N", "a", "b", "c"], **weights), tmp_path / "free.onnx")
    fixed = saved(model(flat, takes=["N", 3, 112, 112], **weights), tmp_path / "fixed.onnx")
    said = [
        any(
            "[N, 3, H, W] and [N, H, W, 3]" in note
            for note in describe_onnx(source(path, template="arcface-112")).notes
        )
        for path in (free, fixed)
    ]
    assert said == [True, False]


def test_a_graph_that_is_right_alone_only_is_imported_for_one_face_at_a_time(tmp_path: Path) -> None:
    mixing = model(OTHERS, takes=["N", 3, 112, 112], part=np.array(-0.5, np.float32))
    path = saved(mixing, tmp_path / "a.onnx")
    assert any("one face at a time" in note for note in describe_onnx(source(path)).notes)
    embedding, norm, reference = imported(path)
    np.testing.assert_allclose(embedding * norm[:, None], reference, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_imported_is_refused_in_one_sentence(kind: str, tmp_path: Path) -> None:
    published, said = REFUSED[kind]
    path = saved(published, tmp_path / "a.onnx")
    with pytest.raises(ExportError, match=said) as caught:
        proven(path, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_directory_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(GraphUnsupported, match="is a directory"):
        proven(tmp_path, tmp_path / "out")


def test_whatever_onnx_raises_becomes_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("adapters/transformers.h:35: Assertion failed:\nspatial must be 1")

    monkeypatch.setattr("onnx.version_converter.convert_version", fail)
    with pytest.raises(GraphUnsupported, match="spatial must be 1"):
        proven(saved(model(PLAIN), tmp_path / "a.onnx"), tmp_path / "out")


def test_an_imported_form_supports_the_other_options(tmp_path: Path) -> None:
    turned = [Node("Transpose", ["x"], ["z"], perm=[0, 3, 1, 2]), *body("z"), FLAT, *head("f", "embedding")]
    published = model(turned, takes=[1, 112, 112, 3], returns={"embedding": [1, 16]})
    path = saved(published, tmp_path / "a.onnx")
    mirrored = replace(source(path), mirror=True, color="bgr", mean=(104.0, 117.0, 123.0), std=(58.0, 57.0, 56.0))
    exported = proven(path, tmp_path / "out", source=mirrored, precisions=("fp16",))
    assert exported.proof.passed
    assert {row.precision for row in exported.proof.rows} >= {"fp32", "fp16"}
    assert proven(path, tmp_path / "theirs", source=mirrored, layout="insightface").proof.passed


def test_an_artefact_is_imported_again(tmp_path: Path) -> None:
    proven(saved(model(PLAIN), tmp_path / "a.onnx"), tmp_path / "out")
    path = tmp_path / "out/embedder.onnx"
    again = proven(path, tmp_path / "again", source=source(path, **PIXELS))
    assert again.proof.passed
    np.testing.assert_array_equal(
        PlainGraph(again.path / "embedder.onnx").run(FACES, ["embedding"])[0].shape, (len(FACES), 16)
    )


def proven(path: Path, out: Path, **about: Any) -> Exported:
    def no_cropper(*_: object) -> Any:
        raise AssertionError("no photo needs cropping")

    spec = ExportSpec(source(path), out, "a", "a test", published=True)
    return Exporter(replace(spec, **about), no_cropper, isolate=run_here).run()
