"""Parsing of requests in three forms with the same members: multipart, a raw image, or JSON with base64.

Bodies stay in memory; photos of people are never written to the disk.
"""

from collections.abc import Collection
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import Headers, QueryParams

from service.api.intake.body import ReceivedRequest, bare_media_type
from service.api.intake.forms import list_name, read_form
from service.api.intake.member_errors import at, unknown
from service.api.intake.photos import is_binary, photo_bytes
from service.errors import (
    Base64Malformed,
    MediaTypeUnsupported,
    MemberInvalid,
    MemberMissing,
    MemberRepeated,
    MemberUnknown,
    RequestError,
    TooManyEmbeddings,
    TooManyImages,
)
from service.settings import RequestSettings
from service.strict_json import parse_object

Schema = TypeVar("Schema", bound=BaseModel)

NDJSON = "application/x-ndjson"
TIMEOUT_HEADER = "X-Request-Timeout-Ms"

_MULTIPART, _JSON, _URLENCODED = "multipart/form-data", "application/json", "application/x-www-form-urlencoded"
_BINARY = {"application/octet-stream", "binary/octet-stream", "image", "*/*"}
_MAX_MEMBERS = 64  # of an object; more than any schema has
_MAX_DEPTH = 3  # of objects in objects, as in schemas
_MAX_DIGITS = 9  # maximum length of the header of the time limit
_ERRORS: dict[str, type[RequestError]] = {
    "missing": MemberMissing,
    "extra_forbidden": MemberUnknown,
    "base64_malformed": Base64Malformed,
}


def read_images(
    received: ReceivedRequest, schema: type[Schema], limits: RequestSettings, repeatable: Collection[str] = ()
) -> Schema:
    """Parse a request with photos in the repeated member `images`; a raw body is one photo.

    Each option may be in the body or in the query, not in both.

    Args:
        received: The request.
        schema: Schema of the members.
        limits: Limits of requests.
        repeatable: Names of the options that may be repeated.

    Raises:
        RequestError: The request is invalid; the subclass says how, and `part` names the member.
    """
    if received.media_type == _MULTIPART:
        many = {"images", *repeatable}
        members = read_form(received, limits, schema.model_fields, {"images"}, (), many)
    elif (photo := _raw_photo(received)) is not None:
        members = {"images": [photo]}
    else:
        members = _json(received)
    for name, value in _query(received.query, repeatable).items():
        if name in members:
            raise at(MemberRepeated(f"{name!r} is given both in the query and in the body"), name)
        members[name] = value
    refuse_too_many(members, limits)
    return validate(schema, members)


def read_sides(
    received: ReceivedRequest,
    schema: type[Schema],
    sides: tuple[str, ...],
    limits: RequestSettings,
    repeatable: Collection[str] = (),
) -> Schema:
    """Parse a request with two sides, each a photo, an embedding or a subject; a raw body is not supported.

    In a form, a side is a photo as a file, or JSON as text: `-F reference='{"gallery": "staff", "subject": "ann"}'`.

    Args:
        received: The request.
        schema: Schema of the members.
        sides: Names of the two sides.
        limits: Limits of requests.
        repeatable: Names of the options that may be repeated.

    Raises:
        RequestError: The request is invalid; the subclass says how, and `part` names the member.
    """
    _refuse_query(received)
    if received.media_type == _MULTIPART:
        members = read_form(received, limits, schema.model_fields, (), sides, repeatable)
    else:
        members = _json(received)
    return validate(schema, members)


def read_members(received: ReceivedRequest, schema: type[Schema]) -> Schema:
    """Parse a request that accepts only a JSON object.

    Raises:
        RequestError: The request is invalid; the subclass says how, and `part` names the member.
    """
    _refuse_query(received)
    return validate(schema, _json(received))


def read_query(request: Request, schema: type[Schema], repeatable: Collection[str] = ()) -> Schema:
    """Parse the query parameters of a request.

    Args:
        request: The request.
        schema: Schema of the parameters.
        repeatable: Names of the parameters that may be repeated.

    Raises:
        RequestError: A parameter is invalid; the subclass says how, and `part` names the parameter.
    """
    return validate(schema, _query(request.query_params, repeatable))


