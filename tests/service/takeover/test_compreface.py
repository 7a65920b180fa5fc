"""`vultus takeover compreface`, from our own surface with kept crops, and from servers that fail."""

import csv
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from models.serving.models import Models
from service.errors import TakeoverFailed
from service.gallery.administration import create_gallery, create_subject, list_subjects
from service.gallery.galleries import Galleries
from service.gallery.template_reading import list_templates
from service.operations.acquire import Requirements
from service.takeover import compreface_source
from service.takeover.compreface import take_over_photos, take_over_subjects, taken_over
from service.takeover.compreface_source import CompreFaceSource
from tests.pictures import faces_png
from tests.service.cli.command import vultus
from tests.service.test_end_to_end import client_of, own_galleries, serving

PHOTOS = {f"{at:08d}-0000-0000-0000-000000000000": faces_png(1, at) for at in range(40)}


class Source(BaseHTTPRequestHandler):
    """A CompreFace with two subjects, whose answers a test may replace."""

    replaced: ClassVar[dict[str, tuple[int, bytes]]] = {}
    failures: ClassVar[int] = 0
    fetched: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        path = self.path.removeprefix("/api/v1/recognition/")
        if Source.failures:
            Source.failures -= 1
            self._answer(503, b"")
            return
        if path in self.replaced:
            self._answer(*self.replaced[path])
        elif path == "subjects":
            self._answer(200, json.dumps({"subjects": ["ann", "Bob", "a/b", "empty"]}).encode())
        elif path.startswith("faces?"):
            page, size = (int(part.split("=")[1]) for part in path.partition("?")[2].split("&"))
            ids = list(PHOTOS)[page * size : (page + 1) * size]
            faces = [{"image_id": one, "subject": ["ann", "Bob"][int(one[:8]) % 2]} for one in ids]
            self._answer(200, json.dumps({"faces": faces, "total_elements": len(PHOTOS)}).encode())
        else:
            image_id = path.split("/")[1]
            Source.fetched.append(image_id)
            self._answer(200, PHOTOS[image_id])

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Iterator[CompreFaceSource]:
    monkeypatch.setattr(compreface_source, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(compreface_source, "_PAGE", 15)
    Source.replaced, Source.failures, Source.fetched = {}, 0, []
    with _serving(Source) as url, CompreFaceSource(url, "a-key") as opened:
        yield opened


@contextmanager
def _serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def _take_over(source: CompreFaceSource, galleries: Galleries, models: Models) -> dict[str, object]:
    """Take over all photos that were not taken over before, and return the outcome of each."""
    subjects = take_over_subjects(source, galleries, "staff")
    known = taken_over(galleries, "staff")
    left = (example for example in source.examples() if example.image_id not in known)
    batches = take_over_photos(source, galleries, models, "staff", subjects, left, Requirements())
    return {example.image_id: outcome for batch in batches for example, outcome in batch}


def test_every_page_of_examples_is_taken_over_and_a_second_run_fetches_nothing(
    source: CompreFaceSource, galleries: Galleries, fake_models: Models
) -> None:
    create_gallery(galleries, "staff")
    assert source.count() == len(PHOTOS)
    outcomes = _take_over(source, galleries, fake_models)
    assert list(outcomes) == list(PHOTOS)
    assert taken_over(galleries, "staff") == set(PHOTOS)
    subjects = list_subjects(galleries, "staff", "", 10)
    assert [(subject.name, subject.template_count) for subject in subjects] == [("Bob", 20), ("ann", 20), ("empty", 0)]
    Source.fetched.clear()
    assert _take_over(source, galleries, fake_models) == {}
    assert Source.fetched == []


def test_a_run_that_was_cut_off_continues(source: CompreFaceSource, galleries: Galleries, fake_models: Models) -> None:
    create_gallery(galleries, "staff")
    subjects = take_over_subjects(source, galleries, "staff")
    batches = take_over_photos(source, galleries, fake_models, "staff", subjects, source.examples(), Requirements())
    next(batches)
    batches.close()
    done = taken_over(galleries, "staff")
    assert 0 < len(done) < len(PHOTOS)
    Source.fetched.clear()
    _take_over(source, galleries, fake_models)
    assert set(Source.fetched) == set(PHOTOS) - done
    assert list_templates(galleries, "staff", 0)[1] == len(PHOTOS)


def test_names_that_a_gallery_cannot_have_are_refused(source: CompreFaceSource, galleries: Galleries) -> None:
    create_gallery(galleries, "staff")
    taken = take_over_subjects(source, galleries, "staff")
    assert list(taken.refused) == ["a/b"]
    assert taken.created == ["ann", "Bob", "empty"]
    assert take_over_subjects(source, galleries, "staff").created == []


def test_subjects_that_the_gallery_has_in_several_spellings_are_refused_with_their_photos(
    source: CompreFaceSource, galleries: Galleries, fake_models: Models
) -> None:
    create_gallery(galleries, "staff")
    for name in ("Ann", "ANN", "BOB"):
        create_subject(galleries, "staff", name)
    assert {getattr(outcome, "code", "") for outcome in _take_over(source, galleries, fake_models).values()} == {
        "subject_ambiguous",
        "",
    }
    assert len(Source.fetched) == 20
    counts = {subject.name: subject.template_count for subject in list_subjects(galleries, "staff", "", 10)}
    assert counts == {"ANN": 0, "Ann": 0, "BOB": 20, "empty": 0}


def test_examples_without_a_photo_have_their_own_outcome(
    source: CompreFaceSource, galleries: Galleries, fake_models: Models
) -> None:
    create_gallery(galleries, "staff")
    lost, empty, broken = list(PHOTOS)[:3]
    Source.replaced = {
        f"faces/{lost}/img": (404, b"{}"),
        f"faces/{empty}/img": (200, b""),
        f"faces/{broken}/img": (200, b"no image"),
    }
    outcomes = _take_over(source, galleries, fake_models)
    codes = [getattr(outcomes[one], "code", "") for one in (lost, empty, broken)]
    assert codes == ["photo_unreachable", "photo_unreachable", "image_unreadable"]
    assert list_templates(galleries, "staff", 0)[1] == len(PHOTOS) - 3


def test_a_server_that_is_busy_for_a_while_is_asked_again(source: CompreFaceSource) -> None:
    Source.failures = 3
    assert source.subjects() == ["ann", "Bob", "a/b", "empty"]
    Source.failures = 100
    with pytest.raises(TakeoverFailed, match="status 503; what was taken over stays"):
        source.subjects()


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ((404, b'{"message": "", "code": 10}'), "knows no recognition service with this key"),
        ((500, b""), "status 500"),
        ((200, b"<html>"), "is not CompreFace"),
        ((200, b'["ann"]'), "is not CompreFace"),
        ((200, b'{"subjects": 7}'), "its subjects are not a list of names"),
        ((200, b'{"subjects": ["ann", 7]}'), "its subjects are not a list of names"),
        ((200, b"{}"), "its subjects are not a list of names"),
        ((302, b""), "status 302"),
    ],
)
def test_answers_that_are_no_compreface_are_sentences(
    source: CompreFaceSource, answer: tuple[int, bytes], sentence: str
) -> None:
    Source.replaced = {"subjects": answer}
    with pytest.raises(TakeoverFailed, match=sentence):
        source.subjects()


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("ftp://host", "k"),
        ("http://", "k"),
        ("http://host", ""),
        ("http://h", "a b"),
        ("http://[", "k"),
        ("http://h:x", "k"),
    ],
)
def test_addresses_and_keys_that_cannot_be_are_refused(url: str, key: str) -> None:
    with pytest.raises(TakeoverFailed):
        CompreFaceSource(url, key)


