"""The weights of a graph: small ones in it, large ones in a dict beside it until the file is written.

A protobuf message keeps whatever was put into it until it is discarded as a whole, so every change of a large weight
would add a copy. In the dict each weight exists once.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

Array = NDArray[Any]
Outside = dict[str, Array]

MAX_FILE_BYTES = 2**31 - 2**20  # of one protobuf message, with room for the graph

_SMALL_BYTES = 2**16


class Weights:
    """Reads and writes the weights of a graph, wherever they lie."""

    def __init__(self, graph: onnx.GraphProto, outside: Outside | None) -> None:
        """Wrap a graph.

        Args:
            graph: Its initializers of external location lie in `outside`.
            outside: Large weights by name; None if all are in the graph.
        """
        self._graph = graph
        self._outside = outside
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __getitem__(self, name: str) -> Array:
        tensor = self._tensors[name]
        if tensor.data_location == TensorProto.EXTERNAL:
            return (self._outside or {})[name]
        array: Array = numpy_helper.to_array(tensor)
        return array

    def __setitem__(self, name: str, array: Array) -> None:
        tensor = self._tensors.get(name)
        if tensor is None:
            tensor = self._graph.initializer.add()
            self._tensors[name] = tensor
        if self._outside is None or array.nbytes <= _SMALL_BYTES:
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))
        else:
            self._outside[name] = array
            tensor.CopyFrom(_hollow(name, array))


def fill(skeleton: onnx.ModelProto, weights: Mapping[str, Array]) -> Outside:
    """Give a graph that only names its weights the small ones, and return the large ones.

    Args:
        skeleton: Initializers of external location are filled, in place.
        weights: By key, floating point of any width; they become float32.
    """
    outside: Outside = {}
    wrapped = Weights(skeleton.graph, outside)
    for tensor in list(skeleton.graph.initializer):
        if tensor.data_location == TensorProto.EXTERNAL:
            array = weights[tensor.name]
            wrapped[tensor.name] = (
                array.astype(np.float32, copy=False) if tensor.data_type == TensorProto.FLOAT else array
            )
    return outside


def write(model: onnx.ModelProto, path: Path, outside: Outside | None = None) -> None:
    """Write a graph with its weights: one ONNX file, or two if that would exceed what a protobuf message can hold.

    Args:
        model: Its initializers of external location are in `outside`.
        path: File to write; the weights of a larger graph are written beside it, as `path` with the suffix `.data`.
        outside: Large weights by name.
    """
    if not outside:
        onnx.save(model, path)
        return
    import onnx_ir  # of the extra `export`; packs, whose weights are all in the graph, do without it

    graph = onnx_ir.from_proto(model)
    size = model.ByteSize()
    for name, value in graph.graph.initializers.items():
        if name in outside:  # which may still hold weights that a later step replaced
            value.const_value = onnx_ir.Tensor(outside[name], name=name)
            size += outside[name].nbytes
    onnx_ir.save(graph, path, external_data=weights_file(path).name if size > MAX_FILE_BYTES else None)


def weights_file(graph: Path) -> Path:
    """Return the file beside a graph that holds its weights if they do not fit into it."""
    return graph.with_name(f"{graph.name}.data")


def _hollow(name: str, array: Array) -> onnx.TensorProto:
    kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    return TensorProto(name=name, dims=array.shape, data_type=kind, data_location=TensorProto.EXTERNAL)
