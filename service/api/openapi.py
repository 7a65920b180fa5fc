"""The parts of the OpenAPI document that FastAPI cannot see: bodies in three forms, problems, examples."""

from typing import Any

from pydantic import BaseModel

_IMAGE = {"type": "string", "format": "binary"}
_QUERY_NOTE = "Here or in the body, not in both; a raw body has no other place for it."


def images_body(schema: type[BaseModel]) -> dict[str, Any]:
    """Describe a body of photos: multipart, one raw image, or JSON."""
    options = _options(schema, {"images"})
    multipart = {
        "type": "object",
        "required": ["images"],
        "additionalProperties": False,
        "properties": {"images": {"type": "array", "minItems": 1, "items": _IMAGE}, **options},
    }
    return {
        "parameters": [
            {"name": name, "in": "query", "required": False, "description": _QUERY_NOTE, "schema": option}
            for name, option in options.items()
        ],
        "requestBody": _body(
            {
                "multipart/form-data": {"schema": multipart},
                "image/*": {"schema": _IMAGE},
                "application/octet-stream": {"schema": _IMAGE},
                "application/json": {
                    "schema": _inline(schema),
                    "example": {"images": ["<base64 of a JPEG>"], "faces": "all"},
                },
            }
        ),
    }


def sides_body(schema: type[BaseModel], sides: tuple[str, ...]) -> dict[str, Any]:
    """Describe a body with one photo in each side: multipart or JSON."""
    multipart = {
        "type": "object",
        "required": list(sides),
        "additionalProperties": False,
        "properties": {**dict.fromkeys(sides, _IMAGE), **_options(schema, set(sides))},
    }
    example = {
        **{side: {"image": "<base64 of a JPEG>"} for side in sides},
        "faces": "single",
        "operating_point": "fmr_1e-3",
    }
    return {
        "requestBody": _body(
            {
                "multipart/form-data": {"schema": multipart},
                "application/json": {"schema": _inline(schema), "example": example},
            }
        )
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
