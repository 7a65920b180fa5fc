"""Members of a request from the parts of its multipart form."""

import json
from collections.abc import Collection
from typing import Any

from service.api.intake.body import ReceivedRequest, bare_media_type
from service.api.intake.member_errors import at, unknown
from service.api.intake.multipart import Part, read_parts
from service.api.intake.photos import is_binary, photo_bytes
from service.base64_text import decode_base64
from service.errors import Base64Malformed, JsonMalformed, MediaTypeUnsupported, MemberInvalid, MemberRepeated
from service.settings import RequestSettings
from service.strict_json import parse_object

_MAX_INDEX_DIGITS = 4


def read_form(
    received: ReceivedRequest,
    limits: RequestSettings,
    known: Collection[str],
    photos: Collection[str],
    sides: Collection[str],
    repeatable: Collection[str],
) -> dict[str, Any]:
    """Parse a multipart form into members.

    A list is sent as repeated parts, which may be named `images`, `images[]` or `images[0]`, as clients of PHP and
    JavaScript name them.

    Args:
        received: The request.
        limits: Limits of requests.
        known: Names of all members.
        photos: Names of the parts that are photos.
        sides: Names of the parts that are a photo or the JSON object of a side.
        repeatable: Names of the parts that may be repeated, and become lists.

    Raises:
        RequestError: The form is invalid; the subclass says how, and `part` names the part.
    """
    named = [
        (*list_name(part.name, repeatable), part)
        for part in read_parts(received.pieces, received.headers.get("content-type", ""), limits.max_images)
    ]
    for name, _, _ in named:  # first, because a misspelt name also makes another one missing
        if name not in known:
            raise unknown("part", name, known)
    members: dict[str, Any] = {}
    lists: dict[str, list[tuple[int | None, Any]]] = {}
    for name, index, part in named:
        value = _photo(part) if name in photos else _side(part) if name in sides else _option(part)
        if name in repeatable:
            lists.setdefault(name, []).append((index, value))
        elif name in members:
            raise at(MemberRepeated(f"the part {name!r} is given more than once"), name)
        else:
            members[name] = value
    return members | {name: _in_order(name, entries) for name, entries in lists.items()}


def list_name(name: str, repeatable: Collection[str]) -> tuple[str, int | None]:
    """Return the name of a member, and the index that its spelling gives: `images[2]` is `images` and 2."""
    bare, bracket, index = name.partition("[")
    if bracket and bare in repeatable and index.endswith("]"):
        digits = index[:-1]
        if not digits:
            return bare, None
        if digits.isascii() and digits.isdigit() and len(digits) <= _MAX_INDEX_DIGITS:
            return bare, int(digits)
    return name, None


def _in_order(name: str, entries: list[tuple[int | None, Any]]) -> list[Any]:
    indices = [index for index, _ in entries if index is not None]
    if len(set(indices)) < len(indices):
        raise at(MemberRepeated(f"the part {name!r} is given more than once with the same index"), name)
    if len(indices) == len(entries):
        entries = sorted(entries, key=lambda entry: entry[0] or 0)
    return [value for _, value in entries]


def _photo(part: Part) -> bytes:
    if is_binary(part.content):
        return part.content
    if _is_json(part):
        raise at(MediaTypeUnsupported(f"the part {part.name!r} is JSON; send an image"), part.name)
    try:
        return photo_bytes(part.content) if part.is_file else decode_base64(part.content)
    except Base64Malformed as error:
        if part.is_file:
            raise at(error, part.name) from error
        sentence = f"the part {part.name!r} is text, and not the base64 of an image ({error}); send the image as a file"
        raise at(MemberInvalid(sentence), part.name) from error


def _side(part: Part) -> dict[str, Any]:
    is_object = not part.is_file and part.content.lstrip().startswith(b"{")
    if is_binary(part.content) or not (is_object or _is_json(part)):
        return {"image": _photo(part)}
    try:
        return parse_object(part.text)
    except JsonMalformed as error:
        raise at(error, part.name) from error


def _option(part: Part) -> str:
    """Return an option as text; clients that declare JSON may send text in quotation marks."""
    text = part.text
    if _is_json(part) and text.startswith('"'):
        try:
            text = str(json.loads(text))
        except ValueError as error:
            raise at(JsonMalformed(f"the part {part.name!r} is not JSON: {error}"), part.name) from error
    return text


def _is_json(part: Part) -> bool:
    media_type = bare_media_type(part.content_type)
    return media_type in ("application/json", "text/json") or media_type.endswith("+json")
