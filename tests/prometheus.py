"""A real Prometheus with the rules of the project, and the queries of the dashboard."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import yaml

from tests.conftest import ROOT
from tests.service.test_end_to_end import free_port

MONITORING = ROOT / "deploy/monitoring"


def is_installed() -> bool:
    """Return whether Prometheus and promtool are installed."""
    return bool(shutil.which("prometheus") and shutil.which("promtool"))


def queries(interval: str) -> list[tuple[str, str]]:
    """Return the title and expression of each query of the dashboard, with rates over an interval such as `10s`."""
    dashboard = json.loads((MONITORING / "grafana/dashboard.json").read_text())
    return [
        (panel["title"], target["expr"].replace("$__rate_interval", interval))
        for panel in dashboard["panels"]
        for target in panel["targets"]
    ]


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
