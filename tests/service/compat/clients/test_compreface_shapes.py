"""The answers of CompreFace's API have the reviewed members and types."""

import base64
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.service.compat.clients.running import Album, Service
from tests.service.compat.clients.shapes import require_reviewed, shape

UNKNOWN = "00000000-0000-0000-0000-000000000000"
SUBJECTS, FACES, RECOGNIZE = "recognition/subjects", "recognition/faces", "recognition/recognize"
VERIFY, VERIFY_EMBEDDINGS = "verification/verify", "verification/embeddings/verify"
ALL = "face_plugins=calculator,landmarks,age,gender,mask,pose&status=true"


class Recorder:
    """Sends requests, and keeps the shapes of the answers by the titles of the requests."""

    def __init__(self, client: httpx2.Client, keys: dict[str, str]) -> None:
        self.shapes: dict[str, Any] = {}
        self._client = client
        self._keys = keys

    def __call__(self, title: str, method: str, path: str, key: str | None = None, **options: Any) -> Any:
        """Send a request to a path below `/api/v1`, and return its answer."""
        headers = {"x-api-key": self._keys[path.partition("/")[0]] if key is None else key}
        answer = self._client.request(method, f"/api/v1/{path}", headers=headers, **options)
        content = answer.json()
        self.shapes[title] = {
            "status": answer.status_code,
            "type": answer.headers["content-type"],
            "error": content["code"] if answer.is_error else None,
            "body": shape(content),
        }
        return content


@pytest.fixture
def send(server: Service) -> Iterator[Recorder]:
    keys = {name: server.compreface_key(name) for name in ("recognition", "detection", "verification")}
    with httpx2.Client(base_url=server.url, trust_env=False, timeout=30) as client:
        yield Recorder(client, keys)


def test_answers_of_compreface_have_the_reviewed_shapes(send: Recorder, album: Album) -> None:
    """After an intended change, run REVIEW_COMPAT=1 pytest -k reviewed and review the difference."""
    send_subjects(send)
    first, second = send_faces(send, album)
    embedding = send_probes(send, album, first)
    send_deletions(send, first, second)
    send_photos(send, album, embedding)
    send("unknown path", "GET", "recognition/nonsense")
    send("no key", "GET", SUBJECTS, key="")
    send("malformed key", "GET", SUBJECTS, key="x")
    send("unknown key", "GET", SUBJECTS, key=UNKNOWN)
    require_reviewed("compreface", send.shapes)


def send_subjects(send: Recorder) -> None:
    send("add subject", "POST", SUBJECTS, json={"subject": "ann"})
    send("add subject that exists", "POST", SUBJECTS, json={"subject": "ann"})
    send("add subject without a name", "POST", SUBJECTS, json={})
    send("list subjects", "GET", SUBJECTS)
    send("rename subject", "PUT", f"{SUBJECTS}/ann", json={"subject": "anna"})
    send("rename unknown subject", "PUT", f"{SUBJECTS}/nobody", json={"subject": "x"})


def send_faces(send: Recorder, album: Album) -> tuple[str, str]:
    """Add faces, and return their ids."""
    ann, bob = {"file": album.people[0][0].read_bytes()}, base64.b64encode(album.people[1][0].read_bytes()).decode()
    nobody, group = {"file": album.nobody.read_bytes()}, {"file": album.group.read_bytes()}
    first = send("add face", "POST", f"{FACES}?subject=anna", files=ann)
    second = send("add face as base64", "POST", f"{FACES}?subject=bob", json={"file": bob})
    send("add face of a photo without one", "POST", f"{FACES}?subject=bob", files=nobody)
    send("add face of a photo with several", "POST", f"{FACES}?subject=bob", files=group)
    send("add face without a photo", "POST", f"{FACES}?subject=bob", files={"other": ann["file"]})
    send("add face without a subject", "POST", FACES, files=ann)
    send("list faces", "GET", FACES)
    return first["image_id"], second["image_id"]


def send_probes(send: Recorder, album: Album, first: str) -> list[float]:
    """Search for faces and compare them with one, and return an embedding."""
    probe, nobody = {"file": album.people[0][1].read_bytes()}, {"file": album.nobody.read_bytes()}
    send("recognize", "POST", RECOGNIZE, files=probe)
    everything = send("recognize with all", "POST", f"{RECOGNIZE}?{ALL}", files=probe)
    send("recognize no face", "POST", RECOGNIZE, files=nobody)
    send("recognize no photo", "POST", RECOGNIZE, files={"file": b"text"})
    send("recognize with a wrong option", "POST", f"{RECOGNIZE}?limit=-1", files=probe)
    send("verify face", "POST", f"{FACES}/{first}/verify", files=probe)
    send("verify face with all", "POST", f"{FACES}/{first}/verify?{ALL}", files=probe)
    send("verify unknown face", "POST", f"{FACES}/{UNKNOWN}/verify", files=probe)
    embedding: list[float] = everything["result"][0]["embedding"]
    embeddings = {"embeddings": [embedding]}
    send("recognize embeddings", "POST", "recognition/embeddings/recognize", json=embeddings)
    send("verify embeddings with a face", "POST", f"recognition/embeddings/faces/{first}/verify", json=embeddings)
    send("image of a face", "GET", f"{FACES}/{first}/img")
    return embedding


def send_deletions(send: Recorder, first: str, second: str) -> None:
    send("delete face", "DELETE", f"{FACES}/{first}")
    send("delete unknown face", "DELETE", f"{FACES}/{first}")
    send("delete several faces", "POST", f"{FACES}/delete", json=[second, UNKNOWN])
    send("delete faces of a subject", "DELETE", f"{FACES}?subject=bob")
    send("delete all faces", "DELETE", FACES)
    send("add another subject", "POST", SUBJECTS, json={"subject": "carl"})
    send("delete subject", "DELETE", f"{SUBJECTS}/carl")
    send("delete unknown subject", "DELETE", f"{SUBJECTS}/carl")
    send("delete all subjects", "DELETE", SUBJECTS)


def send_photos(send: Recorder, album: Album, embedding: list[float]) -> None:
    ann, again = (photo.read_bytes() for photo in album.people[0][:2])
    group, pair = {"file": album.group.read_bytes()}, {"source_image": ann, "target_image": again}
    send("detect", "POST", "detection/detect", files=group)
    send("detect with all", "POST", f"detection/detect?{ALL}", files=group)
    send("verify", "POST", VERIFY, files=pair)
    send("verify with all", "POST", f"{VERIFY}?{ALL}", files=pair)
    send("verify embeddings", "POST", VERIFY_EMBEDDINGS, json={"source": embedding, "targets": [embedding]})