@pytest.mark.usefixtures("data_dir")
def test_our_own_surface_with_kept_crops_is_taken_over(tmp_path: Path, photos: Path) -> None:
    environment = own_galleries(tmp_path / "source") | {"VULTUS_COMPAT__COMPREFACE": "true"}
    made = vultus(
        "keys", "create", "cf", "--compreface", "recognition", "--gallery", "staff", "--json", env=environment
    )
    admin = vultus("keys", "create", "admin", "--scope", "admin", "--json", env=environment)
    key, admin_key = (json.loads(command.stdout)["key"] for command in (made, admin))
    with serving(environment) as server, client_of(server) as http:
        gallery = {"gallery": "staff", "keep_crops": True}
        assert http.post("/v1/galleries", json=gallery, headers={"X-Api-Key": admin_key}).status_code == 201
        added = http.post(
            "/api/v1/recognition/faces?subject=eileen",
            files={"file": (photos / "astronaut.png").read_bytes()},
            headers={"x-api-key": key},
        )
        assert added.status_code == 201
        url = str(http.base_url).rstrip("/")
        report = tmp_path / "report.csv"
        command = ["takeover", "compreface", url, "--gallery", "copy"]
        taken = vultus(*command, "--report", str(report), env=_with_key(key))
        assert taken.returncode == 0, taken.stderr
        assert "1 subjects, 1 examples; 0 of them" in taken.stdout
        again = vultus(*command, env=_with_key(key))
        assert "1 of them were taken over before" in again.stdout
        wrong = vultus(*command, env=_with_key("00000000-0000-0000-0000-000000000000"))
        assert (wrong.returncode, "knows no recognition service" in wrong.stderr) == (2, True)
    assert list(csv.reader(report.read_text().splitlines())) == [["image", "subject", "code", "reason"]]


def _with_key(key: str) -> dict[str, str]:
    return {**os.environ, "COMPREFACE_API_KEY": key}
