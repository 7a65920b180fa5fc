"""Dashboard and alerts against a real Prometheus that has scraped the real service."""

import json
import math
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from tests.conftest import ROOT
from tests.service.test_end_to_end import client_of, free_port, own_galleries, serving

MONITORING = ROOT / "deploy/monitoring"
LOAD_S = 12

needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="Prometheus is not installed (Debian: apt-get install prometheus)",
)


def queries() -> list[tuple[str, str]]:
    """Return the title and expression of each query of the dashboard, over ten seconds."""
    dashboard = json.loads((MONITORING / "grafana/dashboard.json").read_text())
    return [
        (panel["title"], target["expr"].replace("$__rate_interval", "10s"))
        for panel in dashboard["panels"]
        for target in panel["targets"]
    ]


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


@contextmanager
def prometheus(directory: Path, target: int) -> Iterator[httpx2.Client]:
    """Run a real Prometheus that scrapes a port each second, with the rules of the project."""
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(MONITORING / "alerts.yml")]
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{target}"]
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    command = [
        "prometheus",
        f"--config.file={directory}/prometheus.yml",
        f"--storage.tsdb.path={directory}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (
        (directory / "log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
        httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=10, trust_env=False) as client,
    ):
        try:
            for _ in range(100):
                try:
                    client.get("/-/ready").raise_for_status()
                    break
                except httpx2.HTTPError:
                    assert process.poll() is None, (directory / "log").read_text()
                    time.sleep(0.1)  # polling is the only way to wait for the socket of another process
            yield client
        finally:
            process.terminate()


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
        for title, expression in queries():
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
