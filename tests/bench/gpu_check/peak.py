"""The card's measured matrix rate: a chain of convolutions and one of matrix products in ONNX Runtime.

The input is one row that is added to a constant, and the output is one number, so that nothing else is transferred.
"""

import time
from statistics import median

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from models.runtime.cuda_libraries import preload
from models.runtime.session import Device

_ROUNDS = 5
_KINDS = {"fp32": (TensorProto.FLOAT, np.float32), "fp16": (TensorProto.FLOAT16, np.float16)}


def measure_peak(device: Device, seconds: float, gemm: int = 8192, links: int = 32) -> dict[str, float]:
    """Return the higher rate of both chains by precision, in operations per second; 0 where none runs.

    Args:
        device: Device that computes.
        seconds: Time to measure each chain.
        gemm: Rows and columns of the matrices; the convolutions have 256 channels, as most of r50 and r100.
        links: Number of operations of a chain.
    """
    rates = {"fp32": 0.0, "fp16": 0.0} if device == "cpu" else {"fp32": 0.0, "tf32": 0.0, "fp16": 0.0}
    for precision in rates:
        kind = "fp16" if precision == "fp16" else "fp32"
        for model, flops in (_products(kind, gemm, links), _convolutions(kind, max(1, gemm // 64), links)):
            rates[precision] = max(rates[precision], _rate(model, flops, precision, device, seconds))
    return rates


def _rate(model: ModelProto, flops: float, precision: str, device: Device, seconds: float) -> float:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # which would fold the chain
    providers = ["CPUExecutionProvider"]
    if device == "cuda":
        preload(ort)
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        cuda = {"use_tf32": "1" if precision == "tf32" else "0", "cudnn_conv_algo_search": "HEURISTIC"}
        providers = [("CUDAExecutionProvider", cuda)]  # type: ignore[list-item]
    session = ort.InferenceSession(model.SerializeToString(), options, providers=providers, enable_fallback=0)
    port = session.get_inputs()[0]
    feed = {port.name: np.zeros(port.shape, np.float16 if "16" in port.type else np.float32)}
    session.run(None, feed)
    found = []
    for _ in range(_ROUNDS):
        count, start = 0, time.perf_counter()
        while not count or time.perf_counter() - start < seconds / _ROUNDS:
            session.run(None, feed)
            count += 1
        found.append(count * flops / (time.perf_counter() - start))
    return median(found)


def _products(kind: str, size: int, links: int) -> tuple[ModelProto, float]:
    weights = np.random.default_rng(0).standard_normal((size, size), np.float32) / np.sqrt(size)
    nodes = [
        helper.make_node("MatMul", [f"x{link}", "w"], [f"x{link + 1}"]) for link in range(links)
    ]  # a factor of the root of the size keeps the values in the range of float16
    return _graph(kind, nodes, weights, weights, [1, size]), 2.0 * size**3 * links


def _convolutions(kind: str, batch: int, links: int) -> tuple[ModelProto, float]:
    channels, side = 256, 14
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((channels, channels, 3, 3), np.float32) / np.sqrt(9 * channels)
    start = rng.standard_normal((batch, channels, side, side), np.float32)
    nodes = [
        helper.make_node("Conv", [f"x{link}", "w"], [f"x{link + 1}"], pads=[1, 1, 1, 1], kernel_shape=[3, 3])
        for link in range(links)
    ]
    flops = 2.0 * batch * side * side * channels * channels * 9 * links
    return _graph(kind, nodes, start, weights, [1, 1, 1, side]), flops


def _graph(
    kind: str, nodes: list[NodeProto], start: NDArray[np.float32], weights: NDArray[np.float32], row: list[int]
) -> ModelProto:
    element, dtype = _KINDS[kind]
    last = f"x{len(nodes)}"
    axes = numpy_helper.from_array(np.arange(start.ndim, dtype=np.int64), "axes")
    constants = [
        numpy_helper.from_array(array.astype(dtype), name) for name, array in (("start", start), ("w", weights))
    ]
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["start", "row"], ["x0"]),
            *nodes,
            helper.make_node("ReduceMax", [last, "axes"], ["y"], keepdims=0),
        ],
        "peak",
        [helper.make_tensor_value_info("row", element, row)],
        [helper.make_tensor_value_info("y", element, [])],
        [*constants, axes],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
