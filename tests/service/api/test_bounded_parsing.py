"""Parsing in bounded time and memory: what a hostile body costs grows no faster than its size."""

import json
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import BaseModel
from starlette.datastructures import QueryParams

from models.errors import VultusError
from service.api.intake.body import bare_media_type
from service.api.intake.members import read_query, time_limit, validate
from service.api.intake.multipart import read_parts
from service.api.wire.gallery_requests import EnrolRequest, IdentifyOptions, IdentifyRequest
from service.api.wire.representations import choose_form
from service.api.wire.requests import VerifyRequest
from service.base64_text import decode_base64
from service.gallery.names import clean_name
from service.settings import RequestSettings
from service.strict_json import parse_object

MANY = 40_000
UNKNOWN = {f"member {number}": 0 for number in range(MANY)}


@pytest.mark.parametrize(
    ("schema", "body"),
    [
        (IdentifyRequest, {"images": ["AAAA"], "gallery": "g", "reject": ["x"] * MANY}),
        (IdentifyRequest, {"images": ["AAAA"], "gallery": "g", "reject": [[]] * MANY}),
        (IdentifyRequest, {"images": ["AAAA"], "gallery": [0] * MANY}),
        (IdentifyRequest, {"images": [0] * MANY, "gallery": "g"}),
        (EnrolRequest, {"embeddings": [0] * MANY}),
        (EnrolRequest, {"embeddings": [{"embedding": ["x"] * MANY}]}),
        (EnrolRequest, {"embeddings": [[0], UNKNOWN]}),
        (IdentifyRequest, UNKNOWN),
        (VerifyRequest, {"probe": UNKNOWN, "reference": UNKNOWN}),
        (VerifyRequest, {"probe": {"embedding": {"embedding": UNKNOWN}}, "reference": {}}),
    ],
)
def test_a_body_with_many_errors_takes_no_more_memory_than_one_without(schema: type[BaseModel], body: Any) -> None:
    """An error of each entry took 200 to 2,000 bytes, and all but the first were thrown away."""
    text = json.dumps(body).encode()
    tracemalloc.start()
    try:
        with pytest.raises(VultusError):
            validate(schema, parse_object(text))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 25 * len(text) + 2**20


def test_a_body_with_too_many_values_is_refused_before_it_is_parsed() -> None:
    text = b'{"images": [' + b"{}," * 2_100_000 + b"{}]}"
    tracemalloc.start()
    try:
        with pytest.raises(VultusError, match="more than 2,000,000 values"):
            parse_object(text)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * len(text)


def test_a_long_text_with_escapes_is_not_serialised_again() -> None:
    """With a character outside of the BMP, that took a second for 40 MB, in which no other thread ran."""
    text = ('{"images": ["\N{GRINNING FACE}\\ud83d\\ude00' + "a" * 3_000_000 + '"]}').encode()
    tracemalloc.start()
    try:
        assert parse_object(text)["images"][0].startswith("\N{GRINNING FACE}" * 2)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 14 * len(text)  # four bytes for each character in the text, its string, and one copy


@pytest.mark.parametrize("members", [{"a": "\ud800"}, {"a": [{"\udc00": 1}]}, {"\udfff": ["b"]}])
def test_unpaired_surrogates_are_found_in_names_and_values(members: dict[str, Any]) -> None:
    with pytest.raises(VultusError, match="unpaired surrogate"):
        parse_object(json.dumps(members))
    assert parse_object(json.dumps({"\N{GRINNING FACE}": r"\ud800"})) == {"\N{GRINNING FACE}": r"\ud800"}


def form(part: bytes, head: bytes = b"") -> Callable[[int], Callable[[], Any]]:
    def parse(count: int) -> Callable[[], Any]:
        body = head + part * count + b"--b--\r\n"
        return lambda: read_parts([body], "multipart/form-data; boundary=b", 10**9)

    return parse


def request_with_query(text: str) -> Any:
    return cast(Any, SimpleNamespace(query_params=QueryParams(text)))


SHAPES: dict[str, Callable[[int], Callable[[], Any]]] = {
    "JSON: other members": lambda n: lambda: parse_object("{" + ",".join(f'"{i}":0' for i in range(n)) + "}"),
    "JSON: a repeated member at the end": lambda n: (
        lambda: parse_object("{" + ",".join(f'"{i}":0' for i in range(n)) + f',"{n - 1}":0}}')
    ),
    "JSON: objects that repeat a member": lambda n: lambda: parse_object('{"a":[' + '{"b":0,"c":1},' * n + "0]}"),
    "JSON: nested lists": lambda n: lambda: parse_object('{"a":' + "[" * n),
    "JSON: escapes": lambda n: lambda: parse_object('{"a":"' + "\\u00e9" * n + '"}'),
    "JSON: digits": lambda n: lambda: parse_object('{"a":' + "1" * n + "}"),
    "JSON: fractions": lambda n: lambda: parse_object('{"a":0.' + "1" * n + "}"),
    "JSON: white space": lambda n: lambda: parse_object(" " * n + "{}"),
    "form: parts": form(b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n'),
    "form: headers of a part": form(b"X-A: b\r\n", b"--b\r\n"),
    "form: a long header": form(b"x", b'--b\r\nContent-Disposition: form-data; name="'),
    "form: beginnings of boundaries": form(b"\r\n--", b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n'),
    "form: line ends": form(b"\r\n", b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n'),
    "form: parameters": lambda n: lambda: read_parts([b"--b--\r\n"], "multipart/form-data; " + "a=b; " * n, 1),
    "query: parameters": lambda n: lambda: read_query(request_with_query("a=b&" * n), IdentifyOptions),
    "query: other parameters": lambda n: (
        lambda: read_query(request_with_query("&".join(f"{i}=" for i in range(n))), IdentifyOptions)
    ),
    "query: one long name": lambda n: lambda: read_query(request_with_query("a" * n + "="), IdentifyOptions),
    "Accept: commas": lambda n: lambda: choose_form("," * n),
    "Accept: parameters": lambda n: lambda: choose_form("application/json" + ";q=1" * n),
    "Accept: ranges": lambda n: lambda: choose_form("application/json;q=0.1," * n),
    "Content-Type": lambda n: lambda: bare_media_type(";" * n + "a/b"),
    "time limit": lambda n: lambda: time_limit(cast(Any, {"X-Request-Timeout-Ms": "1" * n}), RequestSettings()),
    "base64: line ends": lambda n: lambda: decode_base64("AAAA\r\n" * n),
    "base64: padding": lambda n: lambda: decode_base64("A=" * n),
    "base64: a data URI": lambda n: lambda: decode_base64("data:image/png;base64," + "%41" * n),
    "base64: points": lambda n: lambda: decode_base64("." * n),
    "names: combining characters": lambda n: lambda: clean_name("e\u0301" * n, "subject"),
    "names: blanks": lambda n: lambda: clean_name(" " * n + "a", "subject"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_time_of_parsing_grows_with_the_size(shape: str) -> None:
    """Sixteen times the size takes 256 times as long where each entry is compared with all others."""
    small, large = (seconds(SHAPES[shape](count)) for count in (2_000, 32_000))
    assert large < 64 * small + 0.05


def seconds(parse: Callable[[], Any]) -> float:
    def once() -> float:
        start = time.thread_time()
        with suppress(VultusError):
            parse()
        return time.thread_time() - start

    return min(once() for _ in range(3))
