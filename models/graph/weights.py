"""Access to the weights of a graph; large ones stay in a dict outside the graph until the file is written.

A protobuf message releases none of its memory before the whole message is discarded, so every change of a large weight
would add a copy. The dict holds each weight once.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

Array = NDArray[Any]
ExternalWeights = dict[str, Array]

MAX_FILE_BYTES = 2**31 - 2**20  # the limit of one protobuf message, less room for the graph

_SMALL_BYTES = 2**16


class Weights:
    """The weights of a graph by name, both inside and outside the graph."""

    def __init__(self, graph: onnx.GraphProto, external: ExternalWeights | None) -> None:
        """Wrap a graph.

        Args:
            graph: The graph; `external` holds its initializers of external location.
            external: Large weights by name; None if all weights are in the graph.
        """
        self._graph = graph
        self._external = external
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __getitem__(self, name: str) -> Array:
        tensor = self._tensors[name]
        if tensor.data_location == TensorProto.EXTERNAL:
            return (self._external or {})[name]
        array: Array = numpy_helper.to_array(tensor)
        return array

    def __setitem__(self, name: str, array: Array) -> None:
        tensor = self._tensors.get(name)
        if tensor is None:
            tensor = self._graph.initializer.add()
            self._tensors[name] = tensor
        if self._external is None or array.nbytes <= _SMALL_BYTES:
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))
        else:
            self._external[name] = array
            tensor.CopyFrom(_external_tensor(name, array))


def fill_weights(skeleton: onnx.ModelProto, weights: Mapping[str, Array]) -> ExternalWeights:
    """Fill in the weights of a graph that only names them: small ones in place, large ones in the returned dict.

    Args:
        skeleton: The model whose initializers of external location are filled, in place.
        weights: The weights by key. Floating-point weights of any width become float32.
    """
    external: ExternalWeights = {}
    wrapped = Weights(skeleton.graph, external)
    for tensor in list(skeleton.graph.initializer):
        if tensor.data_location == TensorProto.EXTERNAL:
            array = weights[tensor.name]
            wrapped[tensor.name] = (
                array.astype(np.float32, copy=False) if tensor.data_type == TensorProto.FLOAT else array
            )
    return external


def write(model: onnx.ModelProto, path: Path, external: ExternalWeights | None = None) -> None:
    """Write a graph with its weights: one ONNX file, or two if one would exceed the limit of a protobuf message.

    Args:
        model: The model; `external` holds its initializers of external location.
        path: File to write. The weights of a larger graph go into a second file next to it, `path` with `.data`
            appended.
        external: Large weights by name.
    """
    if not external:
        onnx.save(model, path)
        return
    import onnx_ir  # part of the extra `export`; not needed for packs, whose weights are all in the graph

    graph = onnx_ir.from_proto(model)
    size = model.ByteSize()
    for name, value in graph.graph.initializers.items():
        if name in external:  # `external` may also hold weights that a later step has replaced
            value.const_value = onnx_ir.Tensor(external[name], name=name)
            size += external[name].nbytes
    onnx_ir.save(graph, path, external_data=weights_file(path).name if size > MAX_FILE_BYTES else None)


def weights_file(graph: Path) -> Path:
    """Return the path of the second file, which holds a graph's weights if they do not fit into the first."""
    return graph.with_name(f"{graph.name}.data")


def _external_tensor(name: str, array: Array) -> onnx.TensorProto:
    kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    return TensorProto(name=name, dims=array.shape, data_type=kind, data_location=TensorProto.EXTERNAL)
