"""Choose what int8 costs nothing and keep the rest: ranges from real faces, layers by measuring each.

Ranges are those of least squared error of the rounding, not the largest value seen; depthwise layers are equalized, and
biases corrected for what rounding the weights does on average. What single layers cost adds up to what all cost
together, so each is measured alone on a few faces, and the worst stay as they are until the sum fits the budget.
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
from models.graph import annotate, save_checked
from models.graph.quantize import LARGEST_INT8, Scale, depthwise_layers, equalize, layers, quantize
from models.runtime import RuntimeOptions, open_session
from models.runtime.onnxruntime_engine import PlainGraph
from models.types import Progress, no_progress

BUDGET = 0.002  # of 1 - cosine, over all layers together
MAX_KEPT = 0.1  # share of the layers that may stay in higher precision for the budget's sake

_SENSITIVITY_FACES = 24
_TIMED_FACES, _TIMED_ROUNDS = 8, 7
_WORTH_FASTER, _WORTH_CLOSER = 0.95, 0.9  # the variant for CPUs must take or lose less than that of the other

Faces = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Int8Graphs:
    """What was written.

    Attributes:
        kept: Layers in higher precision, by the name of their weights.
        cpu: Whether the variant with unsigned activations was worth keeping.
        comparison: How the two compare, for people.
    """

    kept: list[str]
    cpu: bool
    comparison: str


def write_int8(
    graph: Path, faces: Path, target: Path, cpu_target: Path, notes: Mapping[str, str], progress: Progress = no_progress
) -> Int8Graphs:
    """Write the int8 graph that every engine runs, and the variant with unsigned activations if it is better on CPUs.

    Args:
        graph: In float32, in the contract of `models.graph`.
        faces: `.npy` file, (N, H, W, 3) uint8, RGB; real ones.
        target: File of the symmetric graph.
        cpu_target: File of the variant, which is there afterwards only if it is worth it.
        notes: Written into the files.
        progress: Called after each layer was measured.
    """
    model = onnx.load(graph)
    crops = np.load(faces)
    quantizer = Quantizer(model, crops)
    chosen = quantizer.choose(crops[:: max(1, len(crops) // _SENSITIVITY_FACES)][:_SENSITIVITY_FACES], progress)
    for path, signed in ((target, True), (cpu_target, False)):
        quantized = quantizer.quantized(chosen, signed)
        annotate(quantized, {**notes, "precision": "int8"})
        save_checked(quantized, path)
    kept = [_readable(node) for name, node in layers(model).items() if name not in chosen]
    worth, comparison = _compare(graph, target, cpu_target, crops[:64])
    if not worth:
        cpu_target.unlink()
    return Int8Graphs(kept, worth, comparison)


class Quantizer:
    """A float32 graph, what its activations look like, and the graphs that follow."""

    def __init__(self, model: onnx.ModelProto, faces: Faces) -> None:
        """Measure the activations on (N, H, W, 3) uint8 faces, before and after depthwise layers are equalized."""
        self._plain = model
        read = list(dict.fromkeys(node.input[0] for node in layers(model).values()))
        plain = measure(model, faces, read)
        self._equal = onnx.ModelProto()
        self._equal.CopyFrom(model)
        inner = set(self._inner())
        depthwise = {node.input[0] for node in depthwise_layers(model) if node.output[0] in inner}
        ends = equalize(self._equal, {name: plain[name].channel_largest for name in depthwise})
        equal = measure(self._equal, faces, read) if ends else plain
        self._means = {name: activation.channel_mean for name, activation in equal.items()}
        self._plain_means = {name: activation.channel_mean for name, activation in plain.items()}
        self._scales = {
            signed: {
                name: _range(ends[name], signed, self._equal, name) if name in ends else _scale(activation, signed)
                for name, activation in equal.items()
            }
            for signed in (True, False)
        }
        self._plain_scales = {name: _scale(activation, signed=True) for name, activation in plain.items()}
        self._equalized = {node.output[0] for node in depthwise_layers(model) if node.input[0] in ends}

    def choose(self, faces: Faces, progress: Progress = no_progress) -> set[str]:
        """Choose the layers that int8 computes: not the first and the last, nor those that cost too much.

        Args:
            faces: A few of the calibration faces.
            progress: Called after each layer was measured.
        """
        candidates = self._inner()
        reference = _embed(self._plain, faces)
        # what is equalized stays: its saturation stands for a clip, and it costs next to nothing now
        measured = [name for name in candidates if name not in self._equalized]
        losses = {}
        for done, name in enumerate(measured, start=1):
            losses[name] = _loss(reference, _embed(self._alone(name), faces))
            progress("writing int8: measuring what each layer costs", done, len(measured))
        worst = sorted(losses, key=losses.__getitem__, reverse=True)
        total, kept = sum(losses.values()), set[str]()
        for name in worst[: int(len(candidates) * MAX_KEPT)]:
            if total <= BUDGET:
                break
            total -= losses[name]
            kept.add(name)
        return set(candidates) - kept

    def quantized(self, chosen: Collection[str], signed: bool) -> onnx.ModelProto:
        """Return the graph with the chosen layers in int8, with int8 activations or with uint8 ones."""
        return quantize(self._equal, self._scales[signed], self._means, chosen)

    def _inner(self) -> list[str]:
        """List all layers but the first and the last, which stay as they are."""
        return list(layers(self._plain))[1:-1]

    def _alone(self, name: str) -> onnx.ModelProto:
        return quantize(self._plain, self._plain_scales, self._plain_means, {name})


def _readable(layer: onnx.NodeProto) -> str:
    """Name a layer as its checkpoint does, where its weights still bear that name."""
    weights = str(layer.input[1])
    return weights.removesuffix(".weight") if weights.endswith(".weight") else str(layer.output[0])


def _scale(activation: Activation, signed: bool) -> Scale:
    """Find the range whose rounding and clipping cost the least squared error."""
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


def _range(end: float, signed: bool, model: onnx.ModelProto, name: str) -> Scale:
    """Make the scale of what an equalized layer reads: its end is fixed, and PReLU lets values below zero pass."""
    if signed:
        return Scale(end / LARGEST_INT8)
    writer = next(node for node in model.graph.node if name in node.output)
    return _unsigned(-end if writer.op_type == "PRelu" else 0.0, end)


def _unsigned(low: float, high: float) -> Scale:
    step = max(high - low, 1e-9) / 255
    return Scale(step, int(np.clip(round(-low / step), 0, 255)), signed=False)


def _squared_error(centres: NDArray[np.float64], counts: NDArray[np.int64], scale: Scale) -> float:
    low, high = (-LARGEST_INT8, LARGEST_INT8) if scale.signed else (0, 255)
    stored = np.clip(np.rint(centres / scale.scale) + scale.zero_point, low, high)
    return float((counts * ((stored - scale.zero_point) * scale.scale - centres) ** 2).sum())


def _embed(model: onnx.ModelProto, faces: Faces) -> NDArray[np.float32]:
    (embeddings,) = PlainGraph(model.SerializeToString()).run(faces, ["embedding"])
    return embeddings


def _loss(reference: NDArray[np.float32], candidate: NDArray[np.float32]) -> float:
    return float(1 - (reference * candidate).sum(axis=1).mean())


def _compare(graph: Path, signed: Path, unsigned: Path, faces: Faces) -> tuple[bool, str]:
    """Say whether the unsigned variant is faster or closer on this machine's CPU, and how they compare."""
    reference = _embed(onnx.load(graph), faces)
    losses, milliseconds = [], _time_both([signed, unsigned], faces[:_TIMED_FACES])
    for path in (signed, unsigned):
        losses.append(_loss(reference, _embed(onnx.load(path), faces)))
    worth = milliseconds[1] < _WORTH_FASTER * milliseconds[0] or losses[1] < _WORTH_CLOSER * losses[0]
    comparison = (
        f"int8 activations lose {losses[0]:.5f} of cosine and take {milliseconds[0]:.1f} ms for {_TIMED_FACES} faces, "
        f"uint8 ones {losses[1]:.5f} and {milliseconds[1]:.1f} ms"
    )
    return worth, comparison


def _time_both(graphs: list[Path], faces: Faces) -> list[float]:
    """Return the median milliseconds of each graph in the engine that serves on CPUs, in interleaved rounds."""
    options = RuntimeOptions(precision="int8")
    sessions = [open_session(path, EMBEDDER_OUTPUTS, (faces.shape[1:3],), options) for path in graphs]
    spent: list[list[float]] = [[] for _ in graphs]
    for number in range(_TIMED_ROUNDS + 1):
        for session, times in zip(sessions, spent, strict=True):
            start = time.perf_counter()
            session.run(faces)
            if number:  # the first round warms up
                times.append((time.perf_counter() - start) * 1000)
    return [float(np.median(times)) for times in spent]
