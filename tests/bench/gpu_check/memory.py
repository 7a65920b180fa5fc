"""Memory over many runs of random batch sizes, which must not grow."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import VultusError
from tests.bench.gpu_check.cases import CROP, Case, open_case

_SETTLED = 0.1  # share of the runs after which all batch sizes were seen
_MAX_GROWTH_BYTES = 64 << 20


def measure_memory(case: Case, runs: int) -> dict[str, Any]:
    """Run a case with random batches, and return the growth of the memory after the first tenth, in bytes."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        try:
            return process.submit(_measure, case, runs).result()
        except BrokenProcessPool:
            return {"failures": ["the process ended, see its messages above"]}


def _measure(case: Case, runs: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (max(case.batches), *CROP, 3), np.uint8)
    settled = {"host": 0, "gpu": 0}
    try:
        session = open_case(case)
        for number in range(runs):
            session.run(images[: rng.integers(1, len(images) + 1)])
            if number == int(runs * _SETTLED):
                settled = _used(case.options.device == "cuda")
    except VultusError as error:
        return {"failures": [str(error)]}
    used = _used(case.options.device == "cuda")
    growth = {place: used[place] - settled[place] for place in used}
    failures = [
        f"the memory of the {place} grew by {grown >> 20} MiB"
        for place, grown in growth.items()
        if grown > _MAX_GROWTH_BYTES
    ]
    return {
        "network": case.network,
        "engine": case.options.engine,
        "precision": case.options.precision,
        "runs": runs,
        "growth_bytes": growth,
        "failures": failures,
    }


def _used(gpu: bool) -> dict[str, int]:
    status = Path("/proc/self/status").read_text()
    host = int(status.partition("VmRSS:")[2].split()[0]) * 1024
    if not gpu:
        return {"host": host, "gpu": 0}
    from cuda.bindings import runtime

    code, free, total = runtime.cudaMemGetInfo()
    if int(code):
        raise VultusError(f"CUDA failed with error {int(code)}")
    return {"host": host, "gpu": int(total) - int(free)}
