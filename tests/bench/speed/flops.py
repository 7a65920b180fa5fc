"""The number of operations of a graph."""

from pathlib import Path

import onnx
from onnx import shape_inference


def flops_of(graph: Path) -> float:
    """Count the operations of convolutions and matrix products for one face."""
    model = onnx.load(graph)
    first = model.graph.input[0].type.tensor_type.shape.dim[0]
    first.Clear()
    first.dim_value = 1
    inferred = shape_inference.infer_shapes(model).graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*inferred.value_info, *inferred.output, *inferred.input)
    }
    shapes |= {tensor.name: list(tensor.dims) for tensor in inferred.initializer}
    total = 0.0
    for node in inferred.node:
        if node.op_type == "Conv":
            out, weight = shapes[node.output[0]], shapes[node.input[1]]
            total += 2.0 * out[2] * out[3] * weight[0] * weight[1] * weight[2] * weight[3]
        elif node.op_type in ("Gemm", "MatMul"):
            weight = shapes[node.input[1]]
            total += 2.0 * weight[0] * weight[1]
    return total
