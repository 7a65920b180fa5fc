"""Measure everything, print one table, and write one JSON."""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from models.errors import VultusError
from models.packs import PackStore, find_manifest
from models.runtime.gpu import find_gpu
from models.runtime.session import Device
from service.settings import load_settings
from tests.bench.gpu_check.cases import BATCHES, Case, Measured, cases, measure_all
from tests.bench.gpu_check.memory import measure_memory
from tests.bench.gpu_check.peak import measure_peak
from tests.bench.gpu_check.search import measure_search
from tests.bench.gpu_check.service import CLIENTS, measure_service
from tests.bench.speed.flops import flops_of

NETWORKS = ("r50", "r100", "mbf")
GOAL_NETWORK, GOAL_PRECISION, GOAL_BATCH, GOAL_SHARE = "r100", "fp16", 64, 0.5

_PACKAGES = ("onnxruntime-gpu", "onnxruntime", "tensorrt-cu13", "faiss-gpu-cuvs", "cuda-bindings", "nvidia-cudnn-cu13")


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured.

    Attributes:
        seconds: Time for each rate.
        batches: Batch sizes.
        gemm, links: Size of the matrices of the peak rate, and operations of a chain.
        templates: Templates of the gallery.
        runs: Runs of the check of the memory.
        clients: Numbers of concurrent clients of the service.
    """

    seconds: float = 2.0
    batches: tuple[int, ...] = BATCHES
    gemm: int = 8192
    links: int = 32
    templates: int = 1_000_000
    runs: int = 10_000
    clients: tuple[int, ...] = CLIENTS


FULL = Extent()
TINY = Extent(0.05, (1, 4), 64, 2, 2000, 40, (1, 2))  # to check the program on a CPU


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write; return 0 if everything passed."""
    parser = argparse.ArgumentParser(prog="make gpu-check", description=__doc__)
    parser.add_argument("--networks", type=Path, default=Path("build/gpu-networks"), help="directory of r50, r100, mbf")
    parser.add_argument("--out", type=Path, default=Path("build/gpu-check.json"))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu checks this program itself")
    parser.add_argument("--without-service", action="store_true", help="leave out the service under load")
    chosen = parser.parse_args(arguments)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        report = measure(chosen.device, chosen.networks, not chosen.without_service, console)
    except VultusError as error:
        console.print(f"gpu-check cannot run: {error}")
        return 1
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(report, indent=1) + "\n")
    Console(highlight=False, width=180).print(table_of(report))
    for failure in report["failures"]:
        console.print(f"failed: {failure}")
    console.print(f"wrote {chosen.out}")
    return 1 if report["failures"] else 0


def measure(device: Device, networks: Path, with_service: bool, console: Console) -> dict[str, Any]:
    """Measure everything and return the report.

    Raises:
        EngineMissing: There is no GPU.
        PackMissing: The default pack was not fetched.
    """
    gpu = asdict(find_gpu()) if device == "cuda" else None
    extent = FULL if device == "cuda" else TINY
    settings = load_settings()
    pack = PackStore(settings.packs_dir).verify(find_manifest("opencv-zoo"))
    found = {name: networks / name for name in NETWORKS if (networks / name).is_dir()}
    missing = sorted(set(NETWORKS) - set(found))
    listed = list(cases(found, pack, settings.tensorrt_dir, device, extent.seconds, extent.batches))
    console.print(f"measuring {len(listed)} cases on {gpu['name'] if gpu else 'the CPU'}")
    measured = measure_all(iter(listed), lambda step: console.print(f"  {step}"))
    peak = measure_peak(device, extent.seconds, extent.gemm, extent.links)
    flops = {case.network: flops_of(case.reference) for case in listed if not case.is_detector}
    rows = [{**asdict(one), "share_of_peak": _shares(one, flops, peak)} for one in measured]
    console.print("  memory")
    report: dict[str, Any] = {
        "version": 1,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device,
        "gpu": gpu,
        "packages": _versions(),
        "networks_missing": missing,
        "peak_operations_per_second": peak,
        "cases": rows,
        "goal": _goal(rows),
        "memory": measure_memory(_case_for_memory(listed), extent.runs),
    }
    console.print("  search")
    report["search"] = measure_search(device, extent.templates)
    if with_service:
        console.print("  service")
        report["service"] = measure_service(device, extent.seconds, extent.clients)
    report["failures"] = _failures(report)
    return report


