"""`make bench-soak`: memory of the service over many requests of mixed sizes and kinds, some of them invalid."""

import argparse
import io
import time
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console

from models.packs import PackStore, find_manifest
from service.settings import load_settings
from tests.bench.speed.load import Request, closed_loop, multipart
from tests.bench.speed.serving import serving

_SIZES = ((96, 96), (160, 120), (250, 250), (320, 240), (400, 600), (640, 480), (512, 512), (1024, 768), (1600, 1200))
_FIRST, _STEP, _CLIENTS = 5_000, 5_000, 8


def main() -> None:
    """Send the requests, and print the resident memory of the service at intervals."""
    parser = argparse.ArgumentParser(prog="make bench-soak")
    parser.add_argument("--requests", type=int, default=100_000)
    total = parser.parse_args().requests
    console, requests = Console(), _mixed_requests()
    with serving() as served:
        first, start = 0.0, time.perf_counter()
        for sent in range(_STEP, total + 1, _STEP):
            outcome = closed_loop(served.port, requests, _CLIENTS, most=_STEP)
            resident = _resident_megabytes(served.process.pid)
            first = resident if sent == _FIRST else first
            console.print(
                f"{sent:7} requests, {time.perf_counter() - start:5.0f} s: {resident:.1f} MB, "
                f"{resident / first - 1:+.1%} since request {_FIRST}; statuses {outcome.statuses}, "
                f"{outcome.wrong} wrong answers",
                highlight=False,
                soft_wrap=True,
            )


def _mixed_requests() -> list[Request]:
    """Return valid requests of every kind and some invalid ones, in a fixed order."""
    folder = PackStore(load_settings().packs_dir).verify(find_manifest("demo-photos"))
    rng = np.random.default_rng(0)
    requests = []
    for number in range(240):
        single, group = (
            _photo(folder / name, _SIZES[rng.integers(len(_SIZES))], number) for name in ("astronaut.png", "group.jpg")
        )
        kind = number % 8
        if kind < 4:
            wire = multipart("/v1/verify", [("probe", single), ("reference", group)], {"faces": "largest"})
        elif kind < 6:
            wire = multipart("/v1/embed", [("images", single), ("images", group)], {"faces": "all"})
        elif kind == 6:
            wire = multipart("/v1/detect", [("images", group)], {})
        else:
            wire = multipart("/v1/verify", [("probe", single[: len(single) // 2]), ("reference", b"no photo")], {})
        requests.append(Request(wire, lambda *_: True))
    return requests


def _photo(path: Path, size: tuple[int, int], number: int) -> bytes:
    stream = io.BytesIO()
    with Image.open(path) as image:
        resized = image.convert("RGB").resize(size)
        resized.save(stream, ("JPEG", "PNG", "WEBP")[number % 3])
    return stream.getvalue()


def _resident_megabytes(process: int) -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


if __name__ == "__main__":
    main()
