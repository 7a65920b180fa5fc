"""Requests as clients write them: photos under any label, forms of many libraries, HEAD, lost bodies."""

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from service.api.intake.multipart import read_parts
from service.api.routes import exchange
from service.errors import Base64Malformed, MediaTypeUnsupported, MultipartMalformed
from tests.pictures import encode, faces_png
from tests.service.api.test_faces import b64, problem

from PIL import Image  # isort: skip

FORM = "multipart/form-data; boundary=edge"
PHOTO = faces_png(1)
IMAGE = "Content-Type: image/png"


def form(*parts: tuple[str, bytes], before: bytes = b"") -> bytes:
    """Return a form; each part is its header lines after `Content-Disposition: form-data; `, and its content."""
    lines = [
        f"--edge\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + content + b"\r\n"
        for head, content in parts
    ]
    return before + b"".join(lines) + b"--edge--\r\n"


def send(client: TestClient, path: str, *parts: tuple[str, bytes], before: bytes = b"") -> Response:
    return client.post(path, content=form(*parts, before=before), headers={"Content-Type": FORM})


FORMATS = {
    name: encode(Image.new("RGB", (64, 64)), name) for name in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "AVIF")
}
HEADS = [
    'name="images"',
    f'name="images"\r\n{IMAGE}',
    f'name="images"\r\nContent-Transfer-Encoding: binary\r\n{IMAGE}',
    'name="images"\r\nContent-Type: application/octet-stream',
    'name="images"\r\nContent-Type: text/plain; charset=utf-8',
    'name="images"\r\nContent-Type: application/json',
    "name=\"images\"; filename*=UTF-8''%e5%b0%8f.jpg",
    *(
        f'name="images"; filename="a"\r\nContent-Type: {media_type}'
        for media_type in ("image", "*/*", "binary/octet-stream", "text/plain", "multipart/form-data", "video/mp4")
    ),
]


def test_a_part_is_a_photo_by_its_bytes(client: TestClient) -> None:
    for head in HEADS:
        for name, photo in FORMATS.items():
            assert send(client, "/v1/detect", (head, photo)).status_code == 200, (head, name)


def test_base64_is_taken_in_parts_and_in_raw_bodies(client: TestClient) -> None:
    for text in (b64(PHOTO), "data:image/png;base64," + b64(PHOTO), base64.encodebytes(PHOTO).decode()):
        assert client.post("/v1/detect", content=text, headers={"Content-Type": "image/png"}).status_code == 200
        for head in ('name="{}"', 'name="{}"\r\nContent-Type: text/plain', 'name="{}"; filename="a"'):
            sides = [(head.format(side), text.encode()) for side in ("probe", "reference")]
            assert send(client, "/v1/verify", *sides).json()["similarity"] == pytest.approx(1)
            assert send(client, "/v1/detect", (head.format("images"), text.encode())).status_code == 200


def test_base64_is_taken_wherever_json_has_it(client: TestClient) -> None:
    uri = "data:image/png;base64," + b64(PHOTO)
    vector = base64.urlsafe_b64encode(bytes(3) + b"\xbf" + bytes(127 * 4)).decode()
    assert client.post("/v1/embed", json={"images": [uri, b64(PHOTO)]}).json()["items"][0]["faces"]
    assert client.post("/v1/verify", json={"probe": {"image": uri}, "reference": {"image": uri}}).status_code == 200
    side = {"embedding": vector + "\n"}
    assert client.post("/v1/verify", json={"probe": side, "reference": side}).status_code == 200
    client.post("/v1/galleries", json={"gallery": "g"})
    lines = [{"subject": "ann", "image": uri}, {"subject": "ben", "embedding": vector + "\n"}]
    body = "\n".join(map(json.dumps, lines))
    answer = client.post("/v1/galleries/g/templates", content=body, headers={"Content-Type": "application/x-ndjson"})
    assert [json.loads(line)["status"] for line in answer.text.splitlines()] == ["enrolled"] * 2
    exported = client.get("/v1/galleries/g/export").text.splitlines()[1:-1]
    changed = [json.loads(line) for line in exported]
    for line in changed:
        line["embedding"] = line["embedding"].replace("+", "-").replace("/", "_").rstrip("=") + "\n"
    client.post("/v1/galleries", json={"gallery": "h"})
    body = "\n".join(map(json.dumps, changed))
    imported = client.post("/v1/galleries/h/import", content=body, headers={"Content-Type": "application/x-ndjson"})
    assert imported.json()["enrolled"] == 2


