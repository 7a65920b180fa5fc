"""One request in three forms: multipart, a raw image, or base64 in JSON. The same members, the same answer.

Bodies stay in memory: a photo of a person never touches the disk.
"""

from collections.abc import Collection
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import Headers, QueryParams

from service.api.intake.body import ReceivedRequest, bare_media_type
from service.api.intake.multipart import read_parts
from service.errors import (
    Base64Malformed,
    JsonMalformed,
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

_MULTIPART, _JSON, _BINARY = "multipart/form-data", "application/json", "application/octet-stream"
_DIGITS = 9
_ERRORS: dict[str, type[RequestError]] = {
    "missing": MemberMissing,
    "extra_forbidden": MemberUnknown,
    "base64_malformed": Base64Malformed,
}


def read_images(
    received: ReceivedRequest, schema: type[Schema], limits: RequestSettings, many: Collection[str] = ()
) -> Schema:
    """Read a request whose photos are in the repeated member `images`; a raw body is one photo.

    Options may stand in the body or in the query, not in both; those in `many` may be repeated there.

    Raises:
        RequestError: One of its kinds, naming the part that is meant.
    """
    if received.media_type.startswith("image/") or received.media_type == _BINARY:
        members: dict[str, Any] = {"images": [received.body()]}
    elif received.media_type == _MULTIPART:
        members = _form(received, limits, {"images"}, {"images", *many})
    else:
        members = _json(received)
    for name, value in _query(received.query, many).items():
        if name in members:
            raise _at(MemberRepeated(f"{name!r} is given in the query and in the body"), name)
        members[name] = value
    refuse_too_many(members, limits)
    return validate(schema, members)


def read_sides(
    received: ReceivedRequest,
    schema: type[Schema],
    sides: tuple[str, ...],
    limits: RequestSettings,
    many: Collection[str] = (),
) -> Schema:
    """Read a request with two sides, each a photo, or in JSON an embedding or a subject; a raw body has one only.

    A text part of a form is JSON, so that `-F reference='{"gallery": "staff", "subject": "ann"}'` does.

    Raises:
        RequestError: One of its kinds, naming the part that is meant.
    """
    _refuse_query(received)
    if received.media_type == _MULTIPART:
        form = _form(received, limits, set(), set(many))
        members = {name: _side(name, value) if name in sides else value for name, value in form.items()}
    else:
        members = _json(received)
    return validate(schema, members)


def read_members(received: ReceivedRequest, schema: type[Schema]) -> Schema:
    """Read a request that is a JSON object and nothing else.

    Raises:
        RequestError: One of its kinds, naming the member that is meant.
    """
    _refuse_query(received)
    return validate(schema, _json(received))


def read_query(request: Request, schema: type[Schema], many: Collection[str] = ()) -> Schema:
    """Read the parameters of a request.

    Raises:
        RequestError: One of its kinds, naming the parameter that is meant.
    """
    return validate(schema, _query(request.query_params, many))


def validate(schema: type[Schema], members: dict[str, Any]) -> Schema:
    """Check members against their schema.

    Raises:
        RequestError: One of its kinds, naming the member that is meant.
    """
    try:
        return schema.model_validate(members)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(step) for step in first["loc"])
        kind = _ERRORS.get(first["type"], MemberInvalid)
        sentences: dict[type[RequestError], str] = {
            MemberMissing: f"{place!r} is missing",
            MemberUnknown: f"there is no {place!r} in this request",
        }
        raise _at(kind(sentences.get(kind, f"{place!r}: {first['msg']}")), place) from error


def refuse_too_many(members: dict[str, Any], limits: RequestSettings) -> None:
    """Refuse more images or embeddings than are allowed, before they are looked at one by one.

    Raises:
        TooManyImages, TooManyEmbeddings: There are more.
    """
    for name, most, error in (
        ("images", limits.max_images, TooManyImages),
        ("embeddings", limits.max_embeddings, TooManyEmbeddings),
    ):
        received = members.get(name)
        if isinstance(received, list | tuple) and len(received) > most:
            raise error(f"{len(received)} {name} were sent; at most {most} are accepted")


def time_limit(headers: Headers, limits: RequestSettings) -> float:
    """Return the seconds that a request may take: as the client says, at most as the settings allow.

    Raises:
        MemberInvalid: The header is no number of milliseconds.
    """
    wanted = headers.get(TIMEOUT_HEADER)
    if wanted is None:
        return limits.timeout_s
    if not (wanted.isascii() and wanted.isdigit() and int(wanted[:_DIGITS]) > 0 and len(wanted) <= _DIGITS):
        raise _at(MemberInvalid(f"the header {TIMEOUT_HEADER} takes milliseconds, 1 or more"), TIMEOUT_HEADER)
    return min(limits.timeout_s, int(wanted) / 1000)


def is_ndjson(request: Request) -> bool:
    """Whether the body is a stream of lines."""
    return bare_media_type(request.headers.get("content-type")) == NDJSON


def _side(name: str, value: str | bytes) -> dict[str, Any]:
    if isinstance(value, bytes):
        return {"image": value}
    if not value.lstrip().startswith("{"):
        raise _at(MemberInvalid(f"the part {name!r} is text; send an image as a file, or JSON"), name)
    try:
        return parse_object(value)
    except JsonMalformed as error:
        raise _at(error, name) from error


def _refuse_query(received: ReceivedRequest) -> None:
    for name in _query(received.query):
        raise _at(MemberUnknown(f"the parameter {name!r} belongs into the body of this request"), name)


def _query(query: QueryParams, many: Collection[str] = ()) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name in query:
        values = query.getlist(name)
        if len(values) > 1 and name not in many:
            raise _at(MemberRepeated(f"the parameter {name!r} is given several times"), name)
        members[name] = values if name in many else values[0]
    return members


def _json(received: ReceivedRequest) -> dict[str, Any]:
    if received.media_type != _JSON:
        came_with = repr(received.media_type) if received.media_type else "no media type"
        raise MediaTypeUnsupported(f"the body came with {came_with}; send multipart/form-data or application/json")
    return parse_object(received.body())


def _form(received: ReceivedRequest, limits: RequestSettings, files: set[str], many: set[str]) -> dict[str, Any]:
    """Read a multipart form; the parts `files` are photos, those in `many` become lists, all others are given once."""
    members: dict[str, Any] = {}
    for part in read_parts(received.pieces, received.headers.get("content-type", ""), limits.max_images):
        name = part.name
        if part.is_file:
            _refuse_media_type(name, part.content_type)
        elif name in files:
            raise _at(MemberInvalid(f"the part {name!r} is text; send the image as a file"), name)
        value = part.content if part.is_file else part.text
        if name in many:
            members.setdefault(name, []).append(value)
        elif name in members:
            raise _at(MemberRepeated(f"the part {name!r} is given several times"), name)
        else:
            members[name] = value
    return members


def _refuse_media_type(name: str, header: str) -> None:
    media_type = bare_media_type(header)
    if media_type and not media_type.startswith("image/") and media_type != _BINARY:
        raise _at(MediaTypeUnsupported(f"the part {name!r} came as {media_type!r}; send an image"), name)


def _at(error: RequestError, part: str) -> RequestError:
    error.part = part
    return error
