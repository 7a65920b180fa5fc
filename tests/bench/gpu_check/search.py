"""Search of a gallery with FAISS on the GPU, compared with numpy."""

import time
from statistics import median
from typing import Any

import numpy as np

from models.runtime.session import Device
from service.gallery.index.device import gpu_copies
from service.gallery.index.faiss_vectors import Encoding, search_pool
from service.gallery.index.segmented import SegmentedIndex
from service.gallery.records import Block

_DIMENSIONS, _DEPTH, _ROUNDS = 512, 10, 20
_PROBES = (1, 16, 64)
_ENCODINGS: tuple[Encoding, ...] = ("flat", "flat-fp16")
_MIN_SIMILARITY = 0.5  # of a probe and its template


def measure_search(device: Device, templates: int) -> list[dict[str, Any]]:
    """Measure each encoding: median milliseconds of a search by number of probes, and the share of right answers."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((templates, _DIMENSIONS), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = rng.choice(templates, max(_PROBES), replace=False)
    probes = vectors[rows] + rng.standard_normal((len(rows), _DIMENSIONS), np.float32) * np.float32(0.03)
    probes /= np.linalg.norm(probes, axis=1, keepdims=True)
    exact = (probes @ vectors.T).argmax(axis=1)
    return [_measure(device, encoding, vectors, probes, exact) for encoding in _ENCODINGS]


def _measure(device: Device, encoding: Encoding, vectors: Any, probes: Any, exact: Any) -> dict[str, Any]:
    failures = []
    if device == "cuda" and gpu_copies(encoding) is None:
        failures.append("FAISS finds no GPU")
    keys = np.arange(1, len(vectors) + 1)
    with search_pool(4) as threads:
        index = SegmentedIndex(encoding, _DIMENSIONS, threads)
        for start in range(0, len(vectors), 100_000):
            part = slice(start, start + 100_000)
            index.add(Block(keys[part], keys[part], vectors[part]))
        hits = index.search(probes, _DEPTH)  # copies the segments to the GPU
        right = float((hits.template_keys[:, 0] == exact + 1).mean())
        if right < 1 or float(hits.similarities[:, 0].min()) < _MIN_SIMILARITY:
            failures.append(f"{right:.1%} of the answers are right")
        found: dict[str, float] = {}
        for count in _PROBES:
            times = []
            for _ in range(_ROUNDS):
                start_s = time.perf_counter()
                index.search(probes[:count], _DEPTH)
                times.append(time.perf_counter() - start_s)
            found[str(count)] = round(median(times) * 1000, 3)
    return {
        "encoding": encoding,
        "templates": len(vectors),
        "right": right,
        "milliseconds_by_probes": found,
        "failures": failures,
    }
