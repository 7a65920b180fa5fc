"""The forms in which an answer with embeddings can be had, chosen by the header `Accept` (RFC 9110, section 12.5.1)."""

import base64
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import orjson
import ormsgpack
from numpy.typing import NDArray

from service.errors import NotAcceptable

Form = Literal["array", "base64", "msgpack"]

JSON, BASE64, MSGPACK = "application/json", "application/json; embedding=base64", "application/msgpack"

_MSGPACK_NAMES = (MSGPACK, "application/x-msgpack", "application/vnd.msgpack")
_NAMED = 99  # precedence over ranges, which count by their length: `*/*` is shorter than `application/*`


class Written(NamedTuple):
    """An answer as bytes, and what they are."""

    content: bytes
    media_type: str


def choose_form(accept: str | None) -> Form:
    """Choose the form that the client likes best, an array of numbers if it likes several alike.

    Raises:
        NotAcceptable: None of them is accepted.
    """
    liked: dict[Form, tuple[int, float]] = {}
    for entry in (accept or "*/*").lower().split(","):
        name, *parameters = (piece.strip() for piece in entry.split(";"))
        options = {key.strip(): value.strip(' "') for key, _, value in (one.partition("=") for one in parameters)}
        quality = _quality(options.get("q", "1"))
        for form, precedence in _forms(name, options.get("embedding")):
            liked[form] = max(liked.get(form, (0, 0.0)), (precedence, quality))
    best = max(liked, key=lambda form: (liked[form][1], form == "array"), default=None)
    if best is None or not liked[best][1]:
        raise NotAcceptable(f"embeddings can be had as {JSON}, {BASE64} or {MSGPACK}")
    return best


def write(answer: dict[str, Any], form: Form) -> Written:
    """Write an answer whose embeddings are float32 arrays.

    As JSON they are lists of numbers, or base64 of little-endian float32; as MessagePack their bytes.
    """
    if form == "array":
        return Written(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY), JSON)
    if form == "base64":
        return Written(orjson.dumps(answer, default=_with(lambda raw: base64.b64encode(raw).decode())), BASE64)
    return Written(ormsgpack.packb(answer, default=_with(bytes)), MSGPACK)


def _with(encode: Callable[[bytes], object]) -> Callable[[NDArray[np.float32]], object]:
    return lambda embedding: encode(embedding.astype("<f4", copy=False).tobytes())


def _forms(name: str, embedding: str | None) -> Iterator[tuple[Form, int]]:
    """List what a media range stands for; the more it says, the more its quality counts."""
    if name in ("application/*", "*/*"):
        yield from (("array", len(name)), ("msgpack", len(name)))
    elif name == JSON:
        if embedding in (None, "array"):
            yield "array", _NAMED
        elif embedding == "base64":
            yield "base64", _NAMED
    elif name in _MSGPACK_NAMES:
        yield "msgpack", _NAMED


def _quality(text: str) -> float:
    try:
        return min(1.0, max(0.0, float(text)))
    except ValueError:
        return 0.0
