"""@exadel/compreface-js-sdk, the SDK of CompreFace for JavaScript: all that it offers under Node."""

import base64
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.service.compat.clients.driver import CallFailed, Driver
from tests.service.compat.clients.running import Album, Service

Call = Callable[..., Any]
UNKNOWN = "00000000-0000-0000-0000-000000000000"
FACES, SUBJECTS = "getFaceCollection", "getSubjects"


@pytest.fixture
def client_of_service(server: Service, node: Driver) -> Callable[..., Call]:
    """Makes a client of one of CompreFace's services, with a key of its own."""

    def make(service: str, key: str | None = None, **options: Any) -> Call:
        client = {"port": server.port, "service": service, "options": options}
        client["key"] = key or server.compreface_key(service.lower())
        return partial(node, client)

    return make


@pytest.fixture
def recognition(client_of_service: Callable[..., Call]) -> Call:
    return client_of_service("Recognition")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def web(album: Album) -> Iterator[str]:
    """Address of a web server that has the photos."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(album.directory))) as http:
        threading.Thread(target=http.serve_forever).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


def local(photo: Path) -> str:
    """Return the path of a photo as the SDK takes it for one: relative, with a dot at its beginning."""
    return f"./{photo.name}"


def as_base64(photo: Path) -> str:
    return base64.b64encode(photo.read_bytes()).decode()


def refusal(call: Callable[[], Any]) -> tuple[int | None, int]:
    """Return the status and the code of the error that a call fails with."""
    with pytest.raises(CallFailed) as failed:
        call()
    assert set(failed.value.body) == {"message", "code"}
    return failed.value.status, failed.value.body["code"]


def test_faces_are_added_recognised_verified_and_erased(recognition: Call, album: Album, web: str) -> None:
    (ann, *again), (bob, *_), (stranger, *_) = album.people
    first = recognition(f"{FACES}.add", local(ann), "Ann")
    second = recognition(f"{FACES}.add", f"{web}/{again[0].name}", "Ann")
    third = recognition(f"{FACES}.add", as_base64(again[1]), "Ann")
    other = recognition(f"{FACES}.add", local(bob), "Bob%20Example")  # the SDK leaves the encoding to its user
    faces = recognition(f"{FACES}.list")["faces"]
    assert [face["image_id"] for face in faces] == [one["image_id"] for one in (first, second, third, other)]
    assert faces[3]["subject"] == "Bob Example"

    for photo in (local(again[2]), f"{web}/{again[2].name}", as_base64(again[2])):
        (found,) = recognition("recognize", photo, {})["result"]
        assert found["subjects"][0]["subject"] == "Ann"
        assert found["subjects"][0]["similarity"] > 0.9
    (unknown,) = recognition("recognize", local(stranger), {"limit": 1})["result"]
    assert unknown["subjects"][0]["similarity"] < 0.1

    (same,) = recognition(f"{FACES}.verify", local(again[2]), first["image_id"], {"limit": 1})["result"]
    assert (same["subject"], same["similarity"] > 0.9) == ("Ann", True)
    (different,) = recognition(f"{FACES}.verify", local(bob), first["image_id"])["result"]
    assert different["similarity"] < 0.1

    assert recognition(f"{FACES}.delete", first["image_id"]) == first
    assert recognition(f"{FACES}.delete_multiple_images", [second["image_id"], UNKNOWN]) == [second]
    assert recognition(f"{FACES}.delete_all_subject", "Ann") == {"deleted": 1}
    assert recognition(f"{FACES}.delete_all") == {"deleted": 1}
    (gone,) = recognition("recognize", local(again[2]), {})["result"]
    assert gone["subjects"] == []


def test_subjects_are_added_listed_renamed_and_erased(recognition: Call, album: Album) -> None:
    assert recognition(f"{SUBJECTS}.list") == {"subjects": []}
    assert recognition(f"{SUBJECTS}.add", "Ann") == {"subject": "Ann"}
    assert recognition(f"{SUBJECTS}.add", "Bob") == {"subject": "Bob"}
    recognition(f"{FACES}.add", local(album.people[0][0]), "Ann")
    assert recognition(f"{SUBJECTS}.rename", "Ann", "Dr Ann") == {"updated": True}
    assert recognition(f"{SUBJECTS}.list") == {"subjects": ["Bob", "Dr Ann"]}
    assert recognition(f"{SUBJECTS}.delete", "Bob") == {"subject": "Bob"}
    assert recognition(f"{SUBJECTS}.deleteAll") == {"deleted": 1}


def test_options_of_a_client_and_of_a_call_arrive(client_of_service: Callable[..., Call], album: Album) -> None:
    recognition = client_of_service("Recognition", prediction_count=2, face_plugins="landmarks", status=True)
    for photo in album.people[0][:2]:
        recognition(f"{FACES}.add", local(photo), "Ann")
    answer = recognition("recognize", local(album.people[0][2]), {"limit": 1})
    (face,) = answer["result"]
    assert [match["subject"] for match in face["subjects"]] == ["Ann", "Ann"]
    assert set(face) == {"box", "subjects", "landmarks", "execution_time"}
    assert set(answer["plugins_versions"]) == {"detector", "calculator"}


def test_faces_are_detected(client_of_service: Callable[..., Call], album: Album) -> None:
    detection = client_of_service("Detection")
    result = detection("detect", local(album.group), {"limit": 0, "det_prob_threshold": 0.8, "status": "true"})
    assert len(result["result"]) == 6
    (largest,) = detection("detect", as_base64(album.group), {"limit": 1, "face_plugins": "calculator"})["result"]
    assert len(largest["embedding"]) == 128


def test_photos_are_verified(client_of_service: Callable[..., Call], album: Album, web: str) -> None:
    verification = client_of_service("Verification")
    (ann, again, *_), (bob, *_), _ = album.people
    for source, target in (
        (local(ann), local(again)),
        (f"{web}/{ann.name}", f"{web}/{again.name}"),
        (f"{web}/{ann.name}", local(again)),
        (local(ann), f"{web}/{again.name}"),
        (as_base64(ann), as_base64(again)),
    ):
        (same,) = verification("verify", source, target, {"limit": 1})["result"]
        assert same["face_matches"][0]["similarity"] > 0.9
    (other,) = verification("verify", local(ann), local(bob))["result"]
    assert other["face_matches"][0]["similarity"] < 0.1


def test_errors_arrive_with_a_status_a_message_and_a_code(
    recognition: Call, client_of_service: Callable[..., Call], album: Album
) -> None:
    ann = local(album.people[0][0])
    assert refusal(partial(recognition, "recognize", local(album.nobody), {})) == (400, 28)
    assert refusal(partial(recognition, f"{FACES}.add", local(album.group), "Ann")) == (400, 31)
    assert refusal(partial(recognition, f"{FACES}.delete", UNKNOWN)) == (404, 44)
    assert refusal(partial(recognition, f"{SUBJECTS}.delete", "nobody")) == (404, 42)
    recognition(f"{SUBJECTS}.add", "Ann")
    assert refusal(partial(recognition, f"{SUBJECTS}.add", "Ann")) == (400, 43)
    detection = client_of_service("Detection")
    assert refusal(partial(detection, "detect", ann, {"det_prob_threshold": 0.8, "status": True})) == (400, 26)
    assert refusal(partial(client_of_service("Detection", key=UNKNOWN), "detect", ann)) == (404, 10)


def test_photos_as_bytes_are_for_browsers_since_the_sdk_sends_no_boundary_under_node(
    recognition: Call, album: Album
) -> None:
    assert refusal(partial(recognition, "recognize", {"bytes": str(album.people[0][0])}, {})) == (400, 34)
