"""One request in three forms: multipart, a raw image, or base64 in JSON. The same members, the same answer.

Bodies are counted while they arrive and stay in memory: a photo of a person never touches the disk.
"""

from collections.abc import AsyncGenerator, Collection
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from service.errors import (
    Base64Malformed,
    BodyTooLarge,
    JsonMalformed,
    MediaTypeUnsupported,
    MemberInvalid,
    MemberMissing,
    MemberRepeated,
    MemberUnknown,
    MultipartMalformed,
    RequestError,
    TooManyEmbeddings,
    TooManyImages,
)
from service.settings import RequestSettings
from service.strict_json import parse_object

Schema = TypeVar("Schema", bound=BaseModel)

NDJSON = "application/x-ndjson"

_MULTIPART, _JSON, _BINARY = "multipart/form-data", "application/json", "application/octet-stream"
_MAX_FIELDS = 16
_ERRORS: dict[str, type[RequestError]] = {
    "missing": MemberMissing,
    "extra_forbidden": MemberUnknown,
    "base64_malformed": Base64Malformed,
}


async def read_images(
    request: Request, schema: type[Schema], limits: RequestSettings, many: Collection[str] = ()
) -> Schema:
    """Read a request whose photos are in the repeated member `images`; a raw body is one photo.

    Options may stand in the body or in the query, not in both; those in `many` may be repeated there.

    Raises:
        RequestError: One of its kinds, naming the part that is meant.
    """
    media_type = _media_type(request.headers.get("content-type"))
    if media_type.startswith("image/") or media_type == _BINARY:
        members: dict[str, Any] = {"images": [await _body(request, limits)]}
    elif media_type == _MULTIPART:
        members = await _form(request, limits, {"images"}, {"images", *many})
    else:
        members = await _json(request, media_type, limits)
    for name, value in _query(request, many).items():
        if name in members:
            raise _at(MemberRepeated(f"{name!r} is given in the query and in the body"), name)
        members[name] = value
    refuse_too_many(members, limits)
    return validate(schema, members)


async def read_sides(
    request: Request, schema: type[Schema], sides: tuple[str, ...], limits: RequestSettings, many: Collection[str] = ()
) -> Schema:
    """Read a request with two sides, each a photo, or in JSON an embedding or a subject; a raw body has one only.

    A text part of a form is JSON, so that `-F reference='{"gallery": "staff", "subject": "ann"}'` does.

    Raises:
        RequestError: One of its kinds, naming the part that is meant.
    """
    for name in _query(request):
        raise _at(MemberUnknown(f"the parameter {name!r} belongs into the body of this request"), name)
    media_type = _media_type(request.headers.get("content-type"))
    if media_type == _MULTIPART:
        form = await _form(request, limits, set(), set(many))
        members = {name: _side(name, value) if name in sides else value for name, value in form.items()}
    else:
        members = await _json(request, media_type, limits)
    return validate(schema, members)


async def read_members(request: Request, schema: type[Schema], limits: RequestSettings) -> Schema:
    """Read a request that is a JSON object and nothing else.

    Raises:
        RequestError: One of its kinds, naming the member that is meant.
    """
    for name in _query(request):
        raise _at(MemberUnknown(f"the parameter {name!r} belongs into the body of this request"), name)
    return validate(schema, await _json(request, _media_type(request.headers.get("content-type")), limits))


def read_query(request: Request, schema: type[Schema], many: Collection[str] = ()) -> Schema:
    """Read the parameters of a request.

    Raises:
        RequestError: One of its kinds, naming the parameter that is meant.
    """
    return validate(schema, _query(request, many))


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
        sent = members.get(name)
        if isinstance(sent, list | tuple) and len(sent) > most:
            raise error(f"{len(sent)} {name} were sent; at most {most} are accepted")


def is_ndjson(request: Request) -> bool:
    """Whether the body is a stream of lines."""
    return _media_type(request.headers.get("content-type")) == NDJSON


def _side(name: str, value: str | bytes) -> dict[str, Any]:
    if isinstance(value, bytes):
        return {"image": value}
    if not value.lstrip().startswith("{"):
        raise _at(MemberInvalid(f"the part {name!r} is text; send an image as a file, or JSON"), name)
    try:
        return parse_object(value)
    except JsonMalformed as error:
        raise _at(error, name) from error


def _media_type(header: str | None) -> str:
    return (header or "").partition(";")[0].strip().lower()


def _query(request: Request, many: Collection[str] = ()) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name in request.query_params:
        values = request.query_params.getlist(name)
        if len(values) > 1 and name not in many:
            raise _at(MemberRepeated(f"the parameter {name!r} is given several times"), name)
        members[name] = values if name in many else values[0]
    return members


async def _body(request: Request, limits: RequestSettings) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limits.max_bytes:
        raise BodyTooLarge(f"the body has {announced} bytes; at most {limits.max_bytes} are accepted")
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limits.max_bytes:
            raise BodyTooLarge(f"the body has more than {limits.max_bytes} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


async def _json(request: Request, media_type: str, limits: RequestSettings) -> dict[str, Any]:
    if media_type != _JSON:
        sent = repr(media_type) if media_type else "no media type"
        raise MediaTypeUnsupported(f"the body came with {sent}; send multipart/form-data or application/json")
    return parse_object(await _body(request, limits))


async def _form(request: Request, limits: RequestSettings, files: set[str], many: set[str]) -> dict[str, Any]:
    """Read a multipart form; the parts `files` are photos, those in `many` become lists, all others are given once."""
    members: dict[str, Any] = {}
    for name, value in await _parts(request, limits):
        if name in files and isinstance(value, str):
            raise _at(MemberInvalid(f"the part {name!r} is text; send the image as a file"), name)
        if name in many:
            members.setdefault(name, []).append(value)
        elif name in members:
            raise _at(MemberRepeated(f"the part {name!r} is given several times"), name)
        else:
            members[name] = value
    return members


async def _parts(request: Request, limits: RequestSettings) -> list[tuple[str, bytes | str]]:
    class InMemoryParser(MultiPartParser):
        spool_max_size = limits.max_bytes  # Starlette's own would write larger parts to disk

    body = await _body(request, limits)  # read whole first: a parser that is broken off leaves its files open

    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    parser = InMemoryParser(request.headers, whole(), max_files=limits.max_images + 1, max_fields=_MAX_FIELDS)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if "Too many files" in error.message:
            raise TooManyImages(f"more than {limits.max_images} images were sent") from error
        raise MultipartMalformed(f"the multipart body is malformed: {error.message}") from error
    except KeyError as error:
        raise MultipartMalformed("the multipart body is malformed: its header names no boundary") from error
    parts: list[tuple[str, bytes | str]] = []
    try:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                _refuse_media_type(name, value.content_type)
                parts.append((name, await value.read()))
            else:
                parts.append((name, value))
    finally:
        await form.close()
    return parts


def _refuse_media_type(name: str, header: str | None) -> None:
    media_type = _media_type(header)
    if media_type and not media_type.startswith("image/") and media_type != _BINARY:
        raise _at(MediaTypeUnsupported(f"the part {name!r} came as {media_type!r}; send an image"), name)


def _at(error: RequestError, part: str) -> RequestError:
    error.part = part
    return error
