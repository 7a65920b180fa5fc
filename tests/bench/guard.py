"""`make bench-guard`: what keys, audit log and encryption cost, compared in turn with a service without them."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from statistics import median

from rich.console import Console
from rich.table import Table

from models.packs import PackStore
from service.settings import load_settings
from tests.bench.speed.load import Request, closed_loop
from tests.bench.speed.serving import requests_of, serving
from tests.bench.speed.stages import SMALL, bench_photos

_OPEN = {"VULTUS_SECURITY__KEYS": "off", "VULTUS_AUDIT__LOG": "off"}
_VULTUS = [sys.executable, "-c", "from service.cli.main import main; main()"]
_SECONDS, _STARTS = 3.0, 5


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="make bench-guard")
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    console = Console()
    requests = requests_of(bench_photos(PackStore(load_settings().packs_dir))[SMALL])
    title = "verifications per second; ratios are medians of rounds"
    table = Table("what", "open, no log", "key, audit log, encryption", "ratio", title=title, title_justify="left")
    for name, cache in (("references not remembered", "0"), ("references remembered", "256")):
        for clients in (1, 16):
            plain, guarded = _rates(requests, cache, clients, rounds)
            table.add_row(
                f"{clients} clients, {name}",
                f"{median(plain):.1f}",
                f"{median(guarded):.1f}",
                f"{median(after / before for before, after in zip(plain, guarded, strict=True)):.3f}",
            )
    with tempfile.TemporaryDirectory() as directory:
        starts = [[_ready_s(_OPEN), _ready_s(_guarded(directory))] for _ in range(_STARTS)]
    before, after = (median(pair[position] for pair in starts) for position in (0, 1))
    table.add_row("start to ready, s", f"{before:.2f}", f"{after:.2f}", f"{after / before:.3f}")
    console.print(table)


def _rates(requests: Sequence[Request], cache: str, clients: int, rounds: int) -> tuple[list[float], list[float]]:
    with tempfile.TemporaryDirectory() as directory:
        key = _key(directory)
        guarded_requests = [
            Request(request.wire.replace(b"\r\n", b"\r\nX-Api-Key: " + key + b"\r\n", 1), request.right)
            for request in requests
        ]
        rates: tuple[list[float], list[float]] = ([], [])
        with (
            serving(VULTUS_CACHE__REFERENCES=cache, **_OPEN) as plain,
            serving(VULTUS_CACHE__REFERENCES=cache, **_guarded(directory)) as guarded,
        ):
            for _ in range(rounds):
                for served, sent, found in zip((plain, guarded), (requests, guarded_requests), rates, strict=True):
                    outcome = closed_loop(served.port, sent, clients, _SECONDS)
                    if outcome.lost:
                        raise SystemExit(f"{outcome.lost} requests were not answered correctly: {outcome.statuses}")
                    found.append(outcome.rate)
    return rates


def _guarded(directory: str) -> dict[str, str]:
    return {
        "VULTUS_SECURITY__DIRECTORY": f"{directory}/security",
        "VULTUS_ENCRYPTION__DIRECTORY": f"{directory}/encryption",
        "VULTUS_ENCRYPTION__MASTER_KEY_FILE": f"{directory}/master.key",
    }


def _key(directory: str) -> bytes:
    command = [*_VULTUS, "keys", "create", "bench", "--scope", "verify", "--rate", "100000/s", "--json"]
    environment = {**os.environ, **_guarded(directory)}
    done = subprocess.run(command, env=environment, capture_output=True, check=True)
    key: str = json.loads(done.stdout)["key"]
    return key.encode()


def _ready_s(settings: dict[str, str]) -> float:
    with serving(**settings) as served:
        return served.ready_s


if __name__ == "__main__":
    main()
