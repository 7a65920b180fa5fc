"""One request in three forms: multipart, a raw image, or base64 in JSON. The same members, the same answer.

Bodies are counted while they arrive and stay in memory: a photo of a person never touches the disk.
"""

import json
from collections.abc import AsyncGenerator
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
    TooManyImages,
)
from service.settings import RequestSettings

Schema = TypeVar("Schema", bound=BaseModel)

_MULTIPART, _JSON, _BINARY = "multipart/form-data", "application/json", "application/octet-stream"
_MAX_FIELDS = 16
_ERRORS: dict[str, type[RequestError]] = {
    "missing": MemberMissing,
    "extra_forbidden": MemberUnknown,
    "base64_malformed": Base64Malformed,
}


async def read_images(request: Request, schema: type[Schema], limits: RequestSettings) -> Schema:
    """Read a request whose photos are in the repeated member `images`; a raw body is one photo.

    Options may stand in the body or in the query, not in both.

    Raises:
        RequestError: One of its kinds, naming the part that is meant.
    """
    media_type = _media_type(request.headers.get("content-type"))
    if media_type.startswith("image/") or media_type == _BINARY:
        members: dict[str, Any] = {"images": [await _body(request, limits)]}
    elif media_type == _MULTIPART:
        members = await _form(request, limits, {"images"}, repeated="images")
    else:
        members = await _json(request, media_type, limits)
    for name, value in _query(request).items():
        if name in members:
            raise _at(MemberRepeated(f"{name!r} is given in the query and in the body"), name)
        members[name] = value
    images = members.get("images")
    if isinstance(images, list | tuple) and len(images) > limits.max_images:
        raise TooManyImages(f"{len(images)} images were sent; at most {limits.max_images} are accepted")
    return _validate(schema, members)


async def read_sides(request: Request, schema: type[Schema], sides: tuple[str, ...], limits: RequestSettings) -> Schema:
    """Read a request with one photo in each of the members `sides`, which a raw body cannot carry.

    Raises:
        RequestError: One of its kinds, naming the part that is meant.
    """
    for name in _query(request):
        raise _at(MemberUnknown(f"the parameter {name!r} belongs into the body of this request"), name)
    media_type = _media_type(request.headers.get("content-type"))
    if media_type == _MULTIPART:
        form = await _form(request, limits, set(sides))
        members = {name: {"image": value} if name in sides else value for name, value in form.items()}
    else:
        members = await _json(request, media_type, limits)
    return _validate(schema, members)


def _media_type(header: str | None) -> str:
    return (header or "").partition(";")[0].strip().lower()


def _query(request: Request) -> dict[str, str]:
    for name in request.query_params:
        if len(request.query_params.getlist(name)) > 1:
            raise _at(MemberRepeated(f"the parameter {name!r} is given several times"), name)
    return dict(request.query_params)


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
    try:
        members = json.loads(
            await _body(request, limits), object_pairs_hook=_without_repetition, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError) as error:
        raise JsonMalformed(f"the body is not JSON: {error}") from error
    if not isinstance(members, dict):
        raise JsonMalformed("the body is JSON, but not an object")
    return members


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise _at(MemberRepeated(f"the member {name!r} is given several times"), name)
        members[name] = value
    return members


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


async def _form(
    request: Request, limits: RequestSettings, images: set[str], repeated: str | None = None
) -> dict[str, Any]:
    """Read a multipart form; the parts `images` are files, `repeated` becomes a list, all others are given once."""
    members: dict[str, Any] = {}
    for name, value in await _parts(request, limits):
        if name in images and isinstance(value, str):
            raise _at(MemberInvalid(f"the part {name!r} is text; send the image as a file"), name)
        if name == repeated:
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


def _validate(schema: type[Schema], members: dict[str, Any]) -> Schema:
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


def _at(error: RequestError, part: str) -> RequestError:
    error.part = part
    return error
