"""Forms of a response with embeddings, chosen by the header `Accept` (RFC 9110, section 12.5.1)."""

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
_EXACT = 99  # precedence over media ranges, whose precedence is their length: `*/*` is shorter than `application/*`


class Written(NamedTuple):
    """The bytes of a response and their media type."""

    content: bytes
    media_type: str


def choose_form(accept: str | None) -> Form:
    """Return the form that the client prefers; arrays of numbers if it has no preference.

    Args:
        accept: Value of the header `Accept`; None or empty accepts every form.

    Raises:
        NotAcceptable: The header accepts none of the forms.
    """
    preferences: dict[Form, tuple[int, float]] = {}
    for entry in (accept or "*/*").lower().split(","):
        name, *parameters = (piece.strip() for piece in entry.split(";"))
        options = {key.strip(): value.strip(' "') for key, _, value in (pair.partition("=") for pair in parameters)}
        quality = _quality(options.get("q", "1"))
        for form, precedence in _forms(name, options.get("embedding")):
            preferences[form] = max(preferences.get(form, (0, 0.0)), (precedence, quality))
    best = max(preferences, key=lambda form: (preferences[form][1], form == "array"), default=None)
    if best is None or not preferences[best][1]:
        raise NotAcceptable(f"the Accept header allows no supported form of embeddings: {JSON}, {BASE64} or {MSGPACK}")
    return best


def write(answer: dict[str, Any], form: Form) -> Written:
    """Write a response whose embeddings are float32 arrays.

    JSON has lists of numbers, or base64 of little-endian float32. MessagePack has the bytes of little-endian float32.
    """
    if form == "array":
        return Written(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY), JSON)
    if form == "base64":
        return Written(orjson.dumps(answer, default=_encoder(lambda raw: base64.b64encode(raw).decode())), BASE64)
    return Written(ormsgpack.packb(answer, default=_encoder(bytes)), MSGPACK)


def _encoder(encode: Callable[[bytes], object]) -> Callable[[NDArray[np.float32]], object]:
    return lambda embedding: encode(embedding.astype("<f4", copy=False).tobytes())


def _forms(name: str, embedding: str | None) -> Iterator[tuple[Form, int]]:
    """Yield the forms that a media range matches, and its precedence; more specific ranges have a higher one."""
    if name in ("application/*", "*/*"):
        yield from (("array", len(name)), ("msgpack", len(name)))
    elif name == JSON:
        if embedding in (None, "array"):
            yield "array", _EXACT
        elif embedding == "base64":
            yield "base64", _EXACT
    elif name in _MSGPACK_NAMES:
        yield "msgpack", _EXACT


def _quality(text: str) -> float:
    try:
        return min(1.0, max(0.0, float(text)))
    except ValueError:
        return 0.0
