"""The real image in a real container, with the restrictions of the compose file: `make image`, then `make test-image`.

`CONTAINER_RUN` has further options for `run`, where this machine needs some.
"""

import json
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import yaml

from tests.conftest import ROOT
from tests.service.test_end_to_end import altered, free_port

pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]

IMAGE = "vultus:cpu"
MAX_IMAGE_MB = 700
MAX_MEBIBYTES_OF_LOG = 1
READY_S = 60


def working_engine() -> str:
    for engine in ("docker", "podman"):
        if (
            shutil.which(engine)
            and subprocess.run([engine, "version"], capture_output=True, check=False).returncode == 0
        ):
            return engine
    pytest.fail("neither docker nor podman works here")


def compose_service() -> dict[str, Any]:
    service: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["vultus"]
    return service


class Container:
    """A container of the service with volumes of its own, which outlive it."""

    def __init__(self, engine: str) -> None:
        self.engine = engine
        self.name = f"vultus-test-{uuid4().hex[:8]}"
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"

    def run(self, *command: str, ok: bool = True) -> str:
        done = subprocess.run(
            [self.engine, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=300,
        )
        assert not ok or done.returncode == 0, f"{command}\n{done.stdout}"
        return done.stdout

    def inside(self, *command: str) -> str:
        return self.run("exec", self.name, *command)

    def options(self) -> list[str]:
        """Return what the compose file says, as options of `run`."""
        service = compose_service()
        chosen = ["--read-only"] if service["read_only"] else []
        chosen += [option for place in service["tmpfs"] for option in ("--tmpfs", place)]
        chosen += [option for name in service["cap_drop"] for option in ("--cap-drop", name)]
        chosen += [option for name in service["security_opt"] for option in ("--security-opt", name)]
        for name, value in service["environment"].items():
            chosen += ["--env", f"{name}={'127.0.0.1' if value == '0.0.0.0' else value}"]
        for volume in service["volumes"]:
            chosen += ["--volume", f"{self.name}-{volume}"]
        return [*chosen, *shlex.split(os.environ.get("CONTAINER_RUN", ""))]

    def start(self) -> None:
        serve = ("vultus", "serve", "--host", "0.0.0.0", "--port", str(self.port))
        self.run("run", "--detach", "--name", self.name, "--network", "host", *self.options(), IMAGE, *serve)

    def wait_ready(self) -> float:
        """Wait until the service is ready, and return the seconds."""
        start = time.monotonic()
        while time.monotonic() < start + READY_S:
            try:
                if httpx2.get(f"{self.address}/readyz", timeout=5, trust_env=False).status_code == 200:
                    return time.monotonic() - start
            except httpx2.HTTPError:
                pass
            time.sleep(0.1)  # polling is the only way to wait for the socket of another process
        pytest.fail(self.run("logs", self.name, ok=False))

    def stop(self) -> int:
        """Stop as compose does, remove the container and return the exit status of the service."""
        self.run("stop", "--time", str(compose_service()["stop_grace_period"]).removesuffix("s"), self.name)
        status = int(self.run("inspect", "--format", "{{.State.ExitCode}}", self.name))
        self.run("rm", self.name)
        return status

    def remove(self) -> None:
        self.run("rm", "--force", self.name, ok=False)
        volumes = [volume.partition(":")[0] for volume in compose_service()["volumes"]]
        self.run("volume", "rm", "--force", *(f"{self.name}-{volume}" for volume in volumes), ok=False)


@pytest.fixture(scope="module")
def container() -> Iterator[Container]:
    one = Container(working_engine())
    try:
        one.start()
        one.wait_ready()
        yield one
    finally:
        one.remove()


@pytest.fixture(scope="module")
def http(container: Container) -> Iterator[httpx2.Client]:
    key = container.inside("cat", "/var/lib/vultus/security/admin.key").strip()
    with httpx2.Client(base_url=container.address, headers={"X-Api-Key": key}, timeout=60, trust_env=False) as client:
        yield client


def test_the_image_is_small(container: Container) -> None:
    sizes = container.inside(
        "du", "--summarize", "--apparent-size", "--block-size=MB", "/opt/vultus", "/var/lib/vultus/packs"
    )
    assert sum(int(line.partition("MB")[0]) for line in sizes.splitlines()) <= MAX_IMAGE_MB, sizes


def test_nothing_in_the_container_has_more_rights_than_it_needs(container: Container) -> None:
    status = dict(
        line.split(":\t", 1) for line in container.inside("cat", "/proc/1/status").splitlines() if ":\t" in line
    )
    assert status["Uid"].split() == ["10001"] * 4
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"].strip() == "1"
    refused = container.run("exec", container.name, "touch", "/opt/vultus/a", ok=False)
    assert "Read-only file system" in refused
    for tool in ("hatchling", "pytest"):
        assert "not found" in container.run("exec", container.name, "sh", "-c", f"command -v {tool} || echo not found")


def test_a_request_needs_the_key_of_the_first_start(container: Container, http: httpx2.Client, photos: Path) -> None:
    photo = (photos / "astronaut.png").read_bytes()
    files = {"probe": photo, "reference": altered(photos / "astronaut.png")}
    assert httpx2.post(f"{container.address}/v1/verify", files=files, trust_env=False, timeout=60).status_code == 401
    answer = http.post("/v1/verify", files=files).json()
    assert answer["decision"] == "match"


def test_galleries_are_encrypted_and_outlive_the_container(
    container: Container, http: httpx2.Client, photos: Path
) -> None:
    photo = (photos / "astronaut.png").read_bytes()
    http.post("/v1/galleries", json={"gallery": "staff"}).raise_for_status()
    http.post("/v1/galleries/staff/subjects/ada/templates", files={"images": photo}).raise_for_status()
    status = json.loads(container.inside("vultus", "encryption", "status", "--json"))
    assert (status["encrypted"], status["unfinished"]) == (True, False)
    assert container.stop() == 0
    container.start()
    container.wait_ready()
    (face,) = http.post("/v1/identify", files={"images": photo}, data={"gallery": "staff"}).json()["items"][0]["faces"]
    assert face["candidates"][0]["subject"] == "ada"


def test_the_doctor_finds_no_fault(container: Container) -> None:
    output = container.run("exec", container.name, "vultus", "doctor", "--json", ok=False)
    assert {finding["code"] for finding in json.loads(output) if finding["level"] == "warning"} <= {"no_backup"}


def test_the_log_names_no_key(container: Container, http: httpx2.Client) -> None:
    log = container.run("logs", container.name)
    assert http.headers["X-Api-Key"] not in log
    assert len(log) < MAX_MEBIBYTES_OF_LOG << 20
