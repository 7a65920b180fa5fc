"""compreface-sdk, the SDK of CompreFace for Python: all that it offers, against the real service."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.service.compat.clients.driver import CallFailed, Driver
from tests.service.compat.clients.running import Album, Service

Call = Callable[..., Any]
UNKNOWN = "00000000-0000-0000-0000-000000000000"
FACES, SUBJECTS = "get_face_collection", "get_subjects"


@pytest.fixture
def client_of_service(server: Service, compreface_sdk: Driver) -> Callable[..., Call]:
    """Makes a client of one of CompreFace's services, with a key of its own."""

    def make(service: str, key: str | None = None, **options: Any) -> Call:
        client = {"port": server.port, "service": service, "options": options}
        client["key"] = key or server.compreface_key(service)
        return lambda method, *arguments: compreface_sdk(client, method, *map(as_argument, arguments))

    return make


def as_argument(value: Any) -> Any:
    return value if isinstance(value, dict) else str(value)


@pytest.fixture
def recognition(client_of_service: Callable[..., Call]) -> Call:
    return client_of_service("recognition")


def test_faces_are_added_recognised_verified_and_erased(recognition: Call, album: Album) -> None:
    (ann, *again), (bob, *_), (stranger, *_) = album.people
    first = recognition(f"{FACES}.add", ann, "Ann Example")
    second = recognition(f"{FACES}.add", {"bytes": str(again[0])}, "Ann Example", {"det_prob_threshold": 0.8})
    other = recognition(f"{FACES}.add", bob, "Bob")
    assert (first["subject"], other["subject"]) == ("Ann Example", "Bob")
    faces = recognition(f"{FACES}.list")
    assert [face["image_id"] for face in faces["faces"]] == [one["image_id"] for one in (first, second, other)]
    assert faces["total_elements"] == 3

    (found,) = recognition("recognize", again[1])["result"]
    assert found["subjects"][0]["subject"] == "Ann Example"
    assert found["subjects"][0]["similarity"] > 0.9
    (unknown,) = recognition("recognize", {"bytes": str(stranger)})["result"]
    assert unknown["subjects"][0]["similarity"] < 0.1

    (same,) = recognition(f"{FACES}.verify", again[1], first["image_id"], {"limit": 1, "status": True})["result"]
    assert (same["subject"], same["similarity"] > 0.9) == ("Ann Example", True)
    (different,) = recognition(f"{FACES}.verify", bob, first["image_id"])["result"]
    assert different["similarity"] < 0.1

    assert recognition(f"{FACES}.delete", second["image_id"]) == second
    assert recognition(f"{FACES}.delete_all", "Ann Example") == {"deleted": 1}
    (gone,) = recognition("recognize", again[1])["result"]
    assert gone["subjects"][0]["similarity"] < 0.1


def test_subjects_are_added_listed_renamed_and_erased(recognition: Call, album: Album) -> None:
    assert recognition(f"{SUBJECTS}.list") == {"subjects": []}
    assert recognition(f"{SUBJECTS}.add", "Ann") == {"subject": "Ann"}
    assert recognition(f"{SUBJECTS}.add", "Bob") == {"subject": "Bob"}
    recognition(f"{FACES}.add", album.people[0][0], "Ann")
    assert recognition(f"{SUBJECTS}.update", "Ann", "Dr Zoë Ann") == {"updated": True}
    assert recognition(f"{SUBJECTS}.list") == {"subjects": ["Bob", "Dr Zoë Ann"]}
    recognition(f"{FACES}.add", album.people[0][2], "Dr Zoë Ann")
    (found,) = recognition("recognize", album.people[0][1])["result"]
    assert found["subjects"][0]["subject"] == "Dr Zoë Ann"
    assert recognition(f"{SUBJECTS}.delete", "Bob") == {"subject": "Bob"}
    assert recognition(f"{SUBJECTS}.delete_all") == {"deleted": 1}
    assert recognition(f"{FACES}.list")["faces"] == []


