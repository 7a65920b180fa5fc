"""The pages for clients of other products agree with the surfaces, and their examples run."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.loaders
import pytest
from fastapi.routing import APIRoute

from models.calibration import Calibration
from models.calibration.files import read_calibrations
from models.serving.models import Models
from service.client import Client
from service.compat.compreface import errors as compreface_errors
from service.compat.compreface.intake import ExamplesQuery, RecognizeOptions
from service.compat.compreface.routes import ROUTERS as COMPREFACE_ROUTERS
from service.compat.compreface.similarity import _CURVES, similarity_map
from service.compat.rekognition import errors as rekognition_errors
from service.compat.rekognition.routes import ROUTERS as REKOGNITION_ROUTERS
from service.compat.rekognition.similarity import SimilarityScale
from tests.conftest import ROOT
from tests.service.cli.command import vultus
from tests.service.test_end_to_end import client_of, own_galleries, serving

FOLDER = ROOT / "service" / "compat"
PAGES = sorted(FOLDER.glob("from-*.md"))
OVERVIEW = (FOLDER / "README.md").read_text()
COMPREFACE_PYTHON = ROOT / "build" / "clients" / "compreface" / "bin" / "python"

_CALL = re.compile(r"`(GET|POST|PUT|PATCH|DELETE) (/[^`]*)`")

PRINTED = {
    "from-compreface": ["'subject': 'eileen'", "astronaut.png eileen 0.99", "group.jpg unknown"],
    "from-rekognition": [" eileen\n", "[('eileen', 100)]", "0 match, 6 do not", "['eileen']"],
    "from-insightface-rest": ["ok 1 [0.", "ok 6 [", "(128,) float32", "\nmatch\n", "['eileen']", "['unknown', "],
    "from-deepface": ["match 0.0 fmr_1e-4", "no_match 6 0.0006", "[('eileen', 1.0)]", "(128,) (", "several_faces"],
}
"""Texts that the example of each page prints."""


def section(page: str, heading: str) -> str:
    """Return the text below a heading, up to the next one."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, heading
    return found[1]


def tables(text: str) -> list[list[list[str]]]:
    """Return the cells of the rows of each table, without its head."""
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return [
        [[cell.strip() for cell in row.strip("|").split(" | ")] for row in block.splitlines()[2:]] for block in blocks
    ]


def words(cells: list[str]) -> list[str]:
    """Return what is in backquotes."""
    return [word for cell in cells for word in re.findall(r"`([^`]+)`", cell)]


def first_cells(table: list[list[str]]) -> list[str]:
    return [row[0].strip("| ") for row in table]


