"""The client agrees with the OpenAPI document."""

import inspect
import json
import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from service.client import AsyncClient, Client, Embedding, NoAnswer, Subject, calls, lines, schemas
from service.client.parsing import read
from service.client.steps import Call
from tests.service.client.generate import DOCUMENT, TARGET, generate

VECTOR = np.ones(128)
PHOTO = b"\xff\xd8\xff"
CALLS: dict[str, Call[Any]] = {
    "info": calls.info(),
    "detect": calls.detect(PHOTO, dict.fromkeys(schemas.DetectOptions.__annotations__, "x")),
    "embed": calls.embed(PHOTO, dict.fromkeys(schemas.DetectOptions.__annotations__, "x")),
    "verify": calls.verify(PHOTO, VECTOR, dict.fromkeys(schemas.VerifyOptions.__annotations__, "x")),
    "identify": calls.identify(PHOTO, "g", dict.fromkeys(schemas.IdentifyOptions.__annotations__, "x")),
    "identify embeddings": calls.identify(VECTOR, "g", {}),
    "identify_many": lines.identify_lines("g", dict.fromkeys(schemas.IdentifyOptions.__annotations__, "x"), [b"{}\n"]),
    "enrol": calls.enrol("g/1", "s/2", PHOTO, dict.fromkeys(schemas.EnrolOptions.__annotations__, "x")),
    "enrol embeddings": calls.enrol("g", "s", VECTOR, {}),
    "enrol_many": lines.enrol_lines("g", dict.fromkeys(schemas.EnrolOptions.__annotations__, "x"), [b"{}\n"]),
    "erase": calls.erase("g", "s"),
    "create_gallery": calls.create_gallery("g", dict.fromkeys(schemas.GalleryOptions.__annotations__, "x")),
    "galleries": calls.list_galleries("x"),
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(DOCUMENT.read_text())
    return document


def operation_of(call: Call[Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    for path, operations in document["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), call.path):
            operation: Mapping[str, Any] = operations[call.method.lower()]
            return operation
    raise AssertionError(call.path)


def test_the_schemas_are_those_of_the_reviewed_document() -> None:
    if os.environ.get("REVIEW_OPENAPI"):
        TARGET.write_text(generate())
    assert TARGET.read_text() == generate()


@pytest.mark.parametrize("name", CALLS)
def test_path_method_query_and_members_of_each_call_are_documented(name: str, document: dict[str, Any]) -> None:
    call = CALLS[name]
    operation = operation_of(call, document)
    assert {key for key, _ in call.query} <= {parameter["name"] for parameter in operation.get("parameters", ())}
    assert call.accept == "*/*" or call.accept in {
        media_type
        for status, answer in operation["responses"].items()
        if status.startswith("2")
        for media_type in answer["content"]
    } | ({lines.NDJSON} if name == "identify_many" else set())  # which has the content of two media types
    if call.parts:
        form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
        assert {part.name for part in call.parts} <= set(form)
    elif call.content is not None and call.media_type != lines.NDJSON:
        body = operation["requestBody"]["content"][call.media_type]["schema"]["properties"]
        assert set(json.loads(call.content)) <= set(body)
    elif call.content is not None:
        assert call.media_type in operation["requestBody"]["content"]


def test_the_members_of_lines_and_sides_are_documented(document: dict[str, Any]) -> None:
    known = Embedding(VECTOR, 9.0, 50.0, "ec1-x")
    bodies = {path: document["paths"][path]["post"]["requestBody"]["content"] for path in document["paths"] if path in {
        "/v1/identify", "/v1/verify", "/v1/galleries/{gallery}/templates"
    }}  # fmt: skip
    for content in (PHOTO, known):
        line = json.loads(lines.identify_line(content))
        assert set(line) <= set(bodies["/v1/identify"][lines.NDJSON]["schema"]["properties"])
        entry = json.loads(lines.enrol_line(("ann", content)))
        assert set(entry) <= set(bodies["/v1/galleries/{gallery}/templates"][lines.NDJSON]["schema"]["properties"])
    side = bodies["/v1/verify"]["application/json"]["schema"]["properties"]["probe"]
    for part in calls.verify(known, Subject("g", "s"), {}).parts:
        assert set(json.loads(part.content)) <= set(side["properties"])


def test_both_clients_have_the_same_methods_with_the_same_parameters() -> None:
    def methods(kind: type) -> dict[str, list[str]]:
        public = {name: member for name, member in vars(kind).items() if not name.startswith("_")}
        return {name: list(inspect.signature(member).parameters) for name, member in public.items()}

    assert methods(Client) == methods(AsyncClient)
    assert {name.split()[0] for name in CALLS} == set(methods(Client)) - {"close", "request"}


def test_unknown_members_are_ignored_and_missing_ones_are_not() -> None:
    members = {"items": [{"status": "ok", "width": 3, "new": {}, "faces": []}], "also_new": 1}
    answer = read(schemas.DetectResponse, members)
    assert (answer.items[0].width, answer.items[0].faces, answer.items[0].problem) == (3, (), None)
    broken: Any
    for broken in ({}, {"items": [{}]}, {"items": 1}, [], None):
        with pytest.raises(NoAnswer, match="not the service"):
            read(schemas.DetectResponse, broken)
