"""The request of each operation, and how its answer is read."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote

import numpy as np
import orjson

from service.client.contents import (
    Content,
    Embedding,
    Photo,
    Side,
    Subject,
    embedding_members,
    photo_bytes,
)
from service.client.exchange import exchange
from service.client.parsing import parse, read
from service.client.schemas import (
    DetectResponse,
    EmbedResponse,
    EnrolResponse,
    Gallery,
    GalleryPage,
    IdentifyResponse,
    InfoResponse,
    Receipt,
    VerifyResponse,
)
from service.client.steps import Answer, Call, Part, Steps

Schema = TypeVar("Schema")

_EMBEDDINGS = "application/json; embedding=base64"  # a third of the size of lists of numbers
_PAGE = "1000"  # galleries; the most that the service returns at once
_IDEMPOTENT = {"GET", "HEAD", "PUT"}


def info() -> Call[InfoResponse]:
    """`GET /v1/info`."""
    return Call("GET", "/v1/info", _reader(InfoResponse))


def detect(photos: Photo | Sequence[Photo], options: Mapping[str, Any]) -> Call[DetectResponse]:
    """`POST /v1/detect`."""
    return _of_contents("/v1/detect", _reader(DetectResponse), _listed(photos), options)


def embed(photos: Photo | Sequence[Photo], options: Mapping[str, Any]) -> Call[EmbedResponse]:
    """`POST /v1/embed`."""
    return _of_contents("/v1/embed", _reader(EmbedResponse), _listed(photos), options, accept=_EMBEDDINGS)


def verify(probe: Side, reference: Side, options: Mapping[str, Any]) -> Call[VerifyResponse]:
    """`POST /v1/verify`."""
    sides = (_side("probe", probe), _side("reference", reference))
    written = tuple(Part(name, value.encode(), is_file=False) for name, value in texts(options))
    return Call("POST", "/v1/verify", _reader(VerifyResponse), parts=(*sides, *written))


def identify(
    contents: Content | Sequence[Content], gallery: str | Sequence[str], options: Mapping[str, Any]
) -> Call[IdentifyResponse]:
    """`POST /v1/identify`."""
    options = {"gallery": gallery, **options}
    return _of_contents("/v1/identify", _reader(IdentifyResponse), _listed(contents), options)


def enrol(
    gallery: str, subject: str, contents: Content | Sequence[Content], options: Mapping[str, Any]
) -> Call[EnrolResponse]:
    """`POST /v1/galleries/{gallery}/subjects/{subject}/templates`; a repetition finds its photos as duplicates."""
    path = f"{path_of(gallery, subject)}/templates"
    return _of_contents(path, _reader(EnrolResponse), _listed(contents), options, enrolled=True)


def erase(gallery: str, subject: str) -> Call[Receipt]:
    """`DELETE /v1/galleries/{gallery}/subjects/{subject}`; not repeated, because that would lose the receipt."""
    return Call("DELETE", path_of(gallery, subject), _reader(Receipt), repeatable=False)


def create_gallery(gallery: str, options: Mapping[str, Any]) -> Call[Gallery]:
    """`POST /v1/galleries`; not repeated, because a repetition would find the gallery existing."""
    content = orjson.dumps({"gallery": gallery, **options})
    return Call("POST", "/v1/galleries", _reader(Gallery), repeatable=False, content=content)


def list_galleries(cursor: str | None) -> Call[GalleryPage]:
    """`GET /v1/galleries`, one page."""
    return Call("GET", "/v1/galleries", _reader(GalleryPage), texts({"limit": _PAGE, "cursor": cursor}))


def all_galleries(timeout_s: float) -> Steps[tuple[Gallery, ...]]:
    """Read all pages of the list of galleries, with a time limit for each."""
    page = yield from exchange(list_galleries(None), timeout_s)
    found = list(page.galleries)
    while page.next is not None:
        page = yield from exchange(list_galleries(page.next), timeout_s)
        found += page.galleries
    return tuple(found)


def other(method: str, path: str, query: Mapping[str, Any], members: Mapping[str, Any] | None) -> Call[Any]:
    """Any other operation, with a JSON object as its body; returns the parsed JSON, or bytes of another media type."""

    def read_any(answer: Answer) -> Any:
        is_json = answer.headers.get("content-type", "").partition(";")[0] == "application/json"
        return parse(answer.content) if is_json else answer.content

    content = None if members is None else orjson.dumps(dict(members))
    repeatable = method.upper() in _IDEMPOTENT
    return Call(method.upper(), path, read_any, texts(query), repeatable, content, accept="*/*")


def _of_contents(
    path: str,
    read_answer: Callable[[Answer], Schema],
    contents: Sequence[Content],
    options: Mapping[str, Any],
    accept: str = "application/json",
    enrolled: bool = False,
) -> Call[Schema]:
    """Return the request for photos as the parts of a form, or for embeddings as JSON."""
    call = partial(Call, "POST", path, read_answer, texts(options), accept=accept)
    embeddings = [
        embedding_members(content, enrolled) for content in contents if isinstance(content, Embedding | np.ndarray)
    ]
    if not embeddings:
        photos = (photo_bytes(content) for content in contents if not isinstance(content, Embedding | np.ndarray))
        return call(parts=tuple(Part("images", photo) for photo in photos))
    if len(embeddings) < len(contents):
        # the answer has all photos first, which would not be the order of the caller
        raise ValueError("send photos and embeddings in separate calls")
    return call(content=orjson.dumps({"embeddings": embeddings}))


def _side(name: str, side: Side) -> Part:
    if isinstance(side, Subject):
        return Part(name, orjson.dumps({"gallery": side.gallery, "subject": side.name}), is_file=False)
    if isinstance(side, Embedding | np.ndarray):
        return Part(name, orjson.dumps(embedding_members(side, enrolled=False)), is_file=False)
    return Part(name, photo_bytes(side))


def _listed(contents: Any) -> Sequence[Any]:
    return contents if isinstance(contents, list | tuple) else [contents]


def _reader(kind: type[Schema]) -> Callable[[Answer], Schema]:
    return lambda answer: read(kind, parse(answer.content))


def path_of(gallery: str, subject: str | None = None) -> str:
    """Return the path of a gallery, or of one of its subjects.

    Raises:
        ValueError: A name is empty or a relative path segment, and the path would be that of something else.
    """
    if {gallery, subject} & {"", ".", ".."}:
        raise ValueError("a gallery and a subject need a name")
    names = f"/v1/galleries/{quote(gallery, safe='')}"
    return names if subject is None else f"{names}/subjects/{quote(subject, safe='')}"


def texts(options: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return options as the texts of a query or a form; those that are None are left out."""
    pairs = (
        (name, single)
        for name, value in options.items()
        for single in (value if isinstance(value, list | tuple | set | frozenset) else [value])
    )
    return tuple(
        (name, str(value).lower() if isinstance(value, bool) else str(value))
        for name, value in pairs
        if value is not None
    )
