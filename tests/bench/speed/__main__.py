"""`make bench`: measure all published speeds in one run on one machine; write tables, a JSON file and two figures."""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from models.packs import PackStore
from models.runtime import usable_cores
from models.runtime.instructions import instruction_set
from models.serving.tuning import describe_machine
from service.settings import load_settings
from tests.bench.speed.figures import draw_latency, draw_throughput
from tests.bench.speed.matrix import Peak, measure_peak
from tests.bench.speed.networks import network, prepare
from tests.bench.speed.recognizers import Speed, measure_networks
from tests.bench.speed.serving import Serving, measure_serving
from tests.bench.speed.stages import SMALL, bench_photos, fetch_models, measure_stages

PARTS = ("recognizers", "stages", "serving")

_ONEDNN_NAMES = {"avx2": "AVX2", "avx512": "AVX512_CORE", "avx512_vnni": "AVX512_CORE_VNNI"}


def main() -> None:
    """Measure every part in a separate process, so that none affects another, and combine the figures."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--out", type=Path, help="directory for bench.json and the figures; created if missing")
    parser.add_argument("--artefact", type=Path, action="append", default=[], help="also time this artefact")
    parser.add_argument("--only", choices=PARTS, help="measure only this part")
    parser.add_argument(
        "--isa", choices=tuple(_ONEDNN_NAMES), help="limit OpenVINO to this instruction set; ONNX Runtime has no limit"
    )
    arguments = parser.parse_args()
    if arguments.isa:
        os.environ["ONEDNN_MAX_CPU_ISA"] = _ONEDNN_NAMES[arguments.isa]
    out: Path = arguments.out or load_settings().data_dir / "bench"
    out.mkdir(parents=True, exist_ok=True)
    if arguments.only:
        results = _measure(arguments.only, out, arguments.artefact)
        (out / f"{arguments.only}.json").write_text(json.dumps(results, indent=1) + "\n")
        return
    for part in PARTS:
        subprocess.run([sys.executable, "-m", "tests.bench.speed", *sys.argv[1:], "--only", part], check=True)
    joined = {
        "machine": describe_machine(),
        "instructions": _describe_instructions(),
        "python": platform.python_version(),
    }
    joined |= {part: json.loads((out / f"{part}.json").read_text()) for part in PARTS}
    (out / "bench.json").write_text(json.dumps(joined, indent=1) + "\n")
    print(f"wrote bench.json, throughput.png and latency.png to {out}")


def _measure(part: str, out: Path, artefacts: list[Path]) -> dict[str, Any]:
    """Measure a part, print its table and draw its figure."""
    console = Console(width=130)
    console.print(f"{part}: {_describe_instructions()}", highlight=False, soft_wrap=True)
    with tempfile.TemporaryDirectory() as folder, console.status(part) as status:
        published, folded = fetch_models(Path(folder))
        if part == "recognizers":
            peak = measure_peak(usable_cores())
            networks = [*prepare(out / "networks", status.update), *(network(path.name, path) for path in artefacts)]
            speeds = measure_networks(networks, peak, status.update)
            _print_speeds(speeds, peak, console)
            draw_throughput(speeds, out / "throughput.png")
            return {"peak": peak._asdict(), "networks": [speed._asdict() for speed in speeds]}
        if part == "stages":
            times = measure_stages(published, folded, console)
            return {" | ".join(key): round(spent, 3) for key, spent in times.items()}
        pair = bench_photos(PackStore(load_settings().packs_dir))[SMALL]
        detector = next(path for path in published.iterdir() if "detection" in path.name)
        serving = measure_serving(pair, detector, folded, status.update)
        _print_serving(serving, console)
        draw_latency(serving, out / "latency.png")
        return _record(serving)


def _describe_instructions() -> str:
    """Return the instruction set of this processor, and whether OpenVINO is limited to a smaller one."""
    of_openvino, of_processor = instruction_set("openvino"), instruction_set("onnxruntime")
    if of_openvino == of_processor:
        return f"instruction set {of_processor}"
    return f"instruction set {of_processor}, OpenVINO limited to {of_openvino}: not the speed of such a processor"


def _print_speeds(speeds: list[Speed], peak: Peak, console: Console) -> None:
    rates = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in peak._asdict().items())
    table = Table(
        title=f"faces per second, one stream over all cores; matrix rate of the machine in 1e9 per second: {rates}",
        title_justify="left",
    )
    texts = ("network", "engine", "precision")
    for column in (*texts, "batch 1", "2", "4", "8", "16", "speed-up", "of matrix rate", "not int8"):
        table.add_column(column, justify="left" if column in texts else "right")
    for speed in speeds:
        cells = [f"{rate:.0f}" for rate in speed.rates.values()]
        not_int8 = "" if speed.kept is None else str(speed.kept)
        shares = f"{speed.against:.2f}", f"{speed.share:.0%}"
        table.add_row(speed.network, speed.way, speed.precision, *cells, *shares, not_int8)
    console.print(table)
    console.print(
        "speed-up: over ArcFaceONNX on the same network at batch 8, or without it over OpenVINO fp32 at batch 16"
    )
    console.print("not int8: number of layers that an int8 graph keeps in higher precision")


def _print_serving(serving: Serving, console: Console) -> None:
    tuning = "tuned on this machine" if serving.tuned else "not tuned"
    title = f"verification of two 0.25 MP photos over HTTP, {tuning}; every answer is checked; median of three runs"
    table = Table(title=title, title_justify="left")
    for column in ("load", "answers per second", "p50 (ms)", "p99 (ms)", "refused", "wrong or lost"):
        table.add_column(column, justify="right")
    outcomes = {f"{clients} client{'s' if clients > 1 else ''}": outcome for clients, outcome in serving.closed.items()}
    outcomes |= {f"{load:.0%} of capacity": outcome for load, outcome in serving.opened.items()}
    for name, outcome in outcomes.items():
        p50, p99 = outcome.percentile(0.5), outcome.percentile(0.99)
        refused, lost = str(outcome.statuses.get(429, 0)), str(outcome.lost)
        table.add_row(name, f"{outcome.rate:.1f}", f"{p50:.1f}", f"{p99:.1f}", refused, lost)
    console.print(table)
    console.print(
        f"wrong or lost requests in all runs: {serving.lost}; ready after {serving.ready_s:.2f} s; rates per second: "
        f"bare pipeline in a loop {serving.bare:.1f} (over HTTP {serving.capacity / serving.bare:.0%} of it); "
        f"plain FastAPI and OpenCV {serving.plain:.1f} (Vultus is {serving.capacity / serving.plain:.2f}x as fast); "
        f"with the reference cache {serving.remembered:.1f} "
        f"({serving.remembered / serving.plain:.2f}x as fast as FastAPI and OpenCV); "
        f"bare pipeline with four callers {serving.settled:.1f}, or {serving.unsettled:.1f} "
        f"if OpenCV and BLAS may start threads",
        highlight=False,
        soft_wrap=True,
    )


def _record(serving: Serving) -> dict[str, Any]:
    record = asdict(serving)
    for group in ("closed", "opened"):
        record[group] = {
            str(key): {
                "rate": outcome.rate,
                "statuses": outcome.statuses,
                "wrong": outcome.wrong,
                **{f"p{share * 100:g}_ms": outcome.percentile(share) for share in (0.5, 0.9, 0.99)},
            }
            for key, outcome in getattr(serving, group).items()
        }
    return record


if __name__ == "__main__":
    main()
