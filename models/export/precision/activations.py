"""Measure the activations of a graph on faces, by a run with the tensors of interest as additional outputs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from models.runtime.onnxruntime_engine import PlainGraph
from models.types import Progress, no_progress

BINS = 16384  # of which at least a half covers the values

_BATCH = 8
_SMALLEST = 1e-9  # end of the histogram of a tensor that is always zero

Floats = NDArray[np.float64]


@dataclass(slots=True, eq=False)
class Activation:
    """Statistics of one tensor over all calibration faces.

    Attributes:
        end: End of the histogram, at least `largest` and less than twice of it.
        channel_largest: (C,) largest magnitude of each channel.
        channel_mean: (C,) mean of each channel.
        histogram: (BINS,) counts over [-end, end].
    """

    end: float
    channel_largest: Floats
    channel_mean: Floats
    histogram: NDArray[np.int64]

    @property
    def largest(self) -> float:
        """Largest magnitude of the tensor."""
        return max(float(self.channel_largest.max()), _SMALLEST)

    def centres(self) -> Floats:
        """Return the centre of each bin, (BINS,)."""
        width = 2 * self.end / BINS
        centres: Floats = (np.arange(BINS, dtype=np.float64) + 0.5) * width - self.end
        return centres

    def add(self, array: NDArray[np.float32], share: float) -> None:
        """Add the values of a batch, which is a share of all faces. The histogram grows by halving its resolution."""
        rows = _by_channel(array)
        self.channel_largest = np.maximum(self.channel_largest, np.abs(rows).max(axis=0))
        self.channel_mean += rows.mean(axis=0, dtype=np.float64) * share
        while self.end < self.largest:
            quarter = np.zeros(BINS // 4, np.int64)
            self.histogram = np.concatenate([quarter, self.histogram.reshape(-1, 2).sum(axis=1), quarter])
            self.end *= 2
        bins = ((array.ravel() + np.float32(self.end)) * np.float32(BINS / 2 / self.end)).astype(np.int32)
        self.histogram += np.bincount(np.clip(bins, 0, BINS - 1), minlength=BINS)


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


def measure(
    model: onnx.ModelProto, faces: NDArray[np.uint8], names: Sequence[str], progress: Progress = no_progress
) -> dict[str, Activation]:
    """Measure tensors on faces, in one pass.

    The channel axis is 1 for tensors [N, C, H, W] and the last axis for all others.

    Args:
        model: Float32 graph in the contract of `models.graph`.
        faces: (N, H, W, 3) uint8, RGB.
        names: Names of the tensors.
        progress: Called after each batch with the number of faces done.

    Returns:
        Statistics by tensor name.
    """
    found: dict[str, Activation] = {}
    done = 0
    for arrays in _activations(model, faces, names):
        for name, array in zip(names, arrays, strict=True):
            if name not in found:
                channels = np.zeros(_by_channel(array).shape[1])
                end = max(float(np.abs(array).max()), _SMALLEST)
                found[name] = Activation(end, channels, channels.copy(), np.zeros(BINS, np.int64))
            found[name].add(array, len(array) / len(faces))
        done += len(arrays[0])
        progress("writing int8: measuring the layers' inputs", done, len(faces))
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
