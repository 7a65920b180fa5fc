"""Locks: every package by hash, no addresses, never two builds of one thing."""

import re
import tomllib
from pathlib import Path

import pytest

from tests.conftest import ROOT

LOCKS = ROOT / "deploy" / "locks"
EXTRAS = {"cpu": ["cpu", "heic"], "gpu": ["gpu", "heic"], "dev": ["cpu", "heic", "insightface", "dev"]}


def packages(path: Path) -> list[str]:
    return re.findall(r"^([a-z0-9._-]+)==", path.read_text(), re.MULTILINE)


def canonical(requirement: str) -> str:
    return re.split(r"[\[<>=; ]", requirement)[0].lower().replace("_", "-")


@pytest.mark.parametrize("path", sorted(LOCKS.glob("*.txt")), ids=lambda path: path.stem)
def test_every_package_is_pinned_by_hash_without_an_address(path: Path) -> None:
    text = path.read_text()
    assert "://" not in text
    assert "--index-url" not in text
    for entry in re.split(r"\n(?=[a-z])", text.strip()):
        assert "--hash=sha256:" in entry, entry.splitlines()[0]


@pytest.mark.parametrize(
    ("name", "engine"), [("cpu", "onnxruntime"), ("gpu", "onnxruntime-gpu"), ("dev", "onnxruntime")]
)
def test_there_is_one_onnxruntime_and_one_headless_opencv(name: str, engine: str) -> None:
    found = set(packages(LOCKS / f"{name}.txt"))
    assert {package for package in found if package.startswith("onnxruntime")} == {engine}
    assert {package for package in found if package.startswith("opencv")} == {"opencv-python-headless"}


@pytest.mark.parametrize("name", sorted(EXTRAS))
def test_locks_hold_what_the_project_asks_for(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = list(project["dependencies"])
    for extra in EXTRAS[name]:
        wanted += project["optional-dependencies"][extra]
    assert {canonical(requirement) for requirement in wanted} <= set(packages(LOCKS / f"{name}.txt"))


def test_no_extra_brings_a_second_engine_or_opencv() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert set(extras) == {"cpu", "gpu", "export", "insightface", "heic", "evaluate", "dev"}
    everything = {extra: {canonical(requirement) for requirement in wanted} for extra, wanted in extras.items()}
    carriers = [extra for extra, names in everything.items() if any(name.startswith("onnxruntime") for name in names)]
    assert sorted(carriers) == ["cpu", "gpu"]
    # insightface itself would pull in a second OpenCV and, beside `gpu`, a second ONNX Runtime.
    assert not set.union(*everything.values()) & {"insightface", "opencv-python", "opencv-contrib-python"}
