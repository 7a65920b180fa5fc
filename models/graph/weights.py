"""The weights of a graph: small ones in it, large ones beside it until the file is written.

A protobuf message keeps what was ever put into it until it is thrown away as a whole, and writing it makes another
copy. A graph of 260 MB costs a gigabyte that way. Beside the graph, each weight exists once.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

Array = NDArray[Any]
Outside = dict[str, Array]

_SMALL_BYTES = 2**16
_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9  # field numbers in onnx.proto, of ModelProto, GraphProto and TensorProto
_LENGTH_DELIMITED = 2


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
    """Write a graph with its weights as one ordinary ONNX file, without putting them together in memory first.

    Args:
        model: Its initializers of external location lie in `outside`.
        path: File to write.
        outside: Large weights by name.
    """
    frame = _without_initializers(model)
    graph = frame.graph.SerializeToString()
    frame.ClearField("graph")
    pieces = [_initializer(tensor, outside or {}) for tensor in model.graph.initializer]
    length = len(graph) + sum(len(head) + len(body) for head, body in pieces)
    with path.open("wb") as stream:
        stream.write(frame.SerializeToString())
        stream.write(_tag(_GRAPH) + _varint(length))
        stream.write(graph)
        for head, body in pieces:
            stream.write(head)
            stream.write(body)


def _without_initializers(model: onnx.ModelProto) -> onnx.ModelProto:
    frame = onnx.ModelProto()
    for field, value in model.ListFields():
        if field.name != "graph":
            _assign(frame, field.name, value)
    for field, value in model.graph.ListFields():
        if field.name != "initializer":
            _assign(frame.graph, field.name, value)
    return frame


def _assign(message: Any, name: str, value: Any) -> None:
    if isinstance(value, str | int | bytes):
        setattr(message, name, value)
    else:
        getattr(message, name).MergeFrom(value)


def _initializer(tensor: onnx.TensorProto, outside: Outside) -> tuple[bytes, memoryview]:
    """Return what stands before a weight's bytes in the file, and the bytes."""
    if tensor.data_location != TensorProto.EXTERNAL:
        whole = tensor.SerializeToString()
        return _tag(_INITIALIZER) + _varint(len(whole)), memoryview(whole)
    array = np.ascontiguousarray(outside[tensor.name])
    head = _hollow(tensor.name, array)
    head.ClearField("data_location")
    start = head.SerializeToString() + _tag(_RAW_DATA) + _varint(array.nbytes)
    return _tag(_INITIALIZER) + _varint(len(start) + array.nbytes) + start, array.data.cast("B")


def _hollow(name: str, array: Array) -> onnx.TensorProto:
    kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    return TensorProto(name=name, dims=array.shape, data_type=kind, data_location=TensorProto.EXTERNAL)


def _tag(field: int) -> bytes:
    return _varint(field << 3 | _LENGTH_DELIMITED)


def _varint(number: int) -> bytes:
    return bytes(_groups(number))


def _groups(number: int) -> Iterator[int]:
    while number > 0x7F:
        yield number & 0x7F | 0x80
        number >>= 7
    yield number
