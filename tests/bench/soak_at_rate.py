"""`make soak`: the service at a constant share of its capacity, with metrics, traces, log, audit log and encryption on.

It prints latency, memory and descriptors of each part of the run, and how they grew. With Prometheus installed, the
panels of the dashboard can be drawn from the run.
"""

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from rich.console import Console
from rich.table import Table

from models.packs import PackStore, find_manifest
from models.runtime.instructions import instruction_set
from service.settings import load_settings
from tests.bench.soak import mixed_requests
from tests.bench.speed.load import Request, closed_loop, multipart, open_loop
from tests.bench.speed.serving import serving
from tests.otlp import Receiver
from tests.prometheus import MONITORING, is_installed, prometheus
from tests.service.test_end_to_end import free_port

_CAPACITY_S, _CLIENTS, _PARTS = 10.0, 8, 10
_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a run.

    Attributes:
        statuses: Number of answers by status.
        p50_ms, p99_ms: Latencies from the intended start.
        resident_mb: Resident memory of the service at the end.
        descriptors: Number of its open files at the end.
    """

    statuses: dict[int, int]
    p50_ms: float
    p99_ms: float
    resident_mb: float
    descriptors: int


@dataclass(frozen=True, slots=True)
class Soak:
    """A run.

    Attributes:
        capacity: Answers per second of a closed loop before the run.
        rate: Requests per second of the run.
        parts: Its parts, in order, of equal length.
        spans: Number of spans that the receiver of traces got.
        log_lines: Number of lines of the log.
    """

    capacity: float
    rate: float
    parts: list[Part]
    spans: int
    log_lines: int

    @property
    def failed(self) -> int:
        """Number of answers other than 200."""
        return sum(count for part in self.parts for status, count in part.statuses.items() if status != 200)

    @property
    def growth_mb(self) -> float:
        """Growth of the resident memory over the second half, by a line through its ends of parts."""
        half = self.parts[len(self.parts) // 2 :]
        slope = float(np.polyfit(range(len(half)), [part.resident_mb for part in half], 1)[0])
        return slope * (len(half) - 1)

    @property
    def p99_ms(self) -> tuple[float, float]:
        """Mean of the 99th percentiles of the parts of each half."""
        half = len(self.parts) // 2
        halves = (self.parts[:half], self.parts[half:])
        first, second = (float(np.mean([part.p99_ms for part in each])) for each in halves)
        return first, second


def soak(seconds: float, share: float, picture: Path | None = None) -> Soak:
    """Run the service for some seconds.

    Args:
        seconds: Duration of the run, after the capacity was measured.
        share: Share of the capacity at which requests are sent.
        picture: SVG file with the panels of the dashboard; needs Prometheus.
    """
    metrics, requests = free_port(), _requests()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        receiver = stack.enter_context(Receiver().running())
        served = stack.enter_context(
            serving(
                VULTUS_TRACE__ENDPOINT=receiver.address,
                VULTUS_METRICS__PORT=str(metrics),
                VULTUS_LOG__FORMAT="json",
                VULTUS_ENCRYPTION__MASTER_KEY_FILE=str(scratch / "master.key"),
            )
        )
        monitor = stack.enter_context(prometheus(scratch, metrics)) if picture is not None else None
        _enrol(served.port)
        capacity = closed_loop(served.port, requests, _CLIENTS, _CAPACITY_S).rate
        parts, began = [], time.time()
        for _ in range(_PARTS):
            outcome = open_loop(served.port, requests, share * capacity, seconds / _PARTS)
            process = Path(f"/proc/{served.process.pid}")
            resident = int((process / "statm").read_text().split()[1]) * 4096 / 1e6
            descriptors = len(list((process / "fd").iterdir()))
            percentiles = outcome.percentile(0.5), outcome.percentile(0.99)
            parts.append(Part(outcome.statuses, *percentiles, resident, descriptors))
        if monitor is not None and picture is not None:
            _draw(monitor, began, time.time(), picture)
        log_lines = Path(f"/proc/{served.process.pid}/fd/2").read_bytes().count(b"\n")
    return Soak(capacity, share * capacity, parts, len(receiver.spans), log_lines)


def _requests() -> list[Request]:
    """Return valid requests of every kind, searches of a gallery included."""
    requests = mixed_requests(valid=True)
    photo = (_photos() / "astronaut.png").read_bytes()
    search = Request(
        multipart("/v1/identify", [("images", photo)], {"gallery": "soak", "faces": "largest"}), lambda *_: True
    )
    for position in range(0, len(requests), 6):
        requests.insert(position, search)
    return requests


def _enrol(port: int) -> None:
    files, selected = {"images": (_photos() / "group.jpg").read_bytes()}, {"faces": "largest"}
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=_TIMEOUT_S, trust_env=False) as client:
        client.post("/v1/galleries", json={"gallery": "soak"}).raise_for_status()
        client.post("/v1/galleries/soak/subjects/a/templates", files=files, data=selected).raise_for_status()


def _photos() -> Path:
    return PackStore(load_settings().packs_dir).verify(find_manifest("demo-photos"))


def _draw(monitor: httpx2.Client, began: float, ended: float, picture: Path) -> None:
    """Draw the panels of the dashboard."""
    import matplotlib as mpl  # the extra `evaluate`
    from matplotlib.figure import Figure

    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "vultus", "font.size": 7})
    panels = json.loads((MONITORING / "grafana/dashboard.json").read_text())["panels"]
    figure = Figure(figsize=(12, 2 * -(-len(panels) // 3)), layout="constrained")
    axes = figure.subplots(-(-len(panels) // 3), 3, squeeze=False).ravel()
    interval = max(10, round((ended - began) / 20))
    for panel, place in zip(panels, axes, strict=False):
        for target in panel["targets"]:
            query = {"query": target["expr"].replace("$__rate_interval", f"{interval}s"), "start": began, "end": ended}
            answer = monitor.get("/api/v1/query_range", params={**query, "step": max(1, interval // 5)}).json()
            for series in answer["data"]["result"]:
                times = [moment - began for moment, _ in series["values"]]
                values = [float(value) for _, value in series["values"]]
                place.plot(times, values, label=_label(target, series["metric"]), linewidth=1)
        place.set_title(panel["title"], fontsize=8, loc="left")
        lowest, highest = place.get_ylim()
        place.set_ylim(min(0, lowest), highest + 0.3 * (highest - min(0, lowest)))  # room for the legend
        if place.lines:
            place.legend(fontsize=5, frameon=False, loc="upper left", ncols=2)
    for place in axes[len(panels) :]:
        place.remove()
    figure.supxlabel("seconds")
    figure.savefig(picture, metadata={"Date": None})


def _label(target: dict[str, Any], metric: dict[str, str]) -> str:
    text = str(target.get("legendFormat", ""))
    for name, value in defaultdict(str, metric).items():
        text = text.replace(f"{{{{{name}}}}}", value)
    return text or target["refId"]


def show(run: Soak, parts: Sequence[Part], seconds: float, console: Console) -> None:
    """Print a run as a table."""
    table = Table(
        title=f"{run.rate:.1f} requests per second, of {run.capacity:.1f} that 8 clients got answered; "
        f"{instruction_set('openvino')}"
    )
    for column in ("until s", "answers by status", "p50 ms", "p99 ms", "resident MB", "descriptors"):
        table.add_column(column, justify="right")
    for number, part in enumerate(parts, 1):
        statuses = ", ".join(f"{status}: {count}" for status, count in sorted(part.statuses.items()))
        cells = f"{part.p50_ms:.1f}", f"{part.p99_ms:.1f}", f"{part.resident_mb:.1f}", str(part.descriptors)
        table.add_row(f"{number * seconds / len(parts):.0f}", statuses, *cells)
    console.print(table)
    first, second = run.p99_ms
    console.print(
        f"{run.failed} failed; memory {run.growth_mb:+.1f} MB in the second half; p99 {first:.1f} ms in the first "
        f"half, {second:.1f} in the second; {run.spans} spans received, {run.log_lines} lines of log",
        soft_wrap=True,
        highlight=False,
    )


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="make soak")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--share", type=float, default=0.8, help="share of the capacity, above 0 and at most 1")
    parser.add_argument("--picture", type=Path, help="SVG file with the dashboard of the run; needs Prometheus")
    options = parser.parse_args()
    if options.picture is not None and not is_installed():
        parser.error("Prometheus is not installed (Debian: apt-get install prometheus)")
    run = soak(options.seconds, options.share, options.picture)
    show(run, run.parts, options.seconds, Console(width=120))


if __name__ == "__main__":
    main()
