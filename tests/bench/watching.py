"""`make bench-watching`: what access lines, scraped metrics and traces cost, compared in turn with none of them."""

import argparse
import multiprocessing
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from statistics import median

from rich.console import Console
from rich.table import Table

from models.packs import PackStore
from service.metrics.instruments import Metrics
from service.settings import load_settings
from tests.bench.speed.load import Request, closed_loop
from tests.bench.speed.serving import requests_of, serving
from tests.bench.speed.stages import SMALL, bench_photos
from tests.service.test_end_to_end import free_port

_SECONDS, _SCRAPE_S = 3.0, 5.0
_STAGES = {"queue": 1.0, "decode": 2.0, "detect": 10.0, "align": 0.5, "embed": 10.0}
_COUNTED = 20_000


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="make bench-watching")
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    requests = requests_of(bench_photos(PackStore(load_settings().packs_dir))[SMALL])
    title = "verifications per second, references not remembered; ratios to the first are medians of rounds"
    table = Table("clients", title=title, title_justify="left")
    with _sink() as address:
        ways = {
            "neither": {"VULTUS_LOG__ACCESS": "false"},
            "log and metrics": {"VULTUS_LOG__FORMAT": "json", "VULTUS_METRICS__PORT": str(free_port())},
        }
        ways["and a tenth traced"] = {**ways["log and metrics"], "VULTUS_METRICS__PORT": str(free_port())}
        ways["and a tenth traced"] |= {"VULTUS_TRACE__ENDPOINT": address, "VULTUS_TRACE__SHARE": "0.1"}
        ways["and all traced"] = {**ways["and a tenth traced"], "VULTUS_TRACE__SHARE": "1"}
        ways["and all traced"] |= {"VULTUS_METRICS__PORT": str(free_port())}
        for name in ways:
            table.add_column(name, justify="right")
        for clients in (1, 16):
            rates = _rates(requests, list(ways.values()), clients, rounds)
            cells = [
                f"{median(each):.1f} ({median(now / plain for now, plain in zip(each, rates[0], strict=True)):.3f})"
                for each in rates
            ]
            table.add_row(str(clients), *cells)
    console = Console(width=120)
    console.print(table)
    console.print(f"counting a request in the metrics takes {_count_us():.0f} µs", highlight=False)


def _rates(requests: Sequence[Request], ways: Sequence[dict[str, str]], clients: int, rounds: int) -> list[list[float]]:
    rates: list[list[float]] = [[] for _ in ways]
    for _ in range(rounds):
        for settings, found in zip(ways, rates, strict=True):
            with serving(**settings) as served, _scraped(settings.get("VULTUS_METRICS__PORT")):
                closed_loop(served.port, requests, clients, 1.0)
                outcome = closed_loop(served.port, requests, clients, _SECONDS)
            if outcome.lost:
                raise SystemExit(f"{outcome.lost} requests were not answered correctly: {outcome.statuses}")
            found.append(outcome.rate)
    return rates


@contextmanager
def _scraped(port: str | None) -> Iterator[None]:
    """Read the metrics at intervals until the block ends."""
    ended = threading.Event()

    def scrape() -> None:
        while not ended.wait(_SCRAPE_S):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read()

    scraper = threading.Thread(target=scrape)
    if port is not None:
        scraper.start()
    try:
        yield
    finally:
        ended.set()
        if port is not None:
            scraper.join()


@contextmanager
def _sink() -> Iterator[str]:
    """Run a receiver that drops what it gets, and yield its address."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_drop, args=(theirs,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}/v1/traces"
    finally:
        process.terminate()


def _drop(ours: Connection) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    ours.send(server.server_port)
    server.serve_forever()


def _count_us() -> float:
    """Return the microseconds that the metrics of one request take."""
    metrics, start = Metrics(), time.perf_counter()
    for _ in range(_COUNTED):
        metrics.observe_request("POST", "/v1/verify", 200, 0.04)
        metrics.observe_stages(_STAGES)
    return (time.perf_counter() - start) / _COUNTED * 1e6


if __name__ == "__main__":
    main()
