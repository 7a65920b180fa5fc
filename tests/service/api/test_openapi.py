"""The OpenAPI document: a reviewed snapshot, and requests that are generated from it."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from models.serving.models import Models
from service.api.access import PUBLIC_PATHS
from service.api.intake.members import TIMEOUT_HEADER
from service.gallery.galleries import Galleries
from service.settings import HttpSettings, Settings
from tests.client import guarded_client

SNAPSHOT = Path(__file__).parent / "openapi.snapshot.json"


def test_the_document_is_the_reviewed_one(client: TestClient) -> None:
    """After an intended change, run REVIEW_OPENAPI=1 pytest -k reviewed and review the difference."""
    document = json.dumps(client.get("/openapi.json").json(), indent=1) + "\n"
    if os.environ.get("REVIEW_OPENAPI"):
        SNAPSHOT.write_text(document)
    assert json.loads(document) == json.loads(SNAPSHOT.read_text())


def test_every_operation_documents_its_problems_and_shows_an_example(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert {(path, method.upper()) for path, methods in paths.items() for method in methods} == set(OPERATIONS)
    for path, method in OPERATIONS:
        operation = paths[path][method.lower()]
        body = operation.get("requestBody", {"content": {}})["content"]
        if "application/json" in body:
            assert "example" in body["application/json"]
            assert {"400", "413", "415", "422"} <= set(operation["responses"])
        if "{gallery}" in path:
            assert "404" in operation["responses"]


GALLERY = "/v1/galleries/{gallery}"
KEY = "/v1/keys/{key_id}"
SUBJECT = f"{GALLERY}/subjects/{{subject}}"
OPERATIONS = [
    ("/metrics", "GET"),
    ("/v1/detect", "POST"),
    ("/v1/embed", "POST"),
    ("/v1/verify", "POST"),
    ("/v1/identify", "POST"),
    ("/v1/galleries", "POST"),
    ("/v1/galleries", "GET"),
    (GALLERY, "GET"),
    (GALLERY, "PATCH"),
    (GALLERY, "DELETE"),
    (f"{GALLERY}/verify", "POST"),
    (f"{GALLERY}/rebuild", "POST"),
    (f"{GALLERY}/export", "GET"),
    (f"{GALLERY}/import", "POST"),
    (f"{GALLERY}/templates", "POST"),
    (f"{GALLERY}/subjects", "POST"),
    (f"{GALLERY}/subjects", "GET"),
    (SUBJECT, "GET"),
    (SUBJECT, "PATCH"),
    (SUBJECT, "DELETE"),
    (f"{SUBJECT}/merge", "POST"),
    (f"{SUBJECT}/templates", "POST"),
    (f"{SUBJECT}/templates/{{template}}", "DELETE"),
    (f"{SUBJECT}/templates/{{template}}/crop", "GET"),
    ("/v1/keys", "POST"),
    ("/v1/keys", "GET"),
    (KEY, "GET"),
    (KEY, "DELETE"),
    (f"{KEY}/rotate", "POST"),
    ("/v1/audit", "GET"),
    ("/v1/backup", "POST"),
    ("/v1/info", "GET"),
    ("/v1/access", "GET"),
    ("/v1/calibration", "GET"),
    ("/v1/parity", "GET"),
    ("/v1/reports", "GET"),
    ("/v1/reports/{name}", "GET"),
    ("/healthz", "GET"),
    ("/livez", "GET"),
    ("/startupz", "GET"),
    ("/readyz", "GET"),
]
KEY_HEADERS = {"authorization", "x-api-key"}
STREAMED = {
    f"{GALLERY}/templates",
    f"{GALLERY}/import",
    "/v1/identify",
}  # an invalid line is reported in the lines of the response


@schemathesis.check
def no_server_error_but_the_deadline(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: "schemathesis.Case[Any]"
) -> None:
    """Allow no server error but 504, which is correct if the request sets a very short time limit."""
    if response.status_code == 504 and TIMEOUT_HEADER in (case.headers or {}):
        assert response.json()["code"] == "deadline_exceeded"
    else:
        not_a_server_error(ctx, response, case)


CHECKS = [
    no_server_error_but_the_deadline,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@schemathesis.serializer("application/x-ndjson")
def as_lines(_: Any, value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else json.dumps(value).encode() + b"\n"


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize("requests", [12, pytest.param(80, marks=pytest.mark.full)])
def test_responses_conform_to_the_document_for_any_request(
    fake_models: Models,
    galleries: Galleries,
    tmp_path: Path,
    path: str,
    method: str,
    mode: GenerationMode,
    requests: int,
) -> None:
    trusting = Settings(http=HttpSettings(trusted_hosts=("testserver",)))  # the host that schemathesis names
    with guarded_client(fake_models, galleries, tmp_path / "security", trusting) as guarded:
        api = schemathesis.openapi.from_asgi("/openapi.json", guarded.client.app)
        admin = guarded.key("admin")

        @settings(max_examples=requests, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=api[path][method].as_strategy(generation_mode=mode))
        def send(case: "schemathesis.Case[Any]") -> None:
            case.headers = _without_keys(case.headers)
            if path not in PUBLIC_PATHS:
                assert case.call().status_code in (400, 401)
            checks = CHECKS if path in STREAMED else [*CHECKS, negative_data_rejection]
            case.call_and_validate(checks=checks, headers=admin)

        try:
            send()
        except Unsatisfiable:  # a request without a body and parameters cannot be invalid
            assert mode is GenerationMode.NEGATIVE
            assert "requestBody" not in api[path][method].definition.raw


def _without_keys(headers: Any) -> Any:
    """Return generated headers without generated keys."""
    return headers and {name: value for name, value in headers.items() if name.lower() not in KEY_HEADERS}
