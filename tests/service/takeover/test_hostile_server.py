"""What answers as CompreFace does not get the memory, the time or the key of the takeover."""

import gzip
import json
import threading
import time
import tracemalloc
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar

import pytest

from models.errors import ImageTooManyBytes
from service.errors import TakeoverFailed
from service.takeover import compreface_source
from service.takeover.compreface_source import CompreFaceSource
from tests.service.takeover.test_compreface import _serving

IMAGE_ID = "00000000-0000-0000-0000-000000000000"
FACE = {"image_id": IMAGE_ID, "subject": "ann"}
MIB = 2**20


class Hostile(BaseHTTPRequestHandler):
    """A server whose only answer a test chooses."""

    content: ClassVar[bytes] = b""
    headers_sent: ClassVar[dict[str, str]] = {}
    dripping: ClassVar[bool | str] = False
    numbered: ClassVar[bool] = False
    asked: ClassVar[list[str]] = []
    ended: ClassVar[threading.Event] = threading.Event()

    def do_GET(self) -> None:
        self.asked.append(self.path)
        assert self.headers["accept-encoding"] == "identity"
        content = self.content
        if self.numbered:  # each page has another example
            content = content.replace(b"00000000-", b"%08d-" % len(self.asked))
        try:
            if self.dripping == "head":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                self._drip()
            self.send_response(200)
            for name, value in self.headers_sent.items():
                self.send_header(name, value)
            self.end_headers()
            if self.dripping:
                self._drip()
            self.wfile.write(content)
        except OSError:  # the client has left
            self.close_connection = True

    def _drip(self) -> None:
        while not self.ended.wait(0.05):
            self.wfile.write(b" ")
            self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Iterator[CompreFaceSource]:
    monkeypatch.setattr(compreface_source, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(compreface_source, "_ANSWER_S", 0.5)
    monkeypatch.setattr(compreface_source, "_MORE_PAGES", 5)
    Hostile.content, Hostile.headers_sent, Hostile.dripping, Hostile.numbered = b"", {}, False, False
    Hostile.asked = []
    Hostile.ended.clear()
    with _serving(Hostile) as url, CompreFaceSource(url, "a-key", MIB) as opened:
        yield opened
        Hostile.ended.set()


def _say(members: dict[str, object]) -> None:
    Hostile.content = json.dumps(members).encode()


@pytest.mark.parametrize("declared", [True, False])
def test_a_photo_larger_than_allowed_is_not_read(source: CompreFaceSource, declared: bool) -> None:
    Hostile.content = b"x" * (64 * MIB)
    Hostile.headers_sent = {"Content-Length": str(3 * 2**30)} if declared else {}
    tracemalloc.start()
    try:
        with pytest.raises(ImageTooManyBytes, match="larger than 1048576 bytes"):
            source.photo(IMAGE_ID)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * MIB
    Hostile.content, Hostile.headers_sent = b"x" * MIB, {}
    assert len(source.photo(IMAGE_ID)) == MIB


def test_a_compressed_answer_is_refused(source: CompreFaceSource) -> None:
    Hostile.content = gzip.compress(bytes(100 * MIB), 1)
    Hostile.headers_sent = {"Content-Encoding": "gzip", "Content-Length": str(len(Hostile.content))}
    for call in (lambda: source.photo(IMAGE_ID), source.subjects):
        with pytest.raises(TakeoverFailed, match="compressed"):
            call()


@pytest.mark.parametrize("part", ["head", "body"])
def test_an_answer_byte_by_byte_has_an_end(source: CompreFaceSource, part: str) -> None:
    Hostile.dripping = part
    began = time.monotonic()
    with pytest.raises(TakeoverFailed, match=r"did not complete an answer within 0\.5 s"):
        source.subjects()
    assert time.monotonic() - began < 10
    assert len(Hostile.asked) == 1


def test_a_page_that_repeats_is_the_last(source: CompreFaceSource) -> None:
    _say({"faces": [FACE, FACE], "total_elements": 10**9})
    examples = source.examples()
    assert next(examples).image_id == IMAGE_ID
    with pytest.raises(TakeoverFailed, match="has no end"):
        next(examples)


def test_pages_with_ever_new_examples_have_an_end(source: CompreFaceSource) -> None:
    _say({"faces": [FACE], "total_elements": 3})
    Hostile.numbered = True
    with pytest.raises(TakeoverFailed, match="has no end"):
        list(source.examples())
    assert len(Hostile.asked) == 7


@pytest.mark.parametrize("total", ["abc", None, -1, 1.5, True, "7"])
def test_a_number_of_examples_that_is_none_is_a_sentence(source: CompreFaceSource, total: object) -> None:
    _say({"faces": [FACE], "total_elements": total})
    for call in (source.count, lambda: list(source.examples())):
        with pytest.raises(TakeoverFailed, match="its number of examples is none"):
            call()


@pytest.mark.parametrize(
    "faces",
    [
        "abc",
        7,
        None,
        {},
        ["abc"],
        [{"subject": "ann"}],
        [{"image_id": IMAGE_ID}],
        [{"image_id": 7, "subject": "ann"}],
        [{"image_id": IMAGE_ID, "subject": 7}],
        *([{"image_id": one, "subject": "ann"}] for one in ("a\nb", "../../../../secret", "..", "", "a?b", "a" * 65)),
    ],
)
def test_examples_that_are_none_are_sentences_and_no_paths(source: CompreFaceSource, faces: object) -> None:
    _say({"faces": faces, "total_elements": 1})
    with pytest.raises(TakeoverFailed, match=r"is not CompreFace: (its examples are not|one of its examples has no)"):
        list(source.examples())
    assert len(Hostile.asked) == 1


def test_a_page_larger_than_a_page_can_be_is_refused(source: CompreFaceSource) -> None:
    _say({"faces": [{**FACE, "subject": "x" * (5 * MIB)}], "total_elements": 1})
    with pytest.raises(TakeoverFailed, match="its answer is larger than 4,194,304 bytes"):
        source.count()