def routes_of(routers: Any) -> list[APIRoute]:
    return [route for router in routers for route in router.routes if isinstance(route, APIRoute)]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Run a service with both surfaces; yield the environment of its clients, which also finds its keys."""
    own = own_galleries(tmp_path_factory.mktemp("pages"))
    with (
        serving({**own, "VULTUS_COMPAT__COMPREFACE": "true", "VULTUS_COMPAT__REKOGNITION": "true"}) as server,
        client_of(server) as http,
    ):
        url = str(http.base_url).rstrip("/")
        access_key = make_key(own, "--aws")
        yield {
            **own,
            "COMPREFACE_URL": url,
            "COMPREFACE_API_KEY": make_key(own, "--compreface", "recognition", "--gallery", "staff")["key"],
            "AWS_ENDPOINT_URL_REKOGNITION": url,
            "AWS_ACCESS_KEY_ID": access_key["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": access_key["secret_access_key"],
            "AWS_DEFAULT_REGION": "eu-central-1",
            "VULTUS_CLIENT_URL": url,
        }


def make_key(environment: dict[str, str], *options: str) -> dict[str, Any]:
    done = vultus("keys", "create", " ".join(["key", *options])[:60], *options, "--json", env=environment)
    assert done.returncode == 0, done.stderr
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def python_for(example: str) -> str:
    """Return the interpreter of an example: that of the tests, or that of an SDK with an environment of its own."""
    for package in re.findall(r"^(?:from|import) (\w+)", example, re.MULTILINE):
        if importlib.util.find_spec(package) is None:
            if package == "compreface" and COMPREFACE_PYTHON.exists():
                return str(COMPREFACE_PYTHON)
            pytest.skip(f"the package {package} is not installed")
    return sys.executable


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_the_example_of_a_page_runs(path: Path, environment: dict[str, str], photos: Path) -> None:
    page = path.read_text()
    (example,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    python = python_for(example)
    for scopes in re.findall(r"`vultus keys create \"app\" --scope ([a-z,]+)`", page):
        environment = {**environment, "VULTUS_CLIENT_KEY": make_key(environment, "--scope", scopes)["key"]}
    given = {name: value for name, value in environment.items() if f"`{name}`" in page}
    done = subprocess.run(
        [python, "-c", example],
        cwd=photos,
        env={**given, "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "NO_PROXY": "*"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for text in PRINTED[path.stem]:
        assert text in done.stdout, done.stdout


def test_the_table_of_compreface_has_exactly_the_routes_that_exist() -> None:
    calls, options = tables(section((FOLDER / "from-compreface.md").read_text(), "Calls"))
    documented = [call for cell in first_cells(calls) for call in _CALL.findall(cell)]
    existing = {
        (method, route.path.rstrip("/"))
        for route in routes_of(COMPREFACE_ROUTERS)
        for method in route.methods or ()
        if "{path:path}" not in route.path
    }
    assert set(documented) == existing
    assert len(documented) == len(existing)
    fields = {*RecognizeOptions.model_fields, *ExamplesQuery.model_fields}
    assert sorted(words(first_cells(options))) == sorted(fields)


def test_the_table_of_rekognition_has_exactly_the_operations_that_exist() -> None:
    page = (FOLDER / "from-rekognition.md").read_text()
    documented = words(first_cells(tables(section(page, "Calls"))[0]))
    existing = {route.path.rpartition("/")[2] for route in routes_of(REKOGNITION_ROUTERS)} - {"{operation}"}
    assert set(documented) == existing
    assert len(documented) == len(existing)
    known = set(botocore.loaders.Loader().load_service_model("rekognition", "service-2")["operations"])
    assert existing <= known
    missing = words(re.findall(r"^\* .*(?:\n  .*)*", section(page, "Not there"), re.MULTILINE))
    assert missing
    assert set(missing) <= known - existing


@pytest.mark.parametrize("name", ["from-insightface-rest.md", "from-deepface.md"])
def test_calls_of_the_own_api_that_a_page_names_exist(name: str) -> None:
    document = json.loads((ROOT / "tests/service/api/openapi.snapshot.json").read_text())
    head, *rows = re.findall(
        r"^\|.*\|$", section((FOLDER / name).read_text(), "Calls").partition("\n\n")[0], re.MULTILINE
    )
    assert head.endswith("| over HTTP | Python client |")
    for row in rows[1:]:
        *_, over_http, client = (cell.strip() for cell in row.strip("|").split("|"))
        for method, path in _CALL.findall(over_http):
            assert path == "/docs" or method.lower() in document["paths"][path], path
        methods = [word for word in re.findall(r"`([a-z_]+)(?:\(.*?\))?`", client) if word != "index"]
        assert all(hasattr(Client, method) for method in methods), methods


def test_the_codes_of_compreface_are_all_documented() -> None:
    (table,) = tables(section(OVERVIEW, "Codes of CompreFace"))
    codes = {code for _, code in compreface_errors._CODES.values()} | set(compreface_errors._CODES_OF_PARTS.values())
    codes |= {compreface_errors._UNDEFINED, compreface_errors._FAILED}
    assert {int(cell) for cell in first_cells(table)} == codes
    statuses = {code: status for status, code in compreface_errors._CODES.values()}
    assert all(row[1] == str(statuses[code]) for row in table if (code := int(row[0].strip("| "))) in statuses)


def test_the_types_of_rekognition_are_all_documented() -> None:
    (table,) = tables(section(OVERVIEW, "Types of Rekognition"))
    types = {*rekognition_errors._TYPES.values(), rekognition_errors._INVALID, rekognition_errors._INTERNAL_TYPE}
    assert set(words(first_cells(table))) == types


@pytest.fixture(scope="module")
def calibrations(real_models: Models) -> tuple[Calibration, ...]:
    """The calibrations of the default pack: one for each precision."""
    return read_calibrations(ROOT / "models/packs/manifests/opencv-zoo.calibration.json", real_models.contract_id)


@pytest.fixture(scope="module")
def calibration(calibrations: tuple[Calibration, ...]) -> Calibration:
    """The calibration in the precision that the page names."""
    (calibration,) = [one for one in calibrations if one.conditions["precision"] == "bf16"]
    return calibration


def test_similarities_of_compreface_are_those_of_the_calibration(calibration: Calibration) -> None:
    curves, points = tables(section(OVERVIEW, "Similarities of CompreFace"))
    assert {words(row)[0]: (float(row[1]), float(row[2].strip("| "))) for row in curves} == _CURVES
    maps = [similarity_map(choice, calibration.score_map) for choice in ("probability", "facenet", "arcface-r100")]
    for row, point in zip(points, calibration.points, strict=True):
        expected = [f"`{point.name}`", f"{point.rate:.6f}".rstrip("0"), f"{point.fnmr:.2%}".replace("%", " %")]
        expected += [f"{found.of(point.threshold):.3f}" for found in maps if found]
        assert [cell.strip("| ") for cell in row] == expected
    probability = maps[0]
    assert probability is not None
    least, most = probability.of(-1), probability.of(1)
    assert f"between {least:.3f} and {most:.4f}" in OVERVIEW


def test_similarities_of_rekognition_are_those_of_the_calibration(
    calibration: Calibration, calibrations: tuple[Calibration, ...]
) -> None:
    (points,) = tables(section(OVERVIEW, "Similarities of Rekognition"))
    scale = SimilarityScale.of(calibration)
    assert f"`{scale.meaning}`" in OVERVIEW
    for row, point in zip(points, calibration.points, strict=True):
        rates = [f"{point.rate:.6f}".rstrip("0"), f"{point.fnmr:.2%}".replace("%", " %")]
        expected = [f"{scale.similarity(point.threshold):.1f}", f"`{point.name}`", *rates]
        assert [cell.strip("| ") for cell in row] == expected
    for other in calibrations:
        for point, same in zip(other.points, calibration.points, strict=True):
            similarity = SimilarityScale.of(other).similarity(point.threshold)
            assert abs(similarity - scale.similarity(same.threshold)) < 1
    assert calibration.quality.seen is not None
    assert f"{calibration.quality.seen.min_side_px:.0f} pixels" in OVERVIEW
