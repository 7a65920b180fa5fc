"""The digest of what a graph computes, apart from its weights."""

import onnx
from onnx import TensorProto

from models.artefact.digests import value_digest


def structure_digest(skeleton: onnx.ModelProto) -> str:
    """Return the SHA-256 of a graph's operators, their attributes, the constants, and the names of its weights.

    Names of activations and nodes do not count.

    Args:
        skeleton: A graph whose weights are initializers with external location, and have no values.
    """
    graph = skeleton.graph
    numbers: dict[str, int] = {"": 0}
    named = {tensor.name for tensor in graph.initializer if tensor.data_location == TensorProto.EXTERNAL}
    constants = {tensor.name: tensor for tensor in graph.initializer if tensor.name not in named}

    def term(name: str) -> list[str | int | list[int]]:
        if name in named:
            return [name]
        if name in constants:
            tensor = constants[name]
            return [tensor.data_type, list(tensor.dims), onnx.numpy_helper.to_array(tensor).tobytes().hex()]
        return [numbers.setdefault(name, len(numbers))]

    nodes = [
        [
            node.domain,
            node.op_type,
            sorted(item.SerializeToString(deterministic=True).hex() for item in node.attribute),
            [term(name) for name in node.input],
            [term(name) for name in node.output],
        ]
        for node in graph.node
    ]
    weights = sorted(
        [tensor.name, tensor.data_type, *tensor.dims] for tensor in graph.initializer if tensor.name in named
    )
    functions = [function.SerializeToString(deterministic=True).hex() for function in skeleton.functions]
    return value_digest([nodes, weights, functions, [term(value.name) for value in graph.output]])