def test_a_text_in_the_place_of_a_photo_is_refused_with_what_it_is(client: TestClient) -> None:
    for text, sentence in ((b"https://x.org/a.jpg", "fetches nothing"), (b"ann smith", "spaces"), (b"a.jpg", "path")):
        document = problem(send(client, "/v1/detect", ('name="images"', text)), 422, "member_invalid")
        assert sentence in document["detail"]
        assert document["part"] == "images"
    document = problem(client.post("/v1/detect", json={"images": ["http://x/a.jpg"]}), 422, "base64_malformed")
    assert "fetches nothing" in document["detail"]
    for wrong in (None, [1, 2], {"type": "Buffer", "data": [1]}, 7):
        document = problem(client.post("/v1/detect", json={"images": [wrong]}), 422, "member_invalid")
        assert "base64" in document["detail"]
    lines = b'{"images": ["' + base64.encodebytes(PHOTO) + b'"]}'
    answer = client.post("/v1/detect", content=lines, headers={"Content-Type": "application/json"})
    assert "base64 -w 0" in problem(answer, 400, "json_malformed")["detail"]


def test_a_raw_body_is_a_photo_by_its_bytes(client: TestClient) -> None:
    assert client.post("/v1/detect", content=PHOTO).status_code == 200
    images = ["image/heic", "image", "IMAGE/JPG; q=1", "application/octet-stream", "binary/octet-stream", "*/*"]
    for media_type in (*images, "text/plain", "application/x-www-form-urlencoded"):
        answer = client.post("/v1/detect", content=PHOTO, headers={"Content-Type": media_type})
        assert answer.status_code == 200, media_type


def test_what_curl_sends_without_a_media_type_is_answered_with_what_to_add(client: TestClient) -> None:
    urlencoded = {"Content-Type": "application/x-www-form-urlencoded"}
    stripped = PHOTO.translate(None, b"\0\r\n")  # as `curl -d @one.png` sends it
    answer = client.post("/v1/detect", content=stripped, headers=urlencoded)
    assert "--data-binary" in problem(answer, 415, "media_type_unsupported")["detail"]
    answer = client.post("/v1/detect", content=b'{"images": []}', headers=urlencoded)
    assert "application/json" in problem(answer, 415, "media_type_unsupported")["detail"]
    answer = client.post("/v1/detect", content=PHOTO, headers={"Content-Encoding": "gzip"})
    assert "gzip" in problem(answer, 415, "media_type_unsupported")["detail"]


def test_lists_are_taken_in_the_spellings_of_php_and_javascript(client: TestClient) -> None:
    def count(*names: str) -> list[int]:
        parts = [(f'name="{name}"; filename="a"', faces_png(at)) for at, name in enumerate(names)]
        return [len(item["faces"]) for item in send(client, "/v1/detect", *parts).json()["items"]]

    assert count("images[]", "images[]", "images") == [0, 1, 2]
    assert count("images[2]", "images[0]", "images[1]") == [1, 2, 0]
    twice = send(client, "/v1/detect", *[('name="images[1]"; filename="a"', PHOTO)] * 2)
    assert problem(twice, 422, "member_repeated")["part"] == "images"
    for gallery in ("g", "h"):
        client.post("/v1/galleries", json={"gallery": gallery})
    names = [(f'name="gallery[{at}]"', name) for at, name in enumerate((b"g", b"h"))]
    photo = ('name="images"', PHOTO)
    assert send(client, "/v1/identify", photo, *names).status_code == 200
    assert send(client, "/v1/identify?gallery[]=g&gallery[]=h", photo).status_code == 200


def test_an_unknown_part_is_named_first(client: TestClient) -> None:
    for name in ("image", "images[x]", "images[0][file]", "Images", "file"):
        part = (f'name="{name}"; filename="a"', PHOTO)
        document = problem(send(client, "/v1/detect", part), 422, "member_unknown")
        assert document["part"] == name
        assert ("send 'images'" in document["detail"]) == (name != "file")
        document = problem(client.post("/v1/detect", json={name: [b64(PHOTO)]}), 422, "member_unknown")
        assert document["part"] == name


def test_an_option_may_be_declared_as_json(client: TestClient) -> None:
    photo = (f'name="images"; filename="a"\r\n{IMAGE}', faces_png(3))
    option = ('name="faces"\r\nContent-Type: application/json; charset=UTF-8', b'"largest"')
    (item,) = send(client, "/v1/detect", photo, option).json()["items"]
    assert len(item["faces"]) == 1
    subject = 'name="reference"; filename="b.json"\r\nContent-Type: application/json'
    side = send(client, "/v1/verify", ('name="probe"', PHOTO), (subject, json.dumps({"image": b64(PHOTO)}).encode()))
    assert side.status_code == 200


def test_sixteen_galleries_and_every_option_fit_into_a_form(client: TestClient) -> None:
    for number in range(16):
        client.post("/v1/galleries", json={"gallery": f"g{number}"})
    parts = [('name="gallery"', f"g{number}".encode()) for number in range(16)]
    options = {"k": b"3", "fusion": b"mean", "assign": b"unique", "faces": b"largest", "operating_point": b"0.01"}
    parts += [(f'name="{name}"', value) for name, value in options.items()]
    parts += [('name="reject"', reason) for reason in (b"cut_off", b"extreme_pose", b"face_too_small")]
    assert send(client, "/v1/identify", ('name="images"', PHOTO), *parts).status_code == 200


