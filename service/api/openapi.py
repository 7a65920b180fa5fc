"""Parts of the OpenAPI document that FastAPI cannot generate: bodies in three forms, parameters, examples."""

from typing import Any

from pydantic import BaseModel

from service.api.example_photo import EXAMPLE_PHOTO
from service.api.intake.members import TIMEOUT_HEADER
from service.api.wire.representations import BASE64, MSGPACK

_IMAGE = {"type": "string", "format": "binary"}
TIME_LIMIT = {
    "name": TIMEOUT_HEADER,
    "in": "header",
    "required": False,
    "description": "Time limit of the request in milliseconds; the limit of the service applies if it is shorter.",
    "schema": {"type": "integer", "minimum": 1},
}
_REQUIRED_NOTE = "Required, either in the query or in the body."
_QUERY_NOTE = "In the query or in the body, not in both. With a raw body, in the query."


def images_body(
    schema: type[BaseModel], example: dict[str, Any] | None = None, lines: type[BaseModel] | None = None
) -> dict[str, Any]:
    """Return the parameters and body of an operation on photos: multipart, one raw image, JSON, or NDJSON.

    The document names the media types that clients should send. The bytes of a photo decide, so others work as well.

    Args:
        schema: Schema of the JSON body; its members other than photos and embeddings are options.
        example: Example of the JSON body.
        lines: Schema of one line; None if the operation does not accept NDJSON.
    """
    inlined = _inline(schema)
    options = {name: option for name, option in inlined["properties"].items() if name not in ("images", "embeddings")}
    required = [name for name in inlined.get("required", []) if name in options]
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
                    "description": _REQUIRED_NOTE if name in required else _QUERY_NOTE,
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
                    "example": example or {"images": [EXAMPLE_PHOTO], "faces": "all"},
                },
                **({"application/x-ndjson": {"schema": _inline(lines)}} if lines else {}),
            }
        ),
    }


def embeddings_content(schema: type[BaseModel]) -> dict[str, Any]:
    """Return the content of a response with embeddings in the forms that FastAPI does not add."""
    reference = {"schema": {"$ref": f"#/components/schemas/{schema.__name__}"}}
    return {"content": {BASE64: reference, MSGPACK: reference}}


def json_body(schema: type[BaseModel], example: dict[str, Any]) -> dict[str, Any]:
    """Return the body of an operation that accepts only a JSON object."""
    return {"requestBody": _body({"application/json": {"schema": _inline(schema), "example": example}})}


def line_body(schema: type[BaseModel], options: type[BaseModel]) -> dict[str, Any]:
    """Return the body of an operation that accepts only NDJSON, with its options as query parameters."""
    return {**query(options), "requestBody": _body({"application/x-ndjson": {"schema": _inline(schema)}})}


def query(schema: type[BaseModel]) -> dict[str, Any]:
    """Return the query parameters of an operation."""
    return {
        "parameters": [
            {"name": name, "in": "query", "required": False, "schema": option}
            for name, option in _options(schema, set()).items()
        ]
    }


def sides_body(schema: type[BaseModel], sides: tuple[str, ...]) -> dict[str, Any]:
    """Return the parameters and body of an operation on two sides: multipart or JSON."""
    side = {
        "description": "A photo as a file or as base64, or the JSON of a side as text, for example a subject.",
        "anyOf": [_IMAGE, {"type": "string"}],
    }
    multipart = {
        "type": "object",
        "required": list(sides),
        "additionalProperties": False,
        "properties": {**dict.fromkeys(sides, side), **_options(schema, set(sides))},
    }
    example = {
        **{side: {"image": EXAMPLE_PHOTO} for side in sides},
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
    """Return a JSON schema with its `$defs` inlined, because an OpenAPI operation cannot contain them."""
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
