"""Measure the activations of a graph on faces, by a run with the tensors of interest as additional outputs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from models.runtime.onnxruntime_engine import PlainGraph

BINS = 8192

_BATCH = 8

Floats = NDArray[np.float64]


@dataclass(slots=True, eq=False)
class Activation:
    """Statistics of one tensor over all calibration faces.

    Attributes:
        largest: Largest magnitude of the tensor.
        channel_largest: (C,) largest magnitude of each channel.
        channel_mean: (C,) mean of each channel.
        histogram: (BINS,) counts over [-largest, largest].
    """

    largest: float
    channel_largest: Floats
    channel_mean: Floats
    histogram: NDArray[np.int64]

    def centres(self) -> Floats:
        """Return the centre of each bin, (BINS,)."""
        width = 2 * self.largest / BINS
        centres: Floats = (np.arange(BINS, dtype=np.float64) + 0.5) * width - self.largest
        return centres


def largest_magnitudes(model: onnx.ModelProto, faces: NDArray[np.uint8]) -> dict[str, float]:
    """Return the largest magnitude of every float activation, by tensor name.

    Args:
        model: Float32 graph in the contract of `models.graph`.
        faces: (N, H, W, 3) uint8, RGB.
    """
    inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    names = [value.name for value in inferred if value.type.tensor_type.elem_type == TensorProto.FLOAT]
    largest = dict.fromkeys(names, 0.0)
    for arrays in _activations(model, faces, names):
        for name, array in zip(names, arrays, strict=True):
            largest[name] = max(largest[name], float(np.abs(array).max(initial=0.0)))
    return largest


def measure(model: onnx.ModelProto, faces: NDArray[np.uint8], names: Sequence[str]) -> dict[str, Activation]:
    """Measure tensors on faces.

    The first pass finds the largest magnitudes, the second fills the histograms and means. The channel axis is 1 for
    tensors [N, C, H, W] and the last axis for all others.

    Args:
        model: Float32 graph in the contract of `models.graph`.
        faces: (N, H, W, 3) uint8, RGB.
        names: Names of the tensors.

    Returns:
        Statistics by tensor name.
    """
    found: dict[str, Activation] = {}
    for arrays in _activations(model, faces, names):
        for name, array in zip(names, arrays, strict=True):
            channels = np.abs(_by_channel(array)).max(axis=0).astype(np.float64)
            if name in found:
                channels = np.maximum(channels, found[name].channel_largest)
            largest = max(float(channels.max()), 1e-9)
            found[name] = Activation(largest, channels, np.zeros(len(channels)), np.zeros(BINS, np.int64))
    for arrays in _activations(model, faces, names):
        for name, array in zip(names, arrays, strict=True):
            activation, rows = found[name], _by_channel(array)
            bins = ((array.ravel() + activation.largest) * (BINS / 2 / activation.largest)).astype(np.int32)
            activation.histogram += np.bincount(np.clip(bins, 0, BINS - 1), minlength=BINS)
            activation.channel_mean += rows.mean(axis=0, dtype=np.float64) * len(array) / len(faces)
    return found


def _by_channel(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the array as (positions, C)."""
    if array.ndim == 4:
        array = array.transpose(0, 2, 3, 1)
    return array.reshape(-1, array.shape[-1])


def _activations(
    model: onnx.ModelProto, faces: NDArray[np.uint8], names: Sequence[str]
) -> Iterator[list[NDArray[np.float32]]]:
    """Yield the tensors of each batch of faces, in the order of `names`."""
    outputs = {value.name for value in model.graph.output}
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in outputs)
    graph = PlainGraph(exposed.SerializeToString())
    for start in range(0, len(faces), _BATCH):
        yield graph.run(faces[start : start + _BATCH], names)
