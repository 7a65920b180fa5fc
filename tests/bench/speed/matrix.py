"""The peak rate of the machine: operations per second of large convolutions and matrix products in OpenVINO."""

import time
from typing import NamedTuple

import numpy as np
import onnx
import openvino as ov
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

_SECONDS = 0.4
_ROUNDS = 5
_GEMM = 2048
_CHANNELS, _SIDE, _BATCH = 256, 14, 16  # the most frequent convolution of r50 and r100


class Peak(NamedTuple):
    """The higher rate of convolution and matrix product by precision, in operations per second; 0 if unsupported."""

    fp32: float
    bf16: float
    int8: float

    def of(self, precision: str) -> float:
        """Return the rate of a precision, which may be a CPU variant such as `int8-cpu`."""
        return float(getattr(self, precision.partition("-")[0]))


def measure_peak(threads: int) -> Peak:
    """Measure every precision in interleaved rounds, and return the medians."""
    core = ov.Core()
    runs = {}
    for precision in ("fp32", "bf16", "int8"):
        hint = "bf16" if precision == "bf16" else "f32"
        if hint == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            continue
        config = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        for name, (graph, flops) in {"conv": _convolution(precision), "gemm": _gemm(precision)}.items():
            model = core.read_model(graph.SerializeToString())
            runs[precision, name] = (core.compile_model(model, "CPU", config).create_infer_request(), flops)
    rates: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
    for _ in range(_ROUNDS):
        for key, (request, flops) in runs.items():
            request.infer()
            count, start = 0, time.perf_counter()
            while time.perf_counter() - start < _SECONDS:
                request.infer()
                count += 1
            rates[key].append(count * flops / (time.perf_counter() - start))
    medians = {key: float(np.median(found)) for key, found in rates.items()}
    best = {
        precision: max((rate for (kind, _), rate in medians.items() if kind == precision), default=0.0)
        for precision in Peak._fields
    }
    return Peak(**best)


def _convolution(precision: str) -> tuple[onnx.ModelProto, float]:
    shape = [_BATCH, _CHANNELS, _SIDE, _SIDE]
    weights = np.random.default_rng(0).normal(size=(_CHANNELS, _CHANNELS, 3, 3)).astype(np.float32)
    node = helper.make_node("Conv", ["operand", "w"], ["product"], pads=[1, 1, 1, 1], kernel_shape=[3, 3])
    flops = 2.0 * _BATCH * _SIDE * _SIDE * _CHANNELS * _CHANNELS * 9
    return _graph(precision, shape, weights, node), flops


def _gemm(precision: str) -> tuple[onnx.ModelProto, float]:
    weights = np.random.default_rng(0).normal(size=(_GEMM, _GEMM)).astype(np.float32)
    node = helper.make_node("MatMul", ["operand", "w"], ["product"])
    return _graph(precision, [_GEMM, _GEMM], weights, node), 2.0 * _GEMM**3


def _graph(precision: str, shape: list[int], weights: NDArray[np.float32], node: onnx.NodeProto) -> onnx.ModelProto:
    """Return a graph of one operation; in int8, input and output are uint8 and the weights are int8."""
    nodes, constants, element = [node], {"w": weights}, TensorProto.FLOAT
    if precision == "int8":
        element = TensorProto.UINT8
        scale = np.float32(np.abs(weights).max() / 127)
        constants = {
            "wq": np.round(weights / scale).astype(np.int8),
            "ws": np.array(scale),
            "wz": np.array(0, np.int8),
            "s": np.array(0.02, np.float32),
            "z": np.array(128, np.uint8),
        }
        nodes = [
            helper.make_node("DequantizeLinear", ["x", "s", "z"], ["operand"]),
            helper.make_node("DequantizeLinear", ["wq", "ws", "wz"], ["w"]),
            node,
            helper.make_node("QuantizeLinear", ["product", "s", "z"], ["y"]),
        ]
    else:
        node.input[0], node.output[0] = "x", "y"
    graph = helper.make_graph(
        nodes,
        "peak",
        [helper.make_tensor_value_info("x", element, shape)],
        [helper.make_tensor_value_info("y", element, shape)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
