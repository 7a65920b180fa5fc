"""The plan of an int8 graph: what was measured on faces, so that the graph can be written without them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from models.errors import ArtefactUnfit
from models.graph.quantize import Floats, Scale, WeightBits, equalize, layers, quantize

_VERSION = 1
_SCALE_DIGITS, _MEAN_DIGITS = 5, 3  # significant digits of stored numbers; a step of int8 is a hundredth


@dataclass(frozen=True, slots=True, eq=False)
class Int8Plan:
    """The layers of a network to quantize, and the ranges of their inputs.

    Tensors and layers have the names of the float32 graph, whose batch-norms are folded.

    Attributes:
        weights: SHA-256 of the published file of the network.
        measured_on: Faces on which the ranges were measured, as a sentence.
        layers: Output names of the layers to compute in int8, in graph order.
        scales: Scale of every tensor that these layers read.
        means: (C,) mean of each channel of these tensors, after equalization.
        channel_largest: (C,) largest magnitude of each channel of the tensors that are equalized.
    """

    weights: str
    measured_on: str
    layers: tuple[str, ...]
    scales: Mapping[str, Scale]
    means: Mapping[str, Floats]
    channel_largest: Mapping[str, Floats]

    def apply(self, model: onnx.ModelProto, weight_bits: WeightBits) -> onnx.ModelProto:
        """Return the int8 graph of a float32 graph.

        Raises:
            ArtefactUnfit: The graph lacks a layer of the plan.
        """
        missing = set(self.layers) - set(layers(model))
        if missing:
            raise ArtefactUnfit(f"the plan of int8 names layers that the network lacks: {', '.join(sorted(missing))}")
        equal = onnx.ModelProto()
        equal.CopyFrom(model)
        equalize(equal, self.channel_largest)
        return quantize(equal, self.scales, self.means, self.layers, weight_bits)

    def write(self, path: Path) -> None:
        """Write the plan as JSON."""
        tensors = {
            name: {
                "scale": _rounded(scale.scale, _SCALE_DIGITS),
                "zero_point": scale.zero_point,
                "signed": scale.signed,
                "mean": [_rounded(mean, _MEAN_DIGITS) for mean in self.means[name].tolist()],
                **({"largest": self._largest(name)} if name in self.channel_largest else {}),
            }
            for name, scale in self.scales.items()
        }
        content: dict[str, Any] = {"version": _VERSION, "weights": self.weights, "measured_on": self.measured_on}
        content |= {"layers": self.layers, "tensors": tensors}
        path.write_text(json.dumps(content, separators=(",", ":")) + "\n")

    def _largest(self, name: str) -> list[float]:
        return [_rounded(value, _SCALE_DIGITS) for value in self.channel_largest[name].tolist()]


def read_plan(path: Path) -> Int8Plan:
    """Read a plan.

    Raises:
        ArtefactUnfit: The file is not a plan of this version.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        if content["version"] != _VERSION:
            raise ValueError(f"version {content['version']} instead of {_VERSION}")
        tensors: dict[str, dict[str, Any]] = content["tensors"]
        return Int8Plan(
            content["weights"],
            content["measured_on"],
            tuple(content["layers"]),
            {name: Scale(item["scale"], item["zero_point"], item["signed"]) for name, item in tensors.items()},
            {name: np.array(item["mean"], np.float64) for name, item in tensors.items()},
            {name: np.array(item["largest"], np.float64) for name, item in tensors.items() if "largest" in item},
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtefactUnfit(f"{path.name} is not a plan of int8: {error}") from error


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")
