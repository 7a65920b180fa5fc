"""The parts of the OpenAPI document that FastAPI cannot see: bodies in three forms, problems, examples."""

from typing import Any

from pydantic import BaseModel

from service.api.intake.members import TIMEOUT_HEADER
from service.api.wire.representations import BASE64, MSGPACK

_IMAGE = {"type": "string", "format": "binary"}
TIME_LIMIT = {
    "name": TIMEOUT_HEADER,
    "in": "header",
    "required": False,
    "description": "Milliseconds after which the answer is of no use; the service's own limit if that is less.",
    "schema": {"type": "integer", "minimum": 1},
}
_NEEDED_NOTE = "Needed, here or in the body."
_QUERY_NOTE = "Here or in the body, not in both; a raw body has no other place for it."


def images_body(
    schema: type[BaseModel], example: dict[str, Any] | None = None, lines: type[BaseModel] | None = None
) -> dict[str, Any]:
    """Describe a body of photos: multipart, one raw image, JSON, or lines of JSON where a schema for them is given."""
    inlined = _inline(schema)
    options = {name: option for name, option in inlined["properties"].items() if name not in ("images", "embeddings")}
    needed = [name for name in inlined.get("required", []) if name in options]
    multipart = {
        "type": "object",
        "required": ["images"],
        "additionalProperties": False,
        "properties": {"images": {"type": "array", "minItems": 1, "items": _IMAGE}, **options},
    }
    return {
        "parameters": [
            TIME_LIMIT,
            *(
                {
                    "name": name,
                    "in": "query",
                    "required": False,
                    "description": _NEEDED_NOTE if name in needed else _QUERY_NOTE,
                    "schema": option,
                }
                for name, option in options.items()
            ),
        ],
        "requestBody": _body(
            {
                "multipart/form-data": {"schema": multipart},
                "image/*": {"schema": _IMAGE},
                "application/octet-stream": {"schema": _IMAGE},
                "application/json": {
                    "schema": inlined,
                    "example": example or {"images": ["<base64 of a JPEG>"], "faces": "all"},
                },
                **({"application/x-ndjson": {"schema": _inline(lines)}} if lines else {}),
            }
        ),
    }


def embeddings_content(schema: type[BaseModel]) -> dict[str, Any]:
    """Describe an answer with embeddings in all its forms; FastAPI adds the first."""
    reference = {"schema": {"$ref": f"#/components/schemas/{schema.__name__}"}}
    return {"content": {BASE64: reference, MSGPACK: reference}}


def json_body(schema: type[BaseModel], example: dict[str, Any]) -> dict[str, Any]:
    """Describe a body that is a JSON object and nothing else."""
    return {"requestBody": _body({"application/json": {"schema": _inline(schema), "example": example}})}


def line_body(schema: type[BaseModel], options: type[BaseModel]) -> dict[str, Any]:
    """Describe a body of lines, each a JSON object, with options in the query."""
    return {**query(options), "requestBody": _body({"application/x-ndjson": {"schema": _inline(schema)}})}


def query(schema: type[BaseModel]) -> dict[str, Any]:
    """Describe the parameters of an operation without a body."""
    return {
        "parameters": [
            {"name": name, "in": "query", "required": False, "schema": option}
            for name, option in _options(schema, set()).items()
        ]
    }


def sides_body(schema: type[BaseModel], sides: tuple[str, ...]) -> dict[str, Any]:
    """Describe a body with two sides: multipart or JSON."""
    side = {
        "description": "A photo as a file; or as text the JSON of a side, such as a subject.",
        "anyOf": [_IMAGE, {"type": "string"}],
    }
    multipart = {
        "type": "object",
        "required": list(sides),
        "additionalProperties": False,
        "properties": {**dict.fromkeys(sides, side), **_options(schema, set(sides))},
    }
    example = {
        **{side: {"image": "<base64 of a JPEG>"} for side in sides},
        "faces": "single",
        "operating_point": "fmr_1e-3",
    }
    return {
        "parameters": [TIME_LIMIT],
        "requestBody": _body(
            {
                "multipart/form-data": {"schema": multipart},
                "application/json": {"schema": _inline(schema), "example": example},
            }
        ),
    }


def _body(content: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": content}


def _inline(schema: type[BaseModel]) -> dict[str, Any]:
    """Return a JSON schema without `$defs`, which have no place inside an OpenAPI operation."""
    document = schema.model_json_schema()
    definitions = document.pop("$defs", {})

    def resolve(node: Any) -> Any:
        if isinstance(node, dict):
            reference = node.get("$ref")
            if reference:
                return resolve(definitions[reference.rsplit("/", 1)[1]])
            return {key: resolve(value) for key, value in node.items()}
        return [resolve(entry) for entry in node] if isinstance(node, list) else node

    resolved: dict[str, Any] = resolve(document)
    return resolved


def _options(schema: type[BaseModel], images: set[str]) -> dict[str, Any]:
    properties: dict[str, Any] = _inline(schema)["properties"]
    return {name: option for name, option in properties.items() if name not in images}
