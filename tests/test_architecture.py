"""Imports point one way: api, cli -> operations -> gallery, pipeline -> detection, alignment, embedding -> runtime."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

LAYERS = [  # the modules and packages of `models`; each may import only the ones before it
    "errors",
    "types",
    "text",
    "photo_folders",
    "extras",
    "artefact",
    "hub",
    "deadline",
    "pickles",
    "synthetic",
    "imaging",
    "runtime",
    "alignment",
    "detection",
    "embedding",
    "fusion",
    "pipeline",
    "quality",
    "calibration",
    "packs",
    "serving",
    "graph",
    "checkpoint",
    "backbones",
    "evaluation",
    "export",
]
ENGINES = {"onnxruntime", "openvino", "tensorrt"}
NEVER_SERVED = {
    *("models.hub", "models.graph", "models.checkpoint", "models.backbones", "models.evaluation", "models.export")
}
HEAVY = {"torch", "scipy", "onnx", "onnx_ir", "matplotlib", "jinja2", "safetensors", "sklearn", "huggingface_hub"}


def modules(folder: str) -> list[Path]:
    path = ROOT / folder
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def roots(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


def imported(code: str) -> set[str]:
    """Return the names of the modules that a new process has loaded after it ran some code."""
    code = f"{code}\nimport sys; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


@pytest.mark.parametrize("path", modules("models"), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_core_does_not_import_the_service(path: Path) -> None:
    assert not roots(path) & {"service", "fastapi", "starlette", "uvicorn", "tests"}


@pytest.mark.parametrize("path", modules("service"), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_service_imports_no_engine(path: Path) -> None:
    assert not roots(path) & (ENGINES | {"torch", "tests"})


@pytest.mark.parametrize("position", range(len(LAYERS)), ids=LAYERS)
def test_a_layer_of_the_core_imports_only_layers_before_it(position: int) -> None:
    later = {f"models.{layer}" for layer in LAYERS[position + 1 :]}
    for path in modules(f"models/{LAYERS[position]}"):
        assert not {".".join(name.split(".")[:2]) for name in imports(path)} & later, path


def test_every_layer_of_the_core_is_listed() -> None:
    found = {path.stem for path in (ROOT / "models").iterdir() if path.is_dir() or path.suffix == ".py"}
    assert found - {"__init__", "__pycache__"} == set(LAYERS)


def test_operations_and_galleries_import_neither_http_nor_the_command_line() -> None:
    for path in [*modules("service/operations"), *modules("service/gallery"), *modules("service/backup")]:
        assert not roots(path) & {"fastapi", "starlette", "pydantic", "typer", "rich"}, path
        assert not any(name.startswith(("service.api", "service.cli")) for name in imports(path)), path
    for path in modules("service/gallery"):
        assert not any(name.startswith(("service.operations", "models.pipeline")) for name in imports(path)), path


def test_the_api_and_the_command_line_do_not_import_each_other() -> None:
    for path in modules("service/api"):
        assert not any(name.startswith("service.cli") for name in imports(path)), path
    for path in modules("service/cli"):
        assert not any(name.startswith("service.api") for name in imports(path)), path


def test_the_apis_of_other_products_import_neither_each_other_nor_routes_of_the_own_one() -> None:
    names = ("compreface", "rekognition")
    for name, other in (names, names[::-1]):
        for path in modules(f"service/compat/{name}"):
            refused = (f"service.compat.{other}", "service.api.routes", "service.api.wire", "service.cli")
            assert not any(imported.startswith(refused) for imported in imports(path)), path
    for path in modules("service"):
        allowed = {"service/app.py", "service/settings.py", "service/cli/serve.py"}
        own = path.is_relative_to(ROOT / "service/compat") or str(path.relative_to(ROOT)) in allowed
        assert own or not any(imported.startswith("service.compat") for imported in imports(path)), path


def test_the_client_imports_nothing_of_the_server_and_only_commands_import_it() -> None:
    allowed = ("service.client", "service.version")
    for path in modules("service/client"):
        assert not roots(path) & {"models", "fastapi", "starlette", "pydantic", "typer"}, path
        assert all(name.startswith(allowed) for name in imports(path) if name.startswith("service")), path
    for path in modules("service"):
        own = path.is_relative_to(ROOT / "service/client") or path.is_relative_to(ROOT / "service/cli")
        assert own or not any(name.startswith("service.client") for name in imports(path)), path


def test_only_the_index_imports_faiss() -> None:
    for path in [*modules("models"), *modules("service")]:
        assert "faiss" not in roots(path) or path.is_relative_to(ROOT / "service/gallery/index"), path


def test_the_hub_is_reached_in_one_package_only_and_never_by_what_serves() -> None:
    for path in [*modules("models"), *modules("service")]:
        if "huggingface_hub" in roots(path):
            assert path.is_relative_to(ROOT / "models/hub"), path
    for path in [*modules("models/serving"), ROOT / "models/packs/store.py", ROOT / "service/cli/serve.py"]:
        assert not any(name.startswith(("models.hub", "models.packs.sources")) for name in imports(path)), path


def test_packs_are_listed_and_fetched_without_the_extras_of_export_and_hub() -> None:
    loaded = {name.partition(".")[0] for name in imported("import service.cli.packs")}
    assert not loaded & {"torch", "yaml", "safetensors", "onnxscript", "huggingface_hub"}


def test_each_engine_is_imported_in_one_file_only() -> None:
    allowed = {"onnxruntime": "models/runtime/onnxruntime_engine.py", "openvino": "models/runtime/openvino_engine.py"}
    for path in modules("models"):
        for engine in roots(path) & set(allowed):
            assert str(path.relative_to(ROOT)) == allowed[engine]
        if "torch" in roots(path):
            assert path.is_relative_to(ROOT / "models/export") or path.is_relative_to(ROOT / "models/backbones")


@pytest.mark.parametrize(
    "folder", ["service/api", "service/operations", "service/gallery", "service/backup", "service/app"]
)
def test_serving_code_does_not_import_export_or_evaluation(folder: str) -> None:
    for path in modules(folder):
        assert not any(name.startswith(tuple(NEVER_SERVED)) for name in imports(path)), path


def test_importing_the_application_loads_no_export_or_evaluation_code() -> None:
    loaded = imported("import service.app, service.cli.serve, models.serving.load")
    assert not {name.partition(".")[0] for name in loaded} & HEAVY
    assert not {".".join(name.split(".")[:2]) for name in loaded} & NEVER_SERVED


def test_loading_the_default_pack_loads_no_export_or_evaluation_code() -> None:
    code = "from service.startup import load_configured_models; load_configured_models().close()"
    loaded = imported(code)
    assert not {name.partition(".")[0] for name in loaded} & HEAVY
    assert not {".".join(name.split(".")[:2]) for name in loaded} & NEVER_SERVED
