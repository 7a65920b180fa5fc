"""Writes `service/client/schemas.py` from the OpenAPI document: the dataclasses of answers and the options of calls."""

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from tests.conftest import ROOT

DOCUMENT = ROOT / "tests/service/api/openapi.snapshot.json"
TARGET = ROOT / "service/client/schemas.py"

_HEAD = '''"""The answers of the service and the options of calls, generated from its OpenAPI document.

Do not edit: `REVIEW_OPENAPI=1 .venv/bin/python -m pytest -k reviewed` writes this file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray
'''
_ANSWERS = (
    *("InfoResponse", "DetectResponse", "EmbedResponse", "VerifyResponse", "IdentifyResponse", "EnrolResponse"),
    *("GalleryOut", "GalleryPage", "ReceiptOut"),
)
_OPTIONS = {  # name of the options: path of the operation, and its members that the method names itself
    "DetectOptions": ("/v1/detect", {"images"}),
    "VerifyOptions": ("/v1/verify", {"probe", "reference"}),
    "IdentifyOptions": ("/v1/identify", {"images", "embeddings", "gallery"}),
    "EnrolOptions": ("/v1/galleries/{gallery}/subjects/{subject}/templates", {"images", "embeddings"}),
    "GalleryOptions": ("/v1/galleries", {"gallery"}),
}
_SCALARS = {"number": "float", "integer": "int", "string": "str", "boolean": "bool"}
_REFERENCE = "#/components/schemas/"
_WIDTH = 120
_INDENT = " " * 4


def generate() -> str:
    """Return the source of the module."""
    document = json.loads(DOCUMENT.read_text())
    schemas = document["components"]["schemas"]
    blocks = [_dataclass(name, schemas[name]) for name in _in_order(schemas)]
    for name, (path, own) in _OPTIONS.items():
        body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        blocks.append(_options(name, path, {k: v for k, v in body["properties"].items() if k not in own}))
    return "\n\n".join([_HEAD, *blocks])


def _in_order(schemas: Mapping[str, Any]) -> list[str]:
    """Return the names of the schemas of answers, each after those of its members."""
    ordered: list[str] = []

    def visit(name: str) -> None:
        for other in _references(schemas[name]):
            if other != "JsonValue" and other not in ordered:
                visit(other)
        if name not in ordered:
            ordered.append(name)

    for name in _ANSWERS:
        visit(name)
    return ordered


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if "$ref" in schema:
            yield schema["$ref"].removeprefix(_REFERENCE)
        for value in schema.values():
            yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)


def _dataclass(name: str, schema: Mapping[str, Any]) -> str:
    members = schema["properties"]
    identity = ", eq=False" if any(map(_is_embedding, members.values())) else ""  # arrays have no single truth value
    lines = [f"@dataclass(frozen=True, slots=True, kw_only=True{identity})", f"class {_public(name)}:"]
    lines += _docstring(schema["description"], members)
    for member, described in members.items():
        annotation = _annotation(described)
        # A member that may be null may be absent, as in answers to lines.
        default = " = None" if annotation.endswith("| None") else ""
        if not default and member not in schema.get("required", ()):
            default = " = ()" if annotation.startswith("tuple") else f" = {described['default']!r}"
        lines.append(f"{_INDENT}{member}: {annotation}{default}")
    return "\n".join(lines) + "\n"


def _options(name: str, path: str, members: Mapping[str, Any]) -> str:
    lines = [f"class {name}(TypedDict, total=False):"]
    lines += _docstring(f"Options of `POST {path}`; the service has a default for each.", members)
    for member, described in members.items():
        annotation = _annotation(described).replace("tuple[", "Sequence[").replace(", ...]", "]")
        lines.append(f"{_INDENT}{member}: {annotation}")
    return "\n".join(lines) + "\n"


def _docstring(summary: str, members: Mapping[str, Any]) -> list[str]:
    described = {name: schema["description"] for name, schema in members.items() if "description" in schema}
    if not described:
        return [f'{_INDENT}"""{summary}"""', ""]
    lines = [f'{_INDENT}"""{summary}', "", f"{_INDENT}Attributes:"]
    for name, description in described.items():
        lines += textwrap.wrap(
            f"{name}: {description.replace('`null`', '`None`')}",
            _WIDTH,
            initial_indent=_INDENT * 2,
            subsequent_indent=_INDENT * 3,
        )
    return [*lines, f'{_INDENT}"""', ""]


def _annotation(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_REFERENCE)
        return "Any" if name == "JsonValue" else _public(name)
    if _is_embedding(schema):
        return "NDArray[np.float32]"
    if "anyOf" in schema:
        kinds = [_annotation(choice) for choice in schema["anyOf"] if choice.get("type") != "null"]
        nullable = ["None"] if any(choice.get("type") == "null" for choice in schema["anyOf"]) else []
        return " | ".join([*dict.fromkeys(kinds), *nullable])
    if "const" in schema:
        return "str"
    if "enum" in schema:
        return f"Literal[{', '.join(json.dumps(value) for value in schema['enum'])}]"
    if schema["type"] == "array":
        return f"tuple[{_annotation(schema['items'])}, ...]"
    if schema["type"] == "object":
        values = schema["additionalProperties"]
        return f"dict[str, {_annotation(values) if 'type' in values else 'Any'}]"
    return _SCALARS[schema["type"]]


def _is_embedding(schema: Mapping[str, Any]) -> bool:
    return "anyOf" in schema and {"type": "string", "contentEncoding": "base64"} in schema["anyOf"]


def _public(name: str) -> str:
    """Return the name of a schema as the client has it: the schema `FaceOut` is `Face`."""
    return name.removesuffix("Out")
