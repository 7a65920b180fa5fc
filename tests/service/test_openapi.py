"""The document that clients are generated from: a reviewed snapshot, and requests made from it."""

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

from models.assembly import Models
from service.app import create_app
from service.settings import Settings

SNAPSHOT = Path(__file__).parent / "openapi.snapshot.json"


def test_the_document_is_the_reviewed_one(client: TestClient) -> None:
    """After a change on purpose: REVIEW_OPENAPI=1 pytest -k reviewed, then read the difference."""
    document = json.dumps(client.get("/openapi.json").json(), indent=1) + "\n"
    if os.environ.get("REVIEW_OPENAPI"):
        SNAPSHOT.write_text(document)
    assert json.loads(document) == json.loads(SNAPSHOT.read_text())


def test_every_operation_documents_its_problems_and_shows_an_example(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) == {"/v1/detect", "/v1/embed", "/v1/verify", "/v1/info", "/healthz", "/readyz"}
    for path in ("/v1/detect", "/v1/embed", "/v1/verify"):
        operation = paths[path]["post"]
        assert "example" in operation["requestBody"]["content"]["application/json"]
        assert {"400", "413", "415", "422"} <= set(operation["responses"])


OPERATIONS = [
    ("/v1/detect", "POST"),
    ("/v1/embed", "POST"),
    ("/v1/verify", "POST"),
    ("/v1/info", "GET"),
    ("/healthz", "GET"),
    ("/readyz", "GET"),
]
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_answers_what_it_documents_whatever_is_sent(
    fake_models: Models, path: str, method: str, mode: GenerationMode
) -> None:
    api = schemathesis.openapi.from_asgi("/openapi.json", create_app(fake_models, Settings()))

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=api[path][method].as_strategy(generation_mode=mode))
    def send(case: "schemathesis.Case[Any]") -> None:
        case.call_and_validate(checks=CHECKS)

    try:
        send()
    except Unsatisfiable:  # nothing can be wrong about a request that has no body and no parameters
        assert mode is GenerationMode.NEGATIVE
        assert method == "GET"
