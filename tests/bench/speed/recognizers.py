"""Faces per second by network, engine and precision, compared with insightface's `ArcFaceONNX` on the same network."""

import time
from collections.abc import Callable, Iterable
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.embedding import EMBEDDER_OUTPUTS
from models.runtime import RuntimeOptions, open_session, usable_cores
from models.runtime.openvino_engine import has_bf16
from tests.bench.speed.matrix import Peak
from tests.bench.speed.networks import SIDE, Network

BATCHES = (1, 2, 4, 8, 16)

_ROUNDS = 5
_SECONDS = 0.5
_INSIGHTFACE = "insightface ArcFaceONNX"

Run = Callable[[NDArray[np.uint8]], object]


class Speed(NamedTuple):
    """The measured speed of a network in one engine and precision.

    Attributes:
        network: Name of the network.
        way: Name of the engine, or `insightface ArcFaceONNX`.
        precision: Precision of the computation.
        rates: Faces per second by batch size; medians of interleaved rounds.
        against: Speed relative to `ArcFaceONNX` at batch size 8, or to OpenVINO in float32 at batch size 16 if
            `ArcFaceONNX` is missing.
        share: Share of the machine's matrix rate in that precision, at the best batch size.
        kept: Number of layers that an int8 graph leaves in higher precision.
    """

    network: str
    way: str
    precision: str
    rates: dict[int, float]
    against: float
    share: float
    kept: int | None


def measure_networks(networks: Iterable[Network], peak: Peak, tell: Callable[[str], None]) -> list[Speed]:
    """Measure the networks one after another."""
    found: list[Speed] = []
    for network in networks:
        tell(f"timing {network.name}")
        found += _measure(network, peak)
    return found


def _measure(network: Network, peak: Peak) -> list[Speed]:
    ways = _ways(network)
    faces = np.random.default_rng(0).integers(0, 256, (max(BATCHES), *_size(network), 3), np.uint8)
    rates: dict[tuple[str, str, int], list[float]] = {}
    for _ in range(_ROUNDS):
        for (way, precision), run in ways.items():
            for batch in BATCHES:
                run(faces[:batch])  # warm-up: the threads of the previous engine may still spin
                count, start = 0, time.perf_counter()
                while not count or time.perf_counter() - start < _SECONDS / len(BATCHES):
                    run(faces[:batch])
                    count += 1
                rates.setdefault((way, precision, batch), []).append(count * batch / (time.perf_counter() - start))
    medians = {key: median(values) for key, values in rates.items()}
    baseline = medians.get((_INSIGHTFACE, "fp32", 8))
    return [
        Speed(
            network.name,
            way,
            precision,
            {batch: round(medians[way, precision, batch], 1) for batch in BATCHES},
            medians[way, precision, 8] / baseline
            if baseline
            else medians[way, precision, 16] / medians["OpenVINO", "fp32", 16],
            max(medians[way, precision, batch] for batch in BATCHES) * network.flops / peak.of(precision),
            network.kept.get(precision),
        )
        for way, precision in ways
    ]


def _ways(network: Network) -> dict[tuple[str, str], Run]:
    """Return a callable by engine and precision: `ArcFaceONNX`, then sessions of one stream over all cores."""
    ways: dict[tuple[str, str], Run] = {}
    if network.insightface is not None:
        from insightface.model_zoo.arcface_onnx import ArcFaceONNX

        baseline: Any = ArcFaceONNX(model_file=str(network.insightface))
        baseline.prepare(ctx_id=-1)
        ways[_INSIGHTFACE, "fp32"] = lambda faces: baseline.get_feat(list(faces))
    cores, size = usable_cores(), _size(network)
    runs = [("onnxruntime", "fp32", "fp32"), ("openvino", "fp32", "fp32")]
    runs += [("openvino", "bf16", "fp32")] if has_bf16() else []
    runs += [("openvino", kind, kind) for kind in ("int8", "int8-cpu") if kind in network.graphs]
    for engine, label, kind in runs:
        precision = label.partition("-")[0]
        options = RuntimeOptions(engine, "cpu", precision, cores)  # type: ignore[arg-type]
        session = open_session(network.graphs[kind], EMBEDDER_OUTPUTS, (size,), options)
        ways["OpenVINO" if engine == "openvino" else "ONNX Runtime", label] = session.run
    return ways


def _size(network: Network) -> tuple[int, int]:
    return (SIDE, 96) if network.name.endswith("112x96") else (SIDE, SIDE)
