"""Quantize a float32 graph to int8, except the layers that would lose too much accuracy.

The range of each activation minimises the squared error of rounding and clipping on real faces; it is not the largest
value seen. Depthwise layers are equalized, and biases are corrected for the mean error of rounded weights. If all
layers together lose too much, each is measured alone on a few faces. The losses of single layers add up to the loss of
all together, so the worst layers stay in float32 until the rest is within the budget.
"""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from models.embedding import EMBEDDER_OUTPUTS
from models.export.precision.activations import Activation, measure
from models.export.precision.plan import Int8Plan
from models.graph import annotate, save_checked
from models.graph.quantize import (
    LARGEST_INT8,
    Scale,
    WeightBits,
    depthwise_layers,
    equalize,
    equalizing_factors,
    layers,
)
from models.runtime import RuntimeOptions, open_session
from models.runtime.onnxruntime_engine import PlainGraph
from models.types import Progress, no_progress

BUDGET = 0.002  # largest sum of 1 - cosine over all layers
MAX_FLOAT32_SHARE = 0.1  # largest share of layers that stay in float32 to meet the budget

_LOSS_FACES = 24
_RANKING_FACES = 8  # of which the loss of each layer is measured
_TIMED_FACES, _TIMED_ROUNDS = 8, 7
_MAX_TIME_SHARE, _MAX_LOSS_SHARE = 0.95, 0.9  # the CPU variant must be below this share of the other's time or loss

Faces = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Int8Graphs:
    """The outcome of a quantization.

    Attributes:
        kept: Layers that stay in float32, named after their weights.
        cpu: The variant with unsigned activations was better on this machine's CPU and was written.
        comparison: Loss and time of both variants, as a sentence for the user.
    """

    kept: list[str]
    cpu: bool
    comparison: str


