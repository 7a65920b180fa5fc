"""`make bench-soak`: memory of the service over many requests of mixed sizes and kinds, some of them invalid."""

import argparse
import io
import re
import time
from collections import Counter
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
_SHOWN_MEGABYTES = 2.0
_MAPPING = re.compile(r"(?P<addresses>[0-9a-f]+-[0-9a-f]+) \S+ \S+ \S+ \d+ *(?P<file>.*)")


def main() -> None:
    """Send the requests, and print the resident memory of the service at intervals."""
    parser = argparse.ArgumentParser(prog="make bench-soak")
    parser.add_argument("--requests", type=int, default=100_000)
    total = parser.parse_args().requests
    console, requests = Console(), mixed_requests()
    with serving() as served:
        first, start, before = 0.0, time.perf_counter(), Counter[str]()
        for sent in range(_STEP, total + 1, _STEP):
            outcome = closed_loop(served.port, requests, _CLIENTS, most=_STEP)
            mapped = _resident_by_mapping(served.process.pid)
            resident = mapped.total() / 1024
            first = resident if sent == _FIRST else first
            console.print(
                f"{sent:7} requests, {time.perf_counter() - start:5.0f} s: {resident:.1f} MB, "
                f"{resident / first - 1:+.1%} since request {_FIRST}; statuses {outcome.statuses}, "
                f"{outcome.wrong} wrong answers",
                highlight=False,
                soft_wrap=True,
            )
            if sent > _FIRST:
                for mapping in sorted(mapped | before):
                    change = (mapped[mapping] - before[mapping]) / 1024
                    if abs(change) >= _SHOWN_MEGABYTES:
                        console.print(f"{'':9}{change:+.1f} MB in {mapping}", highlight=False, soft_wrap=True)
            before = mapped


def mixed_requests(*, valid: bool = False) -> list[Request]:
    """Return requests of every kind in a fixed order: valid ones, and unless `valid`, some invalid ones."""
    folder = PackStore(load_settings().packs_dir).verify(find_manifest("demo-photos"))
    rng = np.random.default_rng(0)
    requests = []
    for number in range(240):
        single, group = (
            _photo(folder / name, _SIZES[rng.integers(len(_SIZES))], number) for name in ("astronaut.png", "group.jpg")
        )
        kind = number % (7 if valid else 8)
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


def _resident_by_mapping(process: int) -> Counter[str]:
    """Return the resident kilobytes of each mapping: by its file, or by its first address and size if it has none."""
    resident, mapping = Counter[str](), ""
    for line in Path(f"/proc/{process}/smaps").read_text().splitlines():
        head = _MAPPING.match(line)
        if head:
            first, last = (int(address, 16) for address in head["addresses"].split("-"))
            mapping = head["file"] or f"memory without a file at {first:x}, {(last - first) >> 20} MiB mapped"
        elif line.startswith("Rss:"):
            resident[mapping] += int(line.split()[1])
    return resident


if __name__ == "__main__":
    main()
