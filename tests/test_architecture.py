"""Arrows point one way: api -> pipeline -> detection, alignment, embedding -> runtime."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

ENGINES = {"onnxruntime", "openvino", "tensorrt", "torch"}


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def roots(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


@pytest.mark.parametrize("path", modules("models"), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_core_knows_nothing_of_the_service(path: Path) -> None:
    assert not roots(path) & {"service", "fastapi", "starlette", "uvicorn", "tests"}


@pytest.mark.parametrize("path", modules("service"), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_service_knows_no_engine(path: Path) -> None:
    assert not roots(path) & (ENGINES | {"tests"})


def test_faiss_stays_in_its_room_and_galleries_know_nothing_of_http() -> None:
    for path in [*modules("models"), *modules("service")]:
        assert "faiss" not in roots(path) or path.name in ("vectors.py", "device.py")
    for path in modules("service/gallery"):
        assert not roots(path) & {"fastapi", "starlette", "pydantic", "typer"}
        assert not any(name.startswith(("service.api", "service.cli", "models.pipeline")) for name in imports(path))


def test_engines_are_imported_in_their_own_files_only() -> None:
    allowed = {"onnxruntime": "models/runtime/onnxruntime_engine.py", "openvino": "models/runtime/openvino_engine.py"}
    for path in modules("models"):
        for engine in roots(path) & set(allowed):
            assert str(path.relative_to(ROOT)) == allowed[engine]
        if "torch" in roots(path):
            assert path.is_relative_to(ROOT / "models/export") or path.is_relative_to(ROOT / "models/backbones")


def test_the_service_starts_without_torch() -> None:
    """Whatever it imports on the way, and whatever the exporter needs."""
    code = "import sys, service.app, service.cli, models.assembly; print({'torch', 'safetensors'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "set()"


def test_lower_rooms_do_not_look_up() -> None:
    order = ["errors", "digests", "directories", "pickles", "imaging", "runtime", "graph", "checkpoint", "alignment"]
    order += ["detection", "cropping", "embedding", "artefact", "quality", "calibration", "packs", "pipeline"]
    order += ["assembly", "evaluation"]
    for position, room in enumerate(order):
        files = modules(f"models/{room}") or [ROOT / "models" / f"{room}.py"]
        above = {f"models.{name}" for name in order[position + 1 :]}
        for path in files:
            assert not {".".join(name.split(".")[:2]) for name in imports(path)} & above
