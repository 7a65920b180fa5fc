"""The service under load: verifications per second and latency, with every answer checked."""

from typing import Any

import httpx2

from models.errors import VultusError
from models.packs import PackStore, find_manifest
from models.runtime.session import Device
from service.settings import load_settings
from tests.bench.speed.load import closed_loop
from tests.bench.speed.serving import requests_of, serving

CLIENTS = (1, 16, 64, 256)


def measure_service(device: Device, seconds: float, clients: tuple[int, ...] = CLIENTS) -> dict[str, Any]:
    """Measure `vultus serve` of the default pack; the expected answers are computed on the CPU."""
    try:
        folder = PackStore(load_settings().packs_dir).verify(find_manifest("demo-photos"))
        photo = (folder / "astronaut.png").read_bytes()
        requests = requests_of((photo, photo))
    except VultusError as error:
        return {"failures": [str(error)]}
    settings = {"VULTUS_RUNTIME__DEVICE": device, "VULTUS_REQUEST__CONCURRENCY": str(max(clients))}
    found: dict[str, Any] = {"clients": {}, "failures": []}
    try:
        with serving(**settings, VULTUS_REQUEST__WAITING=str(max(clients))) as served:
            with httpx2.Client(trust_env=False) as client:
                found["recognizer"] = client.get(f"http://127.0.0.1:{served.port}/v1/info").json()["recognizer"]
            closed_loop(served.port, requests, 4, 1.0)
            for count in clients:
                outcome = closed_loop(served.port, requests, count, seconds)
                found["clients"][str(count)] = {
                    "verifications_per_second": round(outcome.rate, 1),
                    "p50_ms": round(outcome.percentile(0.5), 2),
                    "p99_ms": round(outcome.percentile(0.99), 2),
                    "lost": outcome.lost,
                }
                if outcome.lost or not outcome.latencies_ms:
                    found["failures"].append(f"{outcome.lost} requests of {count} clients were not answered correctly")
    except SystemExit as error:  # the service did not start
        found["failures"].append(str(error))
    return found
