"""The locks pin every package by hash, contain no addresses, and list no library in two builds."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from models.runtime.gpu import TENSORRT
from tests.conftest import ROOT

LOCKS = ROOT / "deploy" / "locks"
EXTRAS = {
    "cpu": ["cpu", "heic", "tracing"],
    "gpu": ["gpu", "heic", "tracing"],
    "dev": ["cpu", "heic", "hub", "tracing", "evaluate", "insightface", "dev"],
}


def packages(path: Path) -> list[str]:
    return re.findall(r"^([a-z0-9._-]+)==", path.read_text(), re.MULTILINE)


def canonical(requirement: str) -> str:
    return re.split(r"[\[<>=; ]", requirement)[0].lower().replace("_", "-")


@pytest.mark.parametrize("path", sorted(LOCKS.rglob("*.txt")), ids=lambda path: path.stem)
def test_every_package_is_pinned_by_hash_without_an_address(path: Path) -> None:
    text = path.read_text()
    assert "://" not in text
    assert "--index-url" not in text
    for entry in re.split(r"\n(?=[a-z])", text.strip()):
        assert "--hash=sha256:" in entry, entry.splitlines()[0]


def test_every_package_of_node_is_pinned_by_hash_without_an_address() -> None:
    lock = json.loads((ROOT / "tests" / "service" / "compat" / "node" / "package-lock.json").read_text())
    _project, *entries = lock["packages"].values()
    assert len(entries) > 40
    assert all(entry["integrity"].startswith("sha512-") and "resolved" not in entry for entry in entries)


@pytest.mark.parametrize(
    ("name", "engine"), [("cpu", "onnxruntime"), ("gpu", "onnxruntime-gpu"), ("dev", "onnxruntime")]
)
def test_a_lock_has_one_onnxruntime_and_one_headless_opencv(name: str, engine: str) -> None:
    found = set(packages(LOCKS / f"{name}.txt"))
    assert {package for package in found if package.startswith("onnxruntime")} == {engine}
    assert {package for package in found if package.startswith("opencv")} == {"opencv-python-headless"}


@pytest.mark.parametrize("name", sorted(EXTRAS))
def test_locks_contain_the_requirements_of_the_project(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = list(project["dependencies"])
    for extra in EXTRAS[name]:
        requirements += project["optional-dependencies"][extra]
    assert {canonical(requirement) for requirement in requirements} <= set(packages(LOCKS / f"{name}.txt"))


def test_the_locks_of_evaluation_and_of_serving_can_be_installed_together() -> None:
    evaluation = dict(re.findall(r"^(\S+)==(\S+)", (LOCKS / "evaluate.txt").read_text(), re.MULTILINE))
    assert {"jinja2", "matplotlib", "scipy"} <= set(evaluation)
    for name in ("cpu", "gpu"):
        serving = dict(re.findall(r"^(\S+)==(\S+)", (LOCKS / f"{name}.txt").read_text(), re.MULTILINE))
        assert not set(serving) & {"matplotlib", "scipy"}
        assert {package: version for package, version in evaluation.items() if package in serving} == {
            package: version for package, version in serving.items() if package in evaluation
        }


def test_no_extra_installs_a_second_engine_or_opencv() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    serving, others = {"cpu", "gpu", "tensorrt", "heic", "tracing"}, {"export", "evaluate", "hub", "insightface", "dev"}
    assert set(extras) == serving | others
    names_of = {
        extra: {canonical(requirement) for requirement in requirements} for extra, requirements in extras.items()
    }
    carriers = [extra for extra, names in names_of.items() if any(name.startswith("onnxruntime") for name in names)]
    assert sorted(carriers) == ["cpu", "gpu"]
    # The package insightface would install a second OpenCV and, together with `gpu`, a second ONNX Runtime.
    assert not set.union(*names_of.values()) & {"insightface", "opencv-python", "opencv-contrib-python"}


def test_one_tensorrt_is_pinned_for_the_engines_the_provider_and_the_lock() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"]["tensorrt"] == [f"tensorrt-cu13=={TENSORRT}"]
    lock = (LOCKS / "tensorrt.txt").read_text()
    assert re.findall(r"^(\S+)==(\S+)", lock, re.MULTILINE) == [
        (f"tensorrt-cu13{part}", TENSORRT) for part in ("", "-bindings", "-libs")
    ]
