"""Forms of requests and responses: no byte is lost, whatever the pieces and the form."""

import base64
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
import ormsgpack
import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from models.deadline import Deadline
from models.pipeline import EmbeddedPhoto
from models.serving.models import Models
from service.api.intake.multipart import read_parts
from service.api.wire.representations import choose_form
from service.app import create_app
from service.errors import MultipartMalformed, NotAcceptable, TooManyImages
from service.gallery.galleries import Galleries
from service.operations.reference_cache import ReferenceCache
from service.settings import CacheSettings, Settings
from tests.client import api_client
from tests.pictures import faces_png

TYPE = "multipart/form-data; boundary=edge"


def form(*parts: tuple[str, bytes, str | None]) -> bytes:
    lines = []
    for name, content, file in parts:
        named = f'; filename="{file}"\r\nContent-Type: image/png' if file else ""
        lines.append(f'--edge\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode() + content)
    return b"\r\n".join([*lines, b"--edge--\r\n"])


@given(
    contents=st.lists(
        st.one_of(st.binary(max_size=80), st.sampled_from([b"\r\n--edge", b"\r\n--edg", b"--edge--", b"\r\n\r\n"])),
        min_size=1,
        max_size=4,
    ).filter(lambda contents: b"\r\n--edge" not in contents),
    cuts=st.lists(st.integers(0, 600), max_size=12),
)
def test_parts_are_complete_in_whatever_pieces_they_arrive(contents: list[bytes], cuts: list[int]) -> None:
    body = form(*((f"n{position}", content, "a.png") for position, content in enumerate(contents)))
    edges = [0, *sorted(cuts), len(body)]
    pieces = [body[start:end] for start, end in pairwise(edges)]
    parts = read_parts([piece for piece in pieces if piece], TYPE, 8)
    assert [(part.name, part.content, part.is_file, part.content_type) for part in parts] == [
        (f"n{position}", content, True, "image/png") for position, content in enumerate(contents)
    ]


def test_texts_are_utf_8_and_files_are_counted() -> None:
    name, text = read_parts([form(("subject", "Zoë".encode(), None))], TYPE, 8)[0].name, "Zoë"
    assert (name, read_parts([form(("subject", text.encode(), None))], TYPE, 8)[0].text) == ("subject", "Zoë")
    with pytest.raises(TooManyImages, match="more than 2"):
        read_parts([form(*[("images", b"x", "a.png")] * 4)], TYPE, 2)
    with pytest.raises(MultipartMalformed, match="66 parts that are not files"):
        read_parts([form(*[("text", b"x", None)] * 67)], TYPE, 2)


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        (form(("a", b"x", "f"))[:-12], TYPE, "truncated"),
        (b"", TYPE, "truncated"),
        (b"nonsense", TYPE, "malformed"),
        (form(("a", b"x", "f")), "multipart/form-data", "has no boundary"),
        (form(("a", b"x", "f")), "multipart/form-data; boundary=" + "x" * 300, "malformed"),
        (b"--edge\r\nContent-Type: image/png\r\n\r\nx\r\n--edge--\r\n", TYPE, "has no name"),
    ],
)
def test_a_malformed_form_is_refused(body: bytes, content_type: str, reason: str) -> None:
    with pytest.raises(MultipartMalformed, match=reason):
        read_parts([body] if body else [], content_type, 8)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, "array"),
        ("*/*", "array"),
        ("application/json", "array"),
        ("application/*, text/html", "array"),
        ("application/json; embedding=base64", "base64"),
        ("Application/JSON;Embedding=Base64", "base64"),
        ("application/msgpack", "msgpack"),
        ("application/x-msgpack, application/json;q=0.9", "msgpack"),
        ("application/msgpack;q=0.5, application/json", "array"),
        ("application/msgpack, application/json", "array"),
        ("text/html, application/vnd.msgpack;q=0.1", "msgpack"),
        ('application/json; embedding="base64"', "base64"),
        ("application/json;q=0, */*", "msgpack"),
        ("*/*;q=0.1, application/*;q=0, application/json", "array"),
    ],
)
def test_accept_chooses_the_form(accept: str | None, form: str) -> None:
    assert choose_form(accept) == form


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0", "application/json;embedding=hex", "image/*"])
def test_unsupported_forms_are_refused(accept: str, client: TestClient) -> None:
    with pytest.raises(NotAcceptable):
        choose_form(accept)
    refused = client.post("/v1/embed", content=faces_png(1), headers={"Content-Type": "image/png", "Accept": accept})
    assert (refused.status_code, refused.json()["code"]) == (406, "not_acceptable")


def test_all_forms_have_the_same_content(client: TestClient, fake_models: Models) -> None:
    photo = faces_png(3)
    (expected,) = fake_models.pipeline.embed([photo], "all", Deadline())
    assert isinstance(expected, EmbeddedPhoto)

    def ask(accept: str) -> tuple[str, bytes]:
        answer = client.post("/v1/embed", files={"images": photo}, headers={"Accept": accept})
        assert answer.status_code == 200
        assert "embed;dur=" in answer.headers["Server-Timing"]
        return answer.headers["Content-Type"], answer.content

    documents: list[dict[str, Any]] = []
    for accept, media_type, load, vector in (
        ("application/json", "application/json", orjson.loads, lambda numbers: np.array(numbers, np.float32)),
        (
            "application/json;embedding=base64",
            "application/json; embedding=base64",
            orjson.loads,
            lambda text: np.frombuffer(base64.b64decode(text), "<f4"),
        ),
        ("application/msgpack", "application/msgpack", ormsgpack.unpackb, lambda raw: np.frombuffer(raw, "<f4")),
    ):
        content_type, content = ask(accept)
        assert content_type == media_type
        document = load(content)
        for face, expected_face in zip(document["items"][0]["faces"], expected.faces, strict=True):
            np.testing.assert_array_equal(vector(face.pop("embedding")), expected_face.embedding)
        documents.append(document)
    assert documents[0] == documents[1] == documents[2]
    assert documents[0]["contract_id"] == fake_models.contract_id


def counted_crops(models: Models, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    counts, embed = [], models.pipeline.embedder.embed

    def spy(crops: Any, deadline: Deadline) -> Any:
        counts.append(len(crops))
        return embed(crops, deadline)

    monkeypatch.setattr(models.pipeline.embedder, "embed", spy)
    return counts


@pytest.mark.parametrize(("references", "embedded"), [(8, [2, 1, 1, 2, 2]), (0, [2, 2, 2, 2, 2])])
def test_a_reference_that_is_compared_again_is_embedded_once(
    references: int, embedded: list[int], fake_models: Models, galleries: Galleries, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = counted_crops(fake_models, monkeypatch)
    settings = Settings(cache=CacheSettings(references=references))
    with api_client(create_app(fake_models, galleries, settings)) as client:

        def verify(probe: int, reference: bytes, policy: str = "single") -> float:
            files = {"probe": faces_png(1, probe), "reference": reference}
            answer = client.post("/v1/verify", files=files, data={"faces": policy}).json()
            return float(answer["similarity"])

        enrolled = faces_png(1, 50)
        first = verify(1, enrolled)
        assert verify(2, enrolled) != first
        assert verify(1, enrolled) == first
        verify(1, enrolled, "largest")  # another policy may select another face
        verify(50, faces_png(1, 51))  # probes are not cached
    assert counts == embedded


def test_a_reference_is_cached_whatever_the_probe_is(
    fake_models: Models, galleries: Galleries, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = counted_crops(fake_models, monkeypatch)
    photo = base64.b64encode(faces_png(1, 9)).decode()
    numbers = [1.0] + [0.0] * 127
    with api_client(create_app(fake_models, galleries, Settings())) as client:
        for _ in range(2):
            body = {"probe": {"embedding": numbers}, "reference": {"image": photo}}
            assert client.post("/v1/verify", json=body).status_code == 200
    assert counts == [1]


def test_the_cache_holds_no_crops_and_is_bounded_in_faces_and_time(
    fake_models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("service.operations.reference_cache._clock", lambda: now)
    cache = ReferenceCache(5, 10.0)
    photos = {count: faces_png(count, count) for count in (2, 3, 4, 6)}

    def add(count: int) -> None:
        (photo,) = fake_models.pipeline.embed([photos[count]], "all", Deadline())
        assert isinstance(photo, EmbeddedPhoto)
        cache.add(photos[count], "all", photo)

    add(2)
    add(3)
    found = cache.find(photos[2], "all")
    assert found is not None
    assert [face.crop for face in found.faces] == [None, None]
    add(4)  # evicts the other two
    assert [cache.find(photos[count], "all") is None for count in (2, 3, 4)] == [True, True, False]
    add(6)  # exceeds the size of the cache
    assert cache.find(photos[6], "all") is None
    now = 10.5
    assert cache.find(photos[4], "all") is None


def test_a_reference_without_a_face_is_not_cached(client: TestClient) -> None:
    for _ in range(2):
        files = {"probe": faces_png(1), "reference": faces_png(0)}
        assert client.post("/v1/verify", files=files).json()["code"] == "no_face"
