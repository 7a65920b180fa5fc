"""Base64 in the forms in which clients write it."""

import base64
import binascii
import tracemalloc
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import base64_text
from service.base64_text import decode_base64
from service.errors import Base64Malformed

FORMS = {
    "plain": lambda raw: base64.b64encode(raw).decode(),
    "bytes": base64.b64encode,
    "data URI": lambda raw: "data:image/jpeg;base64," + base64.b64encode(raw).decode(),
    "data URI in capitals, with a name": lambda raw: (
        "DATA:Image/PNG;name=a.png;BASE64," + base64.b64encode(raw).decode()
    ),
    "data URI without a type": lambda raw: "data:;base64," + base64.b64encode(raw).decode(),
    "data URI of bytes": lambda raw: "data:application/octet-stream;base64," + base64.b64encode(raw).decode(),
    "data URI with escapes": lambda raw: "data:image/webp;base64," + quote(base64.b64encode(raw).decode(), safe=""),
    "data URI with lines": lambda raw: " data:image/gif;base64,\r\n" + base64.encodebytes(raw).decode(),
    "lines": lambda raw: base64.encodebytes(raw).decode(),
    "lines of Windows": lambda raw: base64.encodebytes(raw).decode().replace("\n", "\r\n"),
    "a line end after it": lambda raw: base64.b64encode(raw).decode() + "\n",
    "URL-safe": lambda raw: base64.urlsafe_b64encode(raw).decode(),
    "URL-safe without padding": lambda raw: base64.urlsafe_b64encode(raw).decode().rstrip("="),
    "without padding": lambda raw: base64.b64encode(raw).decode().rstrip("="),
    "space around it": lambda raw: "  " + base64.b64encode(raw).decode() + " \t",
}


@given(raw=st.binary(max_size=200))
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_decoded_to_the_same_bytes(raw: bytes, form: str) -> None:
    encode: Any = FORMS[form]
    assert decode_base64(encode(raw)) == raw


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (base64.b64encode(b"\xfb\xff\xbf" * 9).decode().replace("+", " "), "form encoding turns `[+]` into a space"),
        ("https://example.org/ann.jpg", "URL, and the service fetches nothing"),
        ("file:///tmp/ann.jpg", "URL, and the service fetches nothing"),
        ("/tmp/ann.jpg", "path, and the service reads no files"),
        ("photos/ann.jpeg", "path, and the service reads no files"),
        ("C:\\ann", "path, and the service reads no files"),
        ("data:image/png,%89PNG", "percent-encoded"),
        ("data:text/html;base64,QUJD", "media type 'text/html'"),
        ("data:image/png;base64", "no comma"),
        ("data:image/png;base64,%51UJD", "the escape '%51', which base64 does not need"),
        ("data:image/png;base64,QUJD%", "the escape '%', which"),
        ("QUJD!", "contains '!'"),
        ("Zoë", "contains 'ë'"),
        ("QUJ=QUJD", "padding before its end"),
        ("QUJDR", "cut off"),
    ],
)
def test_a_text_that_is_not_base64_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(Base64Malformed, match=reason):
        decode_base64(text)
    with pytest.raises(Base64Malformed, match=reason):
        decode_base64(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        b"data:image/jpeg;base64," + b"%41" * 1_000_000,
        b"data:image/jpeg;base64," + b"%2B%2F" * 600_000,
        b"A" * 2_999_999 + b"\xff",
        ("\N{GRINNING FACE}" + "a" * 3_000_000).encode(),
    ],
    ids=["escaped letters", "escapes of base64", "a byte that is no text", "an emoji"],
)
def test_decoding_takes_memory_in_proportion_to_the_text(text: bytes) -> None:
    tracemalloc.start()
    with suppress(Base64Malformed):
        decode_base64(text)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * len(text)


def test_an_escape_between_two_pieces_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = b"\xfb\xff\xbf" * 20
    uri = "data:;base64," + quote(base64.b64encode(raw).decode(), safe="")
    for size in range(3, 12):
        monkeypatch.setattr(base64_text, "_PIECE_BYTES", size)
        assert decode_base64(uri) == raw


def test_the_plain_form_is_decoded_without_a_copy_of_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []

    def spy(text: str, *, strict_mode: bool) -> bytes:
        given.append(text)
        return binascii.a2b_base64(text, strict_mode=strict_mode)

    monkeypatch.setattr(base64_text, "binascii", type("spied", (), {"a2b_base64": staticmethod(spy)}))
    text = base64.b64encode(bytes(1000)).decode()
    assert decode_base64(text) == bytes(1000)
    assert len(given) == 1
    assert given[0] is text