def test_transfer_encodings_of_mail_are_decoded_and_others_refused() -> None:
    def parts(encoding: str, content: bytes) -> bytes:
        head = f'name="a"\r\nContent-Transfer-Encoding: {encoding}'
        return read_parts([form((head, content))], FORM, 8)[0].content

    assert parts("BASE64", base64.encodebytes(PHOTO)) == PHOTO
    assert parts("quoted-printable", b"a=3Db") == b"a=b"
    assert parts("8bit", PHOTO) == parts("binary", PHOTO) == PHOTO
    with pytest.raises(MediaTypeUnsupported, match="'x-uuencode'") as unsupported:
        parts("x-uuencode", b"x")
    with pytest.raises(Base64Malformed) as malformed:
        parts("base64", b"!")
    assert unsupported.value.part == malformed.value.part == "a"


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_a_text_before_the_first_boundary_is_skipped(step: int) -> None:
    body = form(('name="a"', b"x"), before=b"This is a message.\r\n--not the edge\r\n")
    (part,) = read_parts([body[start : start + step] for start in range(0, len(body), step)], FORM, 8)
    assert (part.name, part.content) == ("a", b"x")
    assert read_parts([form(('name="a"', b"x"), before=b"\r\n")], FORM, 8)
    with pytest.raises(MultipartMalformed):
        read_parts([form(('name="a"', b"x"), before=b"x" * 10_000 + b"\r\n")], FORM, 8)


def test_a_part_that_repeats_a_header_is_refused() -> None:
    with pytest.raises(MultipartMalformed, match="two headers 'content-type'"):
        read_parts([form(('name="a"\r\nContent-Type: image/png\r\ncontent-type: text/plain', b"x"))], FORM, 8)


def test_head_is_answered_as_get_without_a_body(client: TestClient) -> None:
    client.post("/v1/galleries", json={"gallery": "g"})
    client.post("/v1/galleries/g/subjects", json={"subject": "ann"})
    served = ["/healthz", "/readyz", "/v1/info", "/v1/galleries", "/openapi.json"]
    served += [f"/v1/galleries/g{below}" for below in ("", "/subjects", "/subjects/ann", "/export")]
    for path in (*served, "/v1/galleries/none", "/v1/galleries?limit=0", "/v1/detect", "/v2"):
        head, get = client.head(path), client.get(path)
        assert (head.status_code, head.content) == (get.status_code, b"")
        assert (get.status_code == 200) == (path in served)
        for name in ("content-type", "content-length", "allow"):
            assert head.headers.get(name) == get.headers.get(name)


def test_head_creates_no_stream(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    client.post("/v1/galleries", json={"gallery": "g"})
    created: list[int] = []

    def endless(*_: object) -> Iterator[bytes]:
        while len(created) < 1000:
            created.append(1)
            yield bytes(2**16)

    monkeypatch.setattr(exchange, "export_lines", endless)
    assert client.head("/v1/galleries/g/export").status_code == 200
    assert len(created) < 10


def test_a_refused_method_is_answered_with_all_that_the_path_supports(client: TestClient) -> None:
    assert client.put("/v1/galleries").headers["allow"] == "GET, HEAD, POST"
    assert client.post("/v1/galleries/g").headers["allow"] == "GET, HEAD, PATCH, DELETE"
    assert problem(client.delete("/v1/info"), 405, "method_not_allowed")["detail"].startswith("this path supports GET")


def test_a_body_that_a_server_lost_is_not_taken_for_an_empty_one(client: TestClient) -> None:
    client.post("/v1/galleries", json={"gallery": "g"})
    for path, media_type in (
        ("/v1/detect", "image/png"),
        ("/v1/galleries", "application/json"),
        ("/v1/galleries/g/import", "application/x-ndjson"),
        ("/v1/galleries/g/templates", "application/x-ndjson"),
    ):
        for framing in ((b"content-length", b"9"), (b"transfer-encoding", b"chunked")):
            headers = [(b"content-type", media_type.encode()), (b"upgrade", b"h2c"), framing]
            status, sent = asyncio.run(answer_to_an_empty_body(client.app, path, headers))
            assert status == 400
            assert b'"body_incomplete"' in sent


async def answer_to_an_empty_body(app: Any, path: str, headers: list[tuple[bytes, bytes]]) -> tuple[int, bytes]:
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers, "query_string": b""}
    scope["client"] = ("127.0.0.1", 50000)
    messages = iter([{"type": "http.request", "body": b"", "more_body": False}])
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        for message in messages:
            return message
        await asyncio.Event().wait()
        raise AssertionError

    async def record(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, record)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)