def test_options_of_a_client_and_of_a_call_arrive(client_of_service: Callable[..., Call], album: Album) -> None:
    everything = "calculator,age,gender,landmarks,mask"
    recognition = client_of_service("recognition", prediction_count=2, face_plugins=everything, status=True)
    for photo in album.people[0][:3]:
        recognition(f"{FACES}.add", photo, "Ann")
    answer = recognition("recognize", album.people[0][3])
    (face,) = answer["result"]
    assert [match["subject"] for match in face["subjects"]] == ["Ann", "Ann"]
    assert set(face) == {"box", "subjects", "embedding", "landmarks", "execution_time"}
    assert set(answer["plugins_versions"]) == {"detector", "calculator"}
    assert len(recognition("recognize", album.group, {"limit": 0})["result"]) == 6
    assert len(recognition("recognize", album.group, {"limit": 2, "prediction_count": 1})["result"]) == 2
    refused = recognition("recognize", album.people[0][3], {"det_prob_threshold": 1.0})
    assert refused == {"message": "No face is found in the given image", "code": 28}


def test_faces_are_detected(client_of_service: Callable[..., Call], album: Album) -> None:
    detection = client_of_service("detection")
    result = detection("detect", album.group, {"face_plugins": "landmarks,calculator", "status": True})["result"]
    assert len(result) == 6
    assert all(len(face["landmarks"]) == 5 and len(face["embedding"]) == 128 for face in result)
    (largest,) = detection("detect", {"bytes": str(album.group)}, {"limit": 1})["result"]
    assert largest["box"] == result[0]["box"]
    assert all(isinstance(largest["box"][side], int) for side in ("x_min", "y_min", "x_max", "y_max"))


def test_photos_are_verified(client_of_service: Callable[..., Call], album: Album) -> None:
    verification = client_of_service("verification", status=True)
    (ann, again, *_), (bob, *_), _ = album.people
    (same,) = verification("verify", ann, again)["result"]
    assert same["face_matches"][0]["similarity"] > 0.9
    assert set(same) == {"source_image_face", "face_matches", "plugins_versions"}
    (other,) = verification("verify", {"bytes": str(ann)}, {"bytes": str(bob)}, {"limit": 1})["result"]
    assert other["face_matches"][0]["similarity"] < 0.1
    (several,) = verification("verify", ann, album.group)["result"]
    assert len(several["face_matches"]) == 6


def test_errors_arrive_with_a_message_and_a_code(
    recognition: Call, client_of_service: Callable[..., Call], album: Album
) -> None:
    ann = album.people[0][0]
    verification = client_of_service("verification")
    assert recognition("recognize", album.nobody) == {"message": "No face is found in the given image", "code": 28}
    several = {"message": "Found more than one face in the given image", "code": 31}
    assert recognition(f"{FACES}.add", album.group, "Ann") == several
    assert verification("verify", album.group, ann) == several
    assert recognition(f"{FACES}.delete", UNKNOWN)["code"] == 44
    assert recognition(f"{FACES}.verify", ann, UNKNOWN)["code"] == 44
    assert recognition(f"{SUBJECTS}.delete", "nobody")["code"] == 42
    assert recognition(f"{SUBJECTS}.update", "nobody", "somebody")["code"] == 42
    recognition(f"{SUBJECTS}.add", "Ann")
    assert recognition(f"{SUBJECTS}.add", "Ann")["code"] == 43
    assert client_of_service("recognition", key="no-uuid")("recognize", ann)["code"] == 26
    unknown = client_of_service("detection", key=UNKNOWN)("detect", ann)
    assert unknown == {"message": f"Detection service with API Key {UNKNOWN} not found", "code": 10}


@pytest.mark.parametrize(
    "options",
    [{"limit": -1}, {"prediction_count": -1}, {"det_prob_threshold": 1.5}, {"face_plugins": "landmarks,pose"}],
    ids=lambda options: next(iter(options)),
)
def test_the_sdk_itself_refuses_options_that_cannot_be(
    recognition: Call, album: Album, options: dict[str, Any]
) -> None:
    with pytest.raises(CallFailed, match="IncorrectFieldException"):
        recognition("recognize", album.people[0][0], options)
