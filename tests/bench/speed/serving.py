"""The running service under load, compared with the bare pipeline in a loop and a plain service of the same models."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

import httpx2
import orjson

from models.deadline import Deadline
from models.pipeline import EmbeddedPhoto
from service.settings import CacheSettings, load_settings
from service.startup import load_configured_models
from tests.bench.speed.load import Outcome, Request, closed_loop, multipart, open_loop

CLIENTS = (1, 2, 4, 8, 16)
LOADS = (0.5, 0.7, 0.9, 1.2)

_VULTUS = [sys.executable, "-c", "from service.cli.main import main; main()"]
_ROUNDS, _SECONDS, _OPEN_SECONDS, _WARM_S = 3, 4.0, 10.0, 2.0
_CACHED_REFERENCES = str(CacheSettings().references)

Pair = tuple[bytes, bytes]


class Served(NamedTuple):
    """A running service that is ready.

    Attributes:
        port: Port on 127.0.0.1.
        process: Process of the service.
        ready_s: Seconds from the start of the process until `/readyz` succeeds.
    """

    port: int
    process: "subprocess.Popen[bytes]"
    ready_s: float


@dataclass(frozen=True, slots=True)
class Serving:
    """The measurements of the service. Rates are verifications per second.

    Attributes:
        ready_s: Seconds from the start of the process until `/readyz` succeeds; median of three.
        bare: Rate of the bare pipeline in a loop.
        plain: Rate of the plain service with 16 clients.
        remembered: Rate with 16 clients and the default reference cache, which then holds both photos.
        settled: Rate of the bare pipeline with four callers, where OpenCV and BLAS start no threads.
        unsettled: Rate of the bare pipeline with four callers, where OpenCV and BLAS may start threads.
        closed: Outcome by number of clients, from the run with the median rate of three.
        opened: Outcome by share of the capacity, from the run with the median p99 of three.
        capacity: Rate with 16 clients.
        lost: Number of requests in all runs that were neither answered correctly nor refused with 429.
        tuned: Whether the service ran with the settings that `vultus tune` chose.
    """

    ready_s: float
    bare: float
    plain: float
    remembered: float
    settled: float
    unsettled: float
    closed: dict[int, Outcome]
    opened: dict[float, Outcome]
    capacity: float
    lost: int
    tuned: bool


def measure_serving(pair: Pair, detector: Path, recognizer: Path, tell: Callable[[str], None]) -> Serving:
    """Measure start, capacity and latency under load; the compared programs run in turn in each round."""
    requests = requests_of(pair)
    bare: list[float] = []
    settled: list[float] = []
    unsettled: list[float] = []
    plain: list[float] = []
    remembered: list[float] = []
    ready: list[float] = []
    closed: dict[int, list[Outcome]] = {clients: [] for clients in CLIENTS}
    for turn in range(_ROUNDS):
        tell(f"serving, round {turn + 1} of {_ROUNDS}")
        bare.append(_bare_rate(pair))
        settled.append(_bare_rate(pair, "--callers", "4", "--settled"))
        unsettled.append(_bare_rate(pair, "--callers", "4"))
        with plain_service(detector, recognizer) as served:
            unchecked = [Request(requests[0].wire, lambda *_: True)]  # OpenCV computes another similarity
            closed_loop(served.port, unchecked, 16, 1.0)
            plain.append(closed_loop(served.port, unchecked, 16, _SECONDS).rate)
        with serving() as served:
            ready.append(served.ready_s)
            closed_loop(served.port, requests, 4, 1.0)
            for clients in CLIENTS:
                closed[clients].append(closed_loop(served.port, requests, clients, _SECONDS))
        with serving(VULTUS_CACHE__REFERENCES=_CACHED_REFERENCES) as served:
            closed_loop(served.port, requests, 4, 1.0)
            remembered.append(closed_loop(served.port, requests, 16, _SECONDS).rate)
    capacity = median(outcome.rate for outcome in closed[16])
    opened: dict[float, list[Outcome]] = {load: [] for load in LOADS}
    with serving() as served:
        tuned = _is_tuned(served.port)
        closed_loop(served.port, requests, 4, 1.0)
        for _ in range(_ROUNDS):
            for load in LOADS:
                tell(f"constant rate of {load:.0%} of the capacity of {capacity:.0f} per second")
                opened[load].append(open_loop(served.port, requests, load * capacity, _OPEN_SECONDS, _WARM_S))
    return Serving(
        ready_s=median(ready),
        bare=median(bare),
        plain=median(plain),
        remembered=median(remembered),
        settled=median(settled),
        unsettled=median(unsettled),
        closed={clients: _median_run(outcomes, lambda outcome: outcome.rate) for clients, outcomes in closed.items()},
        opened={
            load: _median_run(outcomes, lambda outcome: outcome.percentile(0.99)) for load, outcomes in opened.items()
        },
        capacity=capacity,
        lost=sum(outcome.lost for outcomes in (*closed.values(), *opened.values()) for outcome in outcomes),
        tuned=tuned,
    )


def _median_run(outcomes: list[Outcome], key: Callable[[Outcome], float]) -> Outcome:
    return sorted(outcomes, key=key)[len(outcomes) // 2]


@contextmanager
def serving(**settings: str) -> Iterator[Served]:
    """Run `vultus serve` with empty galleries and without the reference cache, so that it computes every photo."""
    port = _free_port()
    with tempfile.TemporaryDirectory() as scratch:
        defaults = {
            "VULTUS_CACHE__REFERENCES": "0",
            "VULTUS_GALLERY__DIRECTORY": f"{scratch}/galleries",
            "VULTUS_SECURITY__DIRECTORY": f"{scratch}/security",
            "VULTUS_ENCRYPTION__DIRECTORY": f"{scratch}/encryption",
        }
        environment = {**os.environ, **defaults, **settings}
        with _running([*_VULTUS, "serve", "--port", str(port)], port, environment) as served:
            yield served


@contextmanager
def plain_service(detector: Path, recognizer: Path) -> Iterator[Served]:
    """Run the plain service."""
    port = _free_port()
    command = [sys.executable, "-m", "tests.bench.speed.plain_service", str(detector), str(recognizer), str(port)]
    with _running(command, port, dict(os.environ)) as served:
        yield served


@contextmanager
def _running(command: list[str], port: int, environment: dict[str, str]) -> Iterator[Served]:
    start = time.perf_counter()
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=stderr)
        try:
            with httpx2.Client(trust_env=False) as client:
                while not _is_ready(client, port):
                    if process.poll() is not None:
                        stderr.seek(0)
                        raise SystemExit(f"the service did not start: {stderr.read().decode()[-500:]}")
                    time.sleep(0.01)
            yield Served(port, process, time.perf_counter() - start)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def _is_ready(client: httpx2.Client, port: int) -> bool:
    try:
        return client.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
    except httpx2.TransportError:
        return False


def _is_tuned(port: int) -> bool:
    with httpx2.Client(trust_env=False) as client:
        return client.get(f"http://127.0.0.1:{port}/v1/info").json()["tuning"] is not None


def requests_of(pair: Pair) -> list[Request]:
    """Return verifications of the two photos in both orders; their answers are checked against the pipeline."""
    settings = load_settings()
    models = load_configured_models(settings)
    first, second = models.pipeline.embed(pair, "largest", Deadline())
    assert isinstance(first, EmbeddedPhoto)
    assert isinstance(second, EmbeddedPhoto)
    similarity = float(first.faces[0].embedding @ second.faces[0].embedding)

    def right(_status: int, body: bytes) -> bool:
        return bool(abs(orjson.loads(body)["similarity"] - similarity) < 0.02)

    sides = ("probe", "reference")
    wires = [
        multipart("/v1/verify", list(zip(sides, order, strict=True)), {"faces": "largest"})
        for order in (pair, pair[::-1])
    ]
    return [Request(wire, right) for wire in wires]


def _bare_rate(pair: Pair, *options: str) -> float:
    """Return the verifications per second of the bare pipeline, which loops in a separate process."""
    command = [sys.executable, "-m", "tests.bench.speed.bare", "--seconds", str(_SECONDS), *options]
    done = subprocess.run(command, input=_packed(pair), capture_output=True, check=True)
    return float(done.stdout)


def _packed(pair: Pair) -> bytes:
    return len(pair[0]).to_bytes(8, "big") + pair[0] + pair[1]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