def _case_for_memory(listed: list[Case]) -> Case:
    """Return a recognizer on ONNX Runtime without TensorRT: r50 in fp16, or the first one if it was not exported."""
    plain = [case for case in listed if case.options.engine == "onnxruntime" and not case.is_detector]
    return next((case for case in plain if (case.network, case.options.precision) == ("r50", "fp16")), plain[0])


def _shares(measured: Measured, flops: dict[str, float], peak: dict[str, float]) -> dict[int, float]:
    operations, rate = flops.get(measured.network), peak.get(measured.precision)
    if not operations or not rate:
        return {}
    return {batch: round(images * operations / rate, 4) for batch, images in measured.rates.items()}


def _goal(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the best share of r100 in fp16 at batch 64, None if it was not measured."""
    shares = [
        row["share_of_peak"].get(GOAL_BATCH)
        for row in rows
        if (row["network"], row["precision"]) == (GOAL_NETWORK, GOAL_PRECISION)
    ]
    best = max((share for share in shares if share is not None), default=None)
    what = f"{GOAL_NETWORK} in {GOAL_PRECISION} at batch {GOAL_BATCH}"
    return {"what": what, "share": best, "wanted": GOAL_SHARE, "reached": best is not None and best >= GOAL_SHARE}


def _failures(report: dict[str, Any]) -> list[str]:
    failures = [
        f"{row['network']} in {row['precision']} on {row['engine']}: {reason}"
        for row in report["cases"]
        for reason in row["failures"]
    ]
    failures += [f"memory: {reason}" for reason in report["memory"]["failures"]]
    failures += [f"search in {row['encoding']}: {reason}" for row in report["search"] for reason in row["failures"]]
    failures += [f"service: {reason}" for reason in report.get("service", {"failures": []})["failures"]]
    if report["device"] == "cuda":
        failures += [f"{name} is missing, see make gpu-bundle" for name in report["networks_missing"]]
        goal = report["goal"]
        if not goal["reached"]:
            share = "not measured" if goal["share"] is None else f"{goal['share']:.0%} of the matrix rate"
            failures.append(f"{goal['what']}: {share}, and {goal['wanted']:.0%} are the goal")
    return failures


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def table_of(report: dict[str, Any]) -> Table:
    """Return the table of the report."""
    name = report["gpu"]["name"] if report["gpu"] else "CPU, figures without meaning"
    rates = ", ".join(f"{kind} {rate / 1e12:.1f}" for kind, rate in report["peak_operations_per_second"].items())
    table = Table(title=f"{name}; matrix rate in 10^12 operations/s: {rates}")
    batches = sorted({batch for row in report["cases"] for batch in row["rates"]})
    for title in ("what", "engine", "precision", "parity", *(f"{batch}" for batch in batches), "best share"):
        table.add_column(title)
    for row in report["cases"]:
        parity = row["parity"]
        difference = f"{parity['worst_cosine']:.6f}" if "worst_cosine" in parity else f"{parity.get('worst', 0):.1g}"
        verdict = "failed" if row["failures"] else difference
        speeds = [f"{row['rates'][batch]:.0f}" if batch in row["rates"] else "" for batch in batches]
        share = max(row["share_of_peak"].values(), default=None)
        table.add_row(
            *(row["network"], row["engine"], row["precision"], verdict),
            *speeds,
            "" if share is None else f"{share:.0%}",
        )
    for row in report["search"]:
        times = ", ".join(f"{probes}: {ms} ms" for probes, ms in row["milliseconds_by_probes"].items())
        table.add_row(f"search of {row['templates']} templates", "faiss", row["encoding"], f"{row['right']:.1%}", times)
    for clients, row in report.get("service", {}).get("clients", {}).items():
        speed = f"{row['verifications_per_second']}/s, p99 {row['p99_ms']} ms"
        table.add_row(f"service, {clients} clients", "", "", f"{row['lost']} lost", speed)
    if "growth_bytes" in report["memory"]:
        memory = report["memory"]
        growth = ", ".join(f"{place} {grown / 2**20:+.1f} MiB" for place, grown in memory["growth_bytes"].items())
        table.add_row(f"memory over {memory['runs']} runs", memory["engine"], memory["precision"], "", growth)
    return table


if __name__ == "__main__":
    sys.exit(main())