def write_int8(
    graph: Path,
    faces: Path,
    target: Path,
    cpu_target: Path,
    notes: Mapping[str, str],
    weight_bits: WeightBits,
    progress: Progress = no_progress,
) -> Int8Graphs:
    """Write the symmetric int8 graph for all engines, and a variant with unsigned activations if it is better on CPUs.

    Args:
        graph: ONNX file of the float32 graph in the contract of `models.graph`.
        faces: `.npy` file, (N, H, W, 3) uint8, RGB; real faces for the calibration.
        target: ONNX file of the symmetric graph.
        cpu_target: ONNX file of the variant. It exists afterwards only if the variant is faster or closer to the
            float32 graph on this machine's CPU.
        notes: Metadata to write into the files.
        weight_bits: 7 for processors on which sums of 8-bit products saturate, see `models.runtime.instructions`.
        progress: Called after each measured layer.

    Returns:
        The layers in float32, and the comparison of both variants.
    """
    model = onnx.load(graph)
    crops = np.load(faces)
    quantizer = Quantizer(model, crops, weight_bits, progress)
    few = crops[:: max(1, len(crops) // _LOSS_FACES)][:_LOSS_FACES]
    chosen = quantizer.choose(few, progress)
    for path, signed in ((target, True), (cpu_target, False)):
        quantized = quantizer.quantized(chosen, signed)
        annotate(quantized, {**notes, "precision": "int8", "weight_bits": str(weight_bits)})
        save_checked(quantized, path)
    in_float32 = [_readable(node) for name, node in layers(model).items() if name not in chosen]
    unsigned_is_better, comparison = _compare(graph, target, cpu_target, few)
    if not unsigned_is_better:
        cpu_target.unlink()
    return Int8Graphs(in_float32, unsigned_is_better, comparison)


class Quantizer:
    """A float32 graph with its measured activations, from which quantized graphs are made."""

    def __init__(
        self,
        model: onnx.ModelProto,
        faces: Faces,
        weight_bits: WeightBits = 8,
        progress: Progress = no_progress,
    ) -> None:
        """Measure the inputs of all layers.

        Args:
            model: Float32 graph in the contract of `models.graph`, with folded batch-norms.
            faces: (N, H, W, 3) uint8, RGB.
            weight_bits: Bits of the quantized weights.
            progress: Called after each batch of faces.
        """
        self._plain, self._weight_bits = model, weight_bits
        inputs = list(dict.fromkeys(node.input[0] for node in layers(model).values()))
        self._measured = measure(model, faces, inputs, progress)
        inner = set(self._inner())
        depthwise = {node.input[0] for node in depthwise_layers(model) if node.output[0] in inner}
        equal = onnx.ModelProto()
        equal.CopyFrom(model)
        self._limits = equalize(equal, {name: self._measured[name].channel_largest for name in depthwise})
        self._equalized = {node.output[0] for node in depthwise_layers(model) if node.input[0] in self._limits}

    def choose(self, faces: Faces, progress: Progress = no_progress) -> set[str]:
        """Return the layers to compute in int8, by the name of their output.

        The first and the last layer stay in float32. If the loss of all others together exceeds the budget, each is
        measured alone, and those with the greatest losses, at most a tenth of the layers, stay in float32 too.

        Args:
            faces: (N, H, W, 3) uint8, RGB; a few of the calibration faces.
            progress: Called after each measured layer.
        """
        candidates = self._inner()
        excess = _loss(_embed(self._plain, faces), _embed(self.quantized(candidates, signed=True), faces)) - BUDGET
        if excess <= 0:
            return set(candidates)
        # equalized layers are always quantized: 8-bit saturation replaces their clip, and their loss is negligible
        measured = [name for name in candidates if name not in self._equalized]
        few = faces[:: max(1, len(faces) // _RANKING_FACES)][:_RANKING_FACES]
        reference, losses = _embed(self._plain, few), {}
        for done, name in enumerate(measured, start=1):
            losses[name] = _loss(reference, _embed(self.quantized([name], signed=True), few))
            progress("writing int8: measuring the loss of each layer", done, len(measured))
        in_float32 = set[str]()
        for name in sorted(losses, key=losses.__getitem__, reverse=True)[: int(len(candidates) * MAX_FLOAT32_SHARE)]:
            if excess <= 0:
                break
            excess -= losses[name]
            in_float32.add(name)
        return set(candidates) - in_float32

    def quantized(self, chosen: Collection[str], signed: bool) -> onnx.ModelProto:
        """Return the graph with the chosen layers in int8.

        Args:
            chosen: Names of the layers' outputs.
            signed: Use int8 activations, else uint8 activations.
        """
        return self.plan(chosen, signed).apply(self._plain, self._weight_bits)

    def plan(self, chosen: Collection[str], signed: bool, weights: str = "", measured_on: str = "") -> Int8Plan:
        """Return what `quantized` needs besides the float32 graph.

        Args:
            chosen: Names of the layers' outputs.
            signed: Use int8 activations, else uint8 activations.
            weights: SHA-256 of the network's file, for a plan that is stored.
            measured_on: Description of the faces, for a plan that is stored.
        """
        found = {name: layer for name, layer in layers(self._plain).items() if name in chosen}
        read = dict.fromkeys(str(layer.input[0]) for layer in found.values())
        equal = {name: self._measured[name].channel_largest for name in read if name in self._limits}
        means = {name: self._measured[name].channel_mean for name in read}
        means |= {name: means[name] / equalizing_factors(largest) for name, largest in equal.items()}
        return Int8Plan(
            weights, measured_on, tuple(found), {name: self._scale(name, signed) for name in read}, means, equal
        )

    def _scale(self, name: str, signed: bool) -> Scale:
        if name in self._limits:
            return _fixed_scale(self._limits[name], signed, self._plain, name)
        return _scale(self._measured[name], signed)

    def _inner(self) -> list[str]:
        """Return the names of all layers but the first and the last, which stay in float32."""
        return list(layers(self._plain))[1:-1]


def _readable(layer: onnx.NodeProto) -> str:
    """Return the layer's name in the checkpoint if its weights still have that name, else the name of its output."""
    weights = str(layer.input[1])
    return weights.removesuffix(".weight") if weights.endswith(".weight") else str(layer.output[0])


def _scale(activation: Activation, signed: bool) -> Scale:
    """Return the scale with the least squared error of rounding and clipping."""
    centres, counts = activation.centres(), activation.histogram
    used = counts > 0
    centres, counts = centres[used], counts[used]
    if signed:
        ends = activation.largest * np.geomspace(0.05, 1, 160)
        return min(
            (Scale(end / LARGEST_INT8) for end in ends), key=lambda scale: _squared_error(centres, counts, scale)
        )
    low, high = min(0.0, float(centres[0])), max(0.0, float(centres[-1]))
    shares = np.geomspace(0.2, 1, 14)
    options = [
        _unsigned(low * a, high * b) for a in (shares if low < 0 else [1.0]) for b in (shares if high > 0 else [1.0])
    ]
    return min(options, key=lambda scale: _squared_error(centres, counts, scale))


def _fixed_scale(limit: float, signed: bool, model: onnx.ModelProto, name: str) -> Scale:
    """Return the scale of an equalized layer's input, which clips at a fixed limit; only PReLU goes below zero."""
    if signed:
        return Scale(limit / LARGEST_INT8)
    writer = next(node for node in model.graph.node if name in node.output)
    return _unsigned(-limit if writer.op_type == "PRelu" else 0.0, limit)


def _unsigned(low: float, high: float) -> Scale:
    step = max(high - low, 1e-9) / 255
    return Scale(step, int(np.clip(round(-low / step), 0, 255)), signed=False)


def _squared_error(centres: NDArray[np.float64], counts: NDArray[np.int64], scale: Scale) -> float:
    low, high = (-LARGEST_INT8, LARGEST_INT8) if scale.signed else (0, 255)
    stored = np.clip(np.rint(centres / scale.scale) + scale.zero_point, low, high)
    return float((counts * ((stored - scale.zero_point) * scale.scale - centres) ** 2).sum())


def _embed(model: onnx.ModelProto, faces: Faces) -> NDArray[np.float32]:
    """Embed faces in exact arithmetic, because the processor that serves need not be the one of the export."""
    (embeddings,) = PlainGraph(model.SerializeToString(), exact=True).run(faces, ["embedding"])
    return embeddings


def _loss(reference: NDArray[np.float32], candidate: NDArray[np.float32]) -> float:
    return float(1 - (reference * candidate).sum(axis=1).mean())


def _compare(graph: Path, signed: Path, unsigned: Path, faces: Faces) -> tuple[bool, str]:
    """Return whether the unsigned variant is faster or closer on this machine's CPU, and a sentence about both."""
    reference = _embed(onnx.load(graph), faces)
    losses, milliseconds = [], _time_both([signed, unsigned], faces[:_TIMED_FACES])
    for path in (signed, unsigned):
        losses.append(_loss(reference, _embed(onnx.load(path), faces)))
    better = milliseconds[1] < _MAX_TIME_SHARE * milliseconds[0] or losses[1] < _MAX_LOSS_SHARE * losses[0]
    comparison = (
        f"int8 activations lose {losses[0]:.5f} of cosine and take {milliseconds[0]:.1f} ms for {_TIMED_FACES} faces; "
        f"uint8 activations lose {losses[1]:.5f} and take {milliseconds[1]:.1f} ms"
    )
    return better, comparison


def _time_both(graphs: list[Path], faces: Faces) -> list[float]:
    """Return the median milliseconds of each graph, on the engine that serves on CPUs and in interleaved rounds."""
    options = RuntimeOptions(precision="int8")
    sessions = [open_session(path, EMBEDDER_OUTPUTS, (faces.shape[1:3],), options) for path in graphs]
    spent: list[list[float]] = [[] for _ in graphs]
    for number in range(_TIMED_ROUNDS + 1):
        for session, times in zip(sessions, spent, strict=True):
            start = time.perf_counter()
            session.run(faces)
            if number:  # round 0 warms up
                times.append((time.perf_counter() - start) * 1000)
    return [float(np.median(times)) for times in spent]
