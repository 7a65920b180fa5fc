"""Dashboard and alerts against a real Prometheus that has scraped the real service."""

import math
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from tests.conftest import ROOT
from tests.prometheus import MONITORING, is_installed, prometheus, queries
from tests.service.test_end_to_end import client_of, free_port, own_galleries, serving

LOAD_S = 12

needs_prometheus = pytest.mark.skipif(
    not is_installed(), reason="Prometheus is not installed (Debian: apt-get install prometheus)"
)


def alerts() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0]["rules"]
    return found


@needs_prometheus
def test_the_rules_fire_when_they_should() -> None:
    for command in (["check", "config", "prometheus.yml"], ["test", "rules", "alerts_test.yml"]):
        done = subprocess.run(["promtool", *command], cwd=MONITORING, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_remedy_in_the_documents() -> None:
    text = (ROOT / "deploy/README.md").read_text()
    for alert in alerts():
        assert f"`{alert['alert']}`" in text
        assert alert["labels"]["severity"] in ("page", "ticket")
        assert alert["annotations"]["summary"]


def test_compose_provisions_prometheus_and_grafana_on_loopback_only() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    services = compose["services"]
    for name in ("prometheus", "grafana"):
        assert all(port.startswith("127.0.0.1:") for port in services[name]["ports"])
        assert services[name]["cap_drop"] == ["ALL"]
        for volume in services[name]["volumes"]:
            source = volume.split(":")[0]
            assert not source.startswith("./") or (ROOT / source).exists(), source
    environment = services["vultus"]["environment"]
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    (target,) = config["scrape_configs"][0]["static_configs"][0]["targets"]
    assert target == f"vultus:{environment['VULTUS_METRICS__PORT']}"
    assert services["vultus"]["ports"] == ["127.0.0.1:8000:8000"], "the port of the metrics is not published"


def put_under_load(client: httpx2.Client, photo: bytes) -> set[int]:
    """Send requests of all kinds for some seconds, more at a time than are admitted; return the statuses."""
    client.post("/v1/galleries", json={"gallery": "staff"}).raise_for_status()
    ends = time.monotonic() + LOAD_S

    def one(number: int) -> int:
        subject = f"/v1/galleries/staff/subjects/s{number}"
        kinds = (
            lambda: client.post("/v1/verify", files={"probe": photo, "reference": photo}, data={"faces": "largest"}),
            lambda: client.post("/v1/identify", files={"images": photo}, data={"gallery": "staff", "faces": "largest"}),
            lambda: client.post(f"{subject}/templates", files={"images": photo}, data={"faces": "largest"}),
            lambda: client.delete(subject),
            lambda: client.post("/v1/verify", files={"probe": photo, "reference": photo}, data={"faces": "largest"}),
        )
        return kinds[number % len(kinds)]().status_code

    statuses: set[int] = set()
    with ThreadPoolExecutor(8) as pool:
        while time.monotonic() < ends:
            statuses |= set(pool.map(one, range(40)))
    return statuses


@needs_prometheus
def test_every_panel_has_data_and_every_alert_can_be_evaluated(tmp_path: Path, photos: Path) -> None:
    metrics = free_port()
    environment = {
        **own_galleries(tmp_path),
        "VULTUS_METRICS__PORT": str(metrics),
        "VULTUS_REQUEST__CONCURRENCY": "2",
        "VULTUS_REQUEST__WAITING": "2",
    }
    (tmp_path / "prometheus").mkdir()
    with (
        serving(environment) as process,
        client_of(process) as client,
        prometheus(tmp_path / "prometheus", metrics) as monitor,
    ):
        statuses = put_under_load(client, (photos / "group.jpg").read_bytes())
        assert {200, 429} <= statuses
        empty = []
        for title, expression in queries("10s"):
            answer = monitor.get("/api/v1/query", params={"query": expression}).json()
            values = [float(series["value"][1]) for series in answer["data"]["result"]]
            if not values or all(map(math.isnan, values)):
                empty.append((title, expression))
        assert not empty
        for alert in alerts():
            assert monitor.get("/api/v1/query", params={"query": alert["expr"]}).json()["status"] == "success"
        rules = monitor.get("/api/v1/rules").json()["data"]["groups"][0]["rules"]
        assert [(rule["name"], rule["health"]) for rule in rules] == [(alert["alert"], "ok") for alert in alerts()]
        firing = {rule["name"] for rule in rules if rule["state"] == "firing"}
        assert not firing
