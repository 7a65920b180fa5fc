"""The container image, without a container engine: its install and start steps run in a fresh environment."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.service.test_end_to_end import free_port

DOCKERFILE = (ROOT / "Dockerfile").read_text()
RUN_TIMEOUT_S, START_TIMEOUT_S = 400, 60


def steps() -> list[str]:
    """Return the commands of the RUN lines between the comments `install` and `end`."""
    blocks = re.findall(r"^# install\n(.*?)^# end$", DOCKERFILE, re.DOTALL | re.MULTILINE)
    return [line.removeprefix("RUN ") for block in blocks for line in block.splitlines() if line.startswith("RUN ")]


def final_stage() -> str:
    """Return what the last stage runs with: its own lines and those of the stage that it starts from."""
    return DOCKERFILE[DOCKERFILE.index("AS runtime") :]


def copied() -> list[str]:
    """Return the paths that the build stage copies from the checkout."""
    lines = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


def test_copies_exactly_what_dockerignore_admits() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(copied()) == allowed


def test_runs_as_an_unprivileged_user_with_a_health_check() -> None:
    final = final_stage()
    assert DOCKERFILE.rindex("FROM runtime AS cpu") > DOCKERFILE.rindex("FROM runtime AS gpu"), "the default is cpu"
    assert re.search(r"^USER 10001:10001$", final, re.MULTILINE)
    assert "/readyz" in final[final.index("HEALTHCHECK") :]
    assert "packs fetch" not in final, "the image must not download while it serves"


def test_compose_runs_the_image_without_privileges() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    service = compose["services"]["vultus"]
    assert service["build"] == {"context": ".", "target": "cpu"}
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    volumes = ["galleries", "security", "encryption", "master", "tunings"]
    places = [f"/var/lib/vultus/{name}" for name in volumes]
    assert service["volumes"] == [f"{name}:{place}" for name, place in zip(volumes, places, strict=True)]
    assert list(compose["volumes"]) == [*volumes, "prometheus"]
    assert f"VOLUME {json.dumps(places)}" in re.sub(r"\s*\\\n\s*", " ", DOCKERFILE)
    assert service["environment"]["VULTUS_ENCRYPTION__MASTER_KEY_FILE"] == "/var/lib/vultus/master/master.key"
    assert service["ports"] == ["127.0.0.1:8000:8000"]


@pytest.mark.full
@pytest.mark.timeout(RUN_TIMEOUT_S + 120)
def test_installs_starts_and_becomes_ready_in_a_fresh_environment(tmp_path: Path) -> None:
    source, home, data = tmp_path / "src", tmp_path / "home", tmp_path / "data"
    for folder in (source, home):
        folder.mkdir()
    for name in copied():
        origin, target = ROOT / name, source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if origin.is_dir():
            shutil.copytree(origin, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(origin, target)
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("PIP_") or name in ("LANG", "SSL_CERT_FILE")
    }
    environment = {**inherited, "HOME": str(home), "VULTUS_DATA_DIR": str(data), "PIP_NO_CACHE_DIR": "1"}
    venv = tmp_path / "vultus"

    def localized(command: str) -> list[str]:
        words = shlex.split(command.replace("/opt/", f"{tmp_path}/"))
        return [sys.executable if word == "python" else word for word in words]

    assert len(steps()) == 9
    for step in steps():
        done = subprocess.run(
            localized(step), cwd=source, env={**environment, "PATH": "/usr/bin:/bin"}, timeout=RUN_TIMEOUT_S,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{step}\n{done.stdout[-2000:]}"

    installed = {path.name.partition("-")[0] for path in venv.glob("lib/python*/site-packages/*.dist-info")}
    assert {name for name in installed if name.startswith("onnxruntime")} == {"onnxruntime"}
    assert {name for name in installed if name.startswith("opencv")} == {"opencv_python_headless"}
    assert not installed & {"torch", "scipy", "matplotlib", "hatchling", "setuptools"}

    shutil.rmtree(source)  # the last stage of the image does not contain the source
    command = re.findall(r'^CMD \["(.+)"\]$', DOCKERFILE, re.MULTILINE)[-1].split('", "')
    health = re.findall(r'CMD \["python", "-c", "(.+?)"\]', DOCKERFILE)[0]
    port = str(free_port())
    command = [word.replace("0.0.0.0", "127.0.0.1").replace("8000", port) for word in command]
    environment["PATH"] = f"{venv / 'bin'}:/usr/bin:/bin"
    with subprocess.Popen(command, env=environment, cwd=tmp_path, executable=venv / "bin" / command[0]) as server:
        try:
            probe = [str(venv / "bin" / "python"), "-c", health.replace("8000", port)]
            deadline = time.monotonic() + START_TIMEOUT_S
            while subprocess.run(probe, env=environment, capture_output=True, check=False).returncode:
                assert server.poll() is None, "the service ended"
                assert time.monotonic() < deadline, "the health check never passed"
        finally:
            server.terminate()
    assert not any(home.iterdir()), "the home directory must stay empty"
