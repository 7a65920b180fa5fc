"""The float16 and int8 graphs: their types, the layers in higher precision, and the loss of accuracy."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.errors import ArtefactUnfit
from models.export.precision.activations import BINS, Activation, largest_magnitudes, measure
from models.export.precision.float16 import write_float16
from models.export.precision.int8 import Quantizer, _scale
from models.export.precision.plan import read_plan
from models.graph import Preprocessing, recognizer_graph, save_checked
from models.graph.float16 import LARGEST
from models.graph.quantize import equalize, layers, quantize
from models.runtime.onnxruntime_engine import PlainGraph
from models.synthetic import synthetic_pictures

FACES = synthetic_pictures(24, 16, 16)


def depthwise_network(activation: str, scale: float = 1.0) -> onnx.ModelProto:
    """Return a small network with a depthwise convolution, converted to the contract."""
    rng = np.random.default_rng(0)
    uneven = np.geomspace(0.01, 1, 8).reshape(-1, 1, 1, 1)
    weights: dict[str, NDArray[Any]] = {
        "w1": rng.normal(size=(8, 3, 3, 3)) * uneven * scale,
        "b1": rng.normal(size=8) * uneven[:, 0, 0, 0],
        "slope": rng.uniform(0.1, 0.4, (8, 1, 1)),
        "w2": rng.normal(size=(8, 1, 3, 3)) / uneven,
        "b2": rng.normal(size=8),
        "w3": rng.normal(size=(16, 8 * 14 * 14)),
        "b3": rng.normal(size=16),
        "low": np.array(0.0),
        "high": np.array(2.0),
    }
    operands = {"PRelu": ["slope"], "Clip": ["low", "high"], "Relu": []}[activation]
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["first"], pads=[1] * 4),
        helper.make_node(activation, ["first", *operands], ["active"]),
        helper.make_node("Conv", ["active", "w2", "b2"], ["second"], group=8),
        helper.make_node("Flatten", ["second"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w3", "b3"], ["y"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 16])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return recognizer_graph(model, Preprocessing("rgb", 127.5, 127.5))


def embed(model: onnx.ModelProto) -> NDArray[np.float32]:
    return PlainGraph(model.SerializeToString(), exact=True).run(FACES, ["embedding"])[0]


def loss(model: onnx.ModelProto, other: onnx.ModelProto) -> float:
    return float(1 - (embed(model) * embed(other)).sum(axis=1).mean())


@pytest.mark.parametrize("activation", ["Relu", "PRelu"])
def test_equalizing_changes_nothing_in_float(activation: str) -> None:
    model, equal = depthwise_network(activation), depthwise_network(activation)
    ranges = measure(model, FACES, ["active"])
    ends = equalize(equal, {"active": ranges["active"].channel_largest})
    assert list(ends) == ["active"]
    assert loss(model, equal) < 1e-6
    spread = measure(equal, FACES, ["active"])["active"].channel_largest
    assert spread.min() > 0.5 * spread.max() > 5 * ranges["active"].channel_largest.min()


@pytest.mark.parametrize("activation", ["Relu", "PRelu", "Clip"])
def test_equalized_int8_is_closer_than_plain_int8(activation: str) -> None:
    model = depthwise_network(activation)
    quantizer = Quantizer(model, FACES)
    everything = set(layers(model))
    equalized = loss(model, quantizer.quantized(everything, signed=True))
    ranges = measure(model, FACES, [node.input[0] for node in layers(model).values()])
    scales = {name: _scale(activation_, signed=True) for name, activation_ in ranges.items()}
    means = {name: activation_.channel_mean for name, activation_ in ranges.items()}
    assert equalized < loss(model, quantize(model, scales, means, everything)) / 2
    assert equalized < 0.01


@pytest.mark.parametrize("signed", [True, False])
def test_quantized_graphs_are_valid_and_have_their_types(signed: bool, tmp_path: Path) -> None:
    model = depthwise_network("PRelu")
    quantized = Quantizer(model, FACES).quantized(set(layers(model)), signed)
    save_checked(quantized, tmp_path / "int8.onnx")
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantized.graph.initializer}
    points = [constants[node.input[2]] for node in quantized.graph.node if node.op_type == "QuantizeLinear"]
    assert {point.dtype for point in points} == {np.dtype(np.int8 if signed else np.uint8)}
    weights = [array for name, array in constants.items() if name.endswith("weights_quantized")]
    assert len(weights) == 3
    assert all(array.dtype == np.int8 and array.min() >= -127 for array in weights)


def test_weights_of_7_bits_leave_room_for_the_sum_of_two_products() -> None:
    model = depthwise_network("Relu")
    everything = set(layers(model))
    losses = {}
    for bits, largest in ((8, 127), (7, 63)):
        quantized = Quantizer(model, FACES, bits).quantized(everything, signed=False)  # type: ignore[arg-type]
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantized.graph.initializer}
        weights = [array.astype(int) for name, array in constants.items() if name.endswith("weights_quantized")]
        assert [int(np.abs(array).max()) for array in weights] == [largest] * 3
        losses[bits] = loss(model, quantized)
    assert losses[8] < losses[7] < 0.01  # the scales fit the bits
    assert 2 * 63 * 255 < 2**15 < 2 * 127 * 255


@pytest.mark.parametrize("activation", ["Relu", "PRelu"])
def test_a_stored_plan_gives_the_same_graph_without_faces(activation: str, tmp_path: Path) -> None:
    model = depthwise_network(activation)
    quantizer = Quantizer(model, FACES, 7)
    everything = set(layers(model))
    quantizer.plan(everything, signed=False, weights="abc", measured_on="24 faces").write(tmp_path / "plan.json")
    plan = read_plan(tmp_path / "plan.json")
    assert (plan.weights, plan.measured_on, plan.layers) == ("abc", "24 faces", ("first", "second", "y"))
    assert loss(quantizer.quantized(everything, signed=False), plan.apply(model, 7)) < 1e-5


def test_a_plan_of_another_network_is_refused() -> None:
    model = depthwise_network("Relu")
    plan = Quantizer(model, FACES).plan({"second"}, signed=True)
    next(node for node in model.graph.node if "second" in node.output).output[0] = "another"
    with pytest.raises(ArtefactUnfit, match="the network lacks: second"):
        plan.apply(model, 8)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version": 2}', '{"version": 1, "tensors": []}'])
def test_a_file_that_is_no_plan_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(ArtefactUnfit, match=r"x\.json is not a plan of int8"):
        read_plan(tmp_path / "x.json")


def test_statistics_do_not_depend_on_the_batches() -> None:
    """The first batch is dark, so its values end far below those of the others."""
    model = depthwise_network("Relu")
    dark = np.concatenate([FACES[:8] // 50, FACES[8:]])
    (found,) = measure(model, dark, ["active"]).values()
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    exposed.graph.output.append(onnx.ValueInfoProto(name="active"))
    (values,) = PlainGraph(exposed.SerializeToString()).run(dark, ["active"])
    np.testing.assert_allclose(found.channel_largest, np.abs(values).max(axis=(0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(found.channel_mean, values.mean(axis=(0, 2, 3)), rtol=1e-4)
    assert found.histogram.sum() == values.size
    assert found.largest <= found.end < 2 * found.largest
    mean = (found.histogram * found.centres()).sum() / values.size
    assert abs(mean - values.mean()) < 2 * found.end / BINS


def test_no_layer_is_measured_alone_if_all_together_are_within_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    model, steps = depthwise_network("Relu"), []
    quantizer = Quantizer(model, FACES)
    monkeypatch.setattr("models.export.precision.int8.BUDGET", 0.5)
    assert quantizer.choose(FACES, lambda *step: steps.append(step)) == {"second"}
    assert not steps


def test_only_the_chosen_layers_are_quantized() -> None:
    model = depthwise_network("Relu")
    quantized = Quantizer(model, FACES).quantized({"second"}, signed=True)
    assert sum(node.op_type == "QuantizeLinear" for node in quantized.graph.node) == 1
    first = next(node for node in quantized.graph.node if node.op_type == "Conv")
    assert {tensor.name for tensor in quantized.graph.initializer} >= set(first.input[1:])


def test_a_rare_outlier_does_not_set_the_range() -> None:
    counts = np.zeros(BINS, np.int64)
    counts[BINS // 2 - 400 : BINS // 2 + 400] = 1000
    counts[-1] = 1
    activation = Activation(100.0, np.array([100.0]), np.zeros(1), counts)
    assert _scale(activation, signed=True).scale * 127 < 30
    unsigned = _scale(activation, signed=False)
    assert unsigned.scale * 255 < 80
    assert not unsigned.signed


def test_float16_is_in_the_types_and_ends_before_the_normalisation(tmp_path: Path) -> None:
    save_checked(depthwise_network("PRelu"), tmp_path / "a.onnx")
    np.save(tmp_path / "faces.npy", FACES)
    kept = write_float16(tmp_path / "a.onnx", tmp_path / "faces.npy", tmp_path / "half.onnx", {"name": "x"})
    assert kept == []
    half = onnx.load(tmp_path / "half.onnx")
    types = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    assert {types[name] for node in half.graph.node if node.op_type in ("Conv", "Gemm") for name in node.input[1:]} == {
        TensorProto.FLOAT16
    }
    inferred = {
        value.name: value.type.tensor_type.elem_type
        for value in onnx.shape_inference.infer_shapes(half).graph.value_info
    }
    assert inferred["first"] == inferred["y"] == TensorProto.FLOAT16
    assert inferred["vultus_squares"] == inferred["x"] == TensorProto.FLOAT
    assert loss(onnx.load(tmp_path / "a.onnx"), half) < 1e-5
    assert {entry.key: entry.value for entry in half.metadata_props}["vultus.precision"] == "fp16"


def test_layers_whose_values_come_near_the_end_of_float16_stay_in_float32(tmp_path: Path) -> None:
    model = depthwise_network("Relu", scale=3000.0)
    assert largest_magnitudes(model, FACES)["second"] > LARGEST / 8
    save_checked(model, tmp_path / "a.onnx")
    np.save(tmp_path / "faces.npy", FACES)
    kept = write_float16(tmp_path / "a.onnx", tmp_path / "faces.npy", tmp_path / "half.onnx", {})
    assert {"second", "flat", "y"} <= set(kept)
    assert "first" not in kept or largest_magnitudes(model, FACES)["first"] > LARGEST / 8
    assert loss(model, onnx.load(tmp_path / "half.onnx")) < 1e-4
