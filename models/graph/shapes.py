"""The shapes and element types of a graph's tensors, as far as ONNX can infer them."""

from collections.abc import Iterator

import onnx

Shape = tuple[int | str, ...]


def infer_shapes(model: onnx.ModelProto) -> dict[str, Shape]:
    """Return the shapes of inputs, activations and outputs by name; a size that is not known is a text.

    Tensors of unknown rank are missing.
    """
    return {value.name: _shape(value) for value in _inferred(model) if value.type.tensor_type.HasField("shape")}


def infer_types(model: onnx.ModelProto) -> dict[str, int]:
    """Return the element types of inputs, activations and outputs by name."""
    return {value.name: value.type.tensor_type.elem_type for value in _inferred(model)}


def annotate_shapes(model: onnx.ModelProto) -> None:
    """Replace the annotations of activations by inferred ones; those of the file may be of another size."""
    inferred = list(_inferred(model))[len(model.graph.input) :]
    outputs = {value.name for value in model.graph.output}
    del model.graph.value_info[:]
    model.graph.value_info.extend(value for value in inferred if value.name not in outputs)


def _inferred(model: onnx.ModelProto) -> Iterator[onnx.ValueInfoProto]:
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    for value in bare.graph.output:  # a wrong annotation would contradict the inferred shape
        value.type.tensor_type.ClearField("shape")
    try:
        graph = onnx.shape_inference.infer_shapes(bare, data_prop=True).graph
    except Exception:  # it raises many classes for graphs that engines run nevertheless
        graph = bare.graph
    yield from (*graph.input, *graph.value_info, *graph.output)


def _shape(value: onnx.ValueInfoProto) -> Shape:
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in dims)
