"""Graphs whose weights lie elsewhere: the structure is small, the weights come in once, at the end."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto


def fill(skeleton: onnx.ModelProto, weights: Mapping[str, NDArray[Any]], prefix: str = "") -> None:
    """Put weights into a graph that only names them, in place.

    Args:
        skeleton: Initializers of external location are filled.
        weights: By key, floating point of any width; they become float32.
        prefix: What stands before the keys in the graph.
    """
    for tensor in skeleton.graph.initializer:
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        array = weights[tensor.name.removeprefix(prefix)]
        if tensor.data_type == TensorProto.FLOAT:
            array = array.astype(np.float32, copy=False)
        tensor.ClearField("external_data")
        tensor.data_location = TensorProto.DEFAULT
        tensor.raw_data = array.tobytes()