def validate(schema: type[Schema], members: dict[str, Any]) -> Schema:
    """Validate members against their schema.

    Raises:
        RequestError: A member is invalid; the subclass says how, and `part` names the member.
    """
    _refuse_large_objects(members)
    try:
        return schema.model_validate(members)
    except ValidationError as error:
        errors = error.errors(include_input=False, include_url=False)
        first = errors[0]
        if first["type"] == "missing":  # a misspelt name also makes another one missing
            first = next((entry for entry in errors if entry["type"] == "extra_forbidden"), first)
        place = ".".join(str(step) for step in first["loc"])
        kind = _ERRORS.get(first["type"], MemberInvalid)
        if kind is MemberUnknown:
            raise unknown("member", place, schema.model_fields if len(first["loc"]) == 1 else ()) from error
        sentence = f"{place!r} is missing" if kind is MemberMissing else f"{place!r}: {first['msg']}"
        raise at(kind(sentence), place) from error


def _refuse_large_objects(members: dict[str, Any], place: str = "", depth: int = 1) -> None:
    """Reject objects with many members before each of them becomes an error of its own, which takes much memory.

    Raises:
        MemberInvalid: An object has more members than any schema.
    """
    if len(members) > _MAX_MEMBERS:
        owner = repr(place) if place else "the body"
        raise at(MemberInvalid(f"{owner} has {len(members)} members; at most {_MAX_MEMBERS} are accepted"), place)
    for name, value in members.items():
        if name == "metadata" or depth > _MAX_DEPTH:  # metadata have their own limit
            continue
        for number, entry in enumerate(value if isinstance(value, list) else (value,)):
            if isinstance(entry, dict):
                inner = f"{name}.{number}" if isinstance(value, list) else name
                _refuse_large_objects(entry, f"{place}.{inner}".lstrip("."), depth + 1)


def refuse_too_many(members: dict[str, Any], limits: RequestSettings) -> None:
    """Reject too many images or embeddings before each of them is validated.

    Raises:
        TooManyImages: The request contains more images than allowed.
        TooManyEmbeddings: The request contains more embeddings than allowed.
    """
    for name, maximum, error in (
        ("images", limits.max_images, TooManyImages),
        ("embeddings", limits.max_embeddings, TooManyEmbeddings),
    ):
        received = members.get(name)
        if isinstance(received, list | tuple) and len(received) > maximum:
            raise error(f"{len(received)} {name} were sent; at most {maximum} are accepted")


def time_limit(headers: Headers, limits: RequestSettings) -> float:
    """Return the time limit of a request in seconds: the limit in the header, at most the limit in the settings.

    Raises:
        MemberInvalid: The header is not a number of milliseconds.
    """
    value = headers.get(TIMEOUT_HEADER)
    if value is None:
        return limits.timeout_s
    if not (value.isascii() and value.isdigit() and int(value[:_MAX_DIGITS]) > 0 and len(value) <= _MAX_DIGITS):
        raise at(
            MemberInvalid(f"the header {TIMEOUT_HEADER} must be a whole number of milliseconds, at least 1"),
            TIMEOUT_HEADER,
        )
    return min(limits.timeout_s, int(value) / 1000)


def is_ndjson(request: Request) -> bool:
    """Return whether the body is NDJSON."""
    return bare_media_type(request.headers.get("content-type")) == NDJSON


def _refuse_query(received: ReceivedRequest) -> None:
    for name in _query(received.query):
        raise at(MemberUnknown(f"the query parameter {name!r} is not supported here; send it in the body"), name)


def _query(query: QueryParams, repeatable: Collection[str] = ()) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for spelling, value in query.multi_items():
        name, _ = list_name(spelling, repeatable)
        if name in repeatable:
            members.setdefault(name, []).append(value)
        elif name in members:
            raise at(MemberRepeated(f"the parameter {name!r} is given more than once"), name)
        else:
            members[name] = value
    return members


def _raw_photo(received: ReceivedRequest) -> bytes | None:
    """Return the photo that the body is, or None; a body that is declared as something else is one by its bytes."""
    media_type = received.media_type
    if media_type == _JSON:
        return None
    body = received.body()
    if media_type.startswith("image/") or media_type in _BINARY:
        return photo_bytes(body)
    if not is_binary(body):
        return None
    if media_type == _URLENCODED and b"\0" not in body:  # every image has zero bytes
        raise MediaTypeUnsupported(
            "the image lost bytes on its way: `curl -d` removes line ends and zero bytes; use --data-binary with "
            "-H 'Content-Type: image/jpeg'"
        )
    return body


def _json(received: ReceivedRequest) -> dict[str, Any]:
    if received.media_type != _JSON:
        declared = f"the media type {received.media_type!r}" if received.media_type else "no media type"
        hint = (
            "with curl, use -F for a form, or -H 'Content-Type: application/json' for JSON"
            if received.media_type == _URLENCODED
            else "send multipart/form-data or application/json"
        )
        raise MediaTypeUnsupported(f"the body has {declared}; {hint}")
    return parse_object(received.body())
