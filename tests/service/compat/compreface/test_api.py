"""CompreFace's REST API, call by call, without weights."""

import base64
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from models.serving.models import Models
from service.gallery.administration import create_gallery
from service.gallery.galleries import Galleries
from service.security.keys.protocols import CompreFaceService
from service.settings import CompatSettings, Settings
from tests.client import Guarded, guarded_client
from tests.pictures import faces_png
from tests.service.compat.compreface.conftest import Caller, compreface_key, refused

ANN, ANN_AGAIN, BOB = faces_png(1, 1), faces_png(1, 2), faces_png(1, 3)
TWO, NONE = faces_png(2, 4), faces_png(0, 5)
UNKNOWN = "00000000-0000-0000-0000-000000000000"


def test_the_gallery_of_a_key_is_made_at_its_first_request(call: Caller) -> None:
    assert call("GET", "recognition/subjects").json() == {"subjects": []}
    assert call("POST", "recognition/subjects", json={"subject": "ann"}).status_code == 201
    assert call("GET", "recognition/subjects/").json() == {"subjects": ["ann"]}


def test_subjects_are_created_renamed_merged_and_erased_without_regard_to_case(call: Caller) -> None:
    assert call("POST", "recognition/subjects", json={"subject": "Ann"}).json() == {"subject": "Ann"}
    refused(call("POST", "recognition/subjects", json={"subject": "aNN"}), 400, 43)
    refused(call("POST", "recognition/subjects", json={"subject": "  "}), 400, 26)
    refused(call("POST", "recognition/subjects", json={}), 400, 26)
    call.add("ANN", ANN)
    call.add("bob", BOB)
    assert call("GET", "recognition/subjects").json() == {"subjects": ["Ann", "bob"]}
    assert call("PUT", "recognition/subjects/ann", json={"subject": "Ann"}).json() == {"updated": False}
    assert call("PUT", "recognition/subjects/ann", json={"subject": ""}).json() == {"updated": False}
    renamed = call("PUT", "recognition/subjects/ann", json={"subject": "ann", "api_endpoint": "ann"})
    assert renamed.json() == {"updated": True}
    assert call("PUT", "recognition/subjects/bob", json={"subject": "ANN"}).json() == {"updated": True}
    listed = call("GET", "recognition/faces").json()
    assert [face["subject"] for face in listed["faces"]] == ["ann", "ann"]
    refused(call("PUT", "recognition/subjects/bob", json={"subject": "x"}), 404, 42)
    assert call("DELETE", "recognition/subjects/ANN").json() == {"subject": "ann"}
    refused(call("DELETE", "recognition/subjects/ann"), 404, 42)
    call.add("carl", ANN)
    assert call("DELETE", "recognition/subjects").json() == {"deleted": 1}
    assert call("GET", "recognition/faces").json()["total_elements"] == 0


def test_examples_are_added_listed_and_erased(call: Caller) -> None:
    first, second, third = call.add("ann", ANN), call.add("Ann", ANN_AGAIN), call.add("bob", BOB)
    assert call.add("ann", ANN) == first  # the photo is stored once
    page = call("GET", "recognition/faces", params={"page": 1, "size": 2}).json()
    assert page == {
        "faces": [{"image_id": third, "subject": "bob"}],
        "page_number": 1,
        "page_size": 2,
        "total_pages": 2,
        "total_elements": 3,
    }
    of_ann = call("GET", "recognition/faces", params={"subject": "ANN"}).json()
    assert [face["image_id"] for face in of_ann["faces"]] == [first, second]
    assert call("GET", "recognition/faces", params={"subject": "nobody"}).json()["faces"] == []
    assert call("DELETE", f"recognition/faces/{first}").json() == {"image_id": first, "subject": "ann"}
    refused(call("DELETE", f"recognition/faces/{first}"), 404, 44)
    refused(call("DELETE", "recognition/faces/not-an-id"), 404, 44)
    deleted = call("POST", "recognition/faces/delete", json=[second, UNKNOWN, second, "x"])
    assert deleted.json() == [{"image_id": second, "subject": "ann"}]
    refused(call("POST", "recognition/faces/delete", json={"ids": []}), 400, 26)
    assert call("DELETE", "recognition/faces", params={"subject": "BOB"}).json() == {"deleted": 1}
    assert call("GET", "recognition/subjects").json() == {"subjects": ["ann"]}  # as CompreFace erases bob with it
    assert call("DELETE", "recognition/faces", params={"subject": "nobody"}).json() == {"deleted": 0}
    assert call("DELETE", "recognition/faces").json() == {"deleted": 0}


@pytest.mark.parametrize("body", [b'[],"a":1', b'["x"], "ids": ["y"]', b"[1]", b"[[]]", b'"x"', b"", b"null"])
def test_ids_are_a_list_of_texts(call: Caller, body: bytes) -> None:
    refused(call("POST", "recognition/faces/delete", content=body), 400, 26)


def test_a_blank_subject_erases_nobody(call: Caller) -> None:
    call.add("ann", ANN)
    refused(call("DELETE", "recognition/faces?subject="), 400, 26)
    assert call("GET", "recognition/faces").json()["total_elements"] == 1


def test_a_photo_of_another_subject_is_refused_and_changes_nothing(call: Caller) -> None:
    call.add("ann", ANN)
    refused(call("POST", "recognition/faces", ANN, params={"subject": "bob"}), 409, 0, "another subject")
    assert call("GET", "recognition/subjects").json() == {"subjects": ["ann"]}


def test_faces_are_recognised_and_each_example_is_an_answer(call: Caller) -> None:
    call.add("ann", ANN)
    call.add("ann", ANN_AGAIN)
    call.add("bob", BOB)
    options = {"prediction_count": 3, "face_plugins": "calculator, landmarks,age", "status": "True"}
    answer = call("POST", "recognition/recognize?&limit=0", ANN, params=options)
    assert answer.headers["x-vultus-similarity"] == "probability"
    (face,) = answer.json()["result"]
    assert [match["subject"] for match in face["subjects"]].count("ann") == 2
    assert face["subjects"][0] == {"subject": "ann", "similarity": 0.99988}
    assert len(face["embedding"]) == 128
    assert len(face["landmarks"]) == 5
    assert set(face) == {"box", "subjects", "embedding", "landmarks", "execution_time"}
    assert set(face["box"]) == {"probability", "x_min", "y_min", "x_max", "y_max"}
    assert set(answer.json()["plugins_versions"]) == {"detector", "calculator"}
    (plain,) = call("POST", "recognition/recognize", BOB).json()["result"]
    assert set(plain) == {"box", "subjects"}
    assert [match["subject"] for match in plain["subjects"]] == ["bob"]
    (every,) = call("POST", "recognition/recognize", BOB, params={"prediction_count": -1}).json()["result"]
    assert len(every["subjects"]) == 3


def test_an_empty_gallery_has_no_subjects_for_a_face(call: Caller) -> None:
    (face,) = call("POST", "recognition/recognize", ANN).json()["result"]
    assert face["subjects"] == []


def test_photos_may_be_base64_in_json(call: Caller) -> None:
    text = base64.b64encode(ANN).decode()
    added = call("POST", "recognition/faces?subject=ann", json={"file": text})
    assert added.status_code == 201
    (face,) = call("POST", "recognition/recognize", json={"file": f"data:image/png;base64,{text}"}).json()["result"]
    assert face["subjects"][0]["subject"] == "ann"
    refused(call("POST", "recognition/recognize", json={"file": "http://example.com/a.jpg"}), 400, 21)
    refused(call("POST", "recognition/recognize", json={"file": "%%%"}), 400, 21)
    refused(call("POST", "recognition/recognize", json={}), 400, 34, "'file'")
    refused(call("POST", "recognition/recognize", content=b"["), 400, 26)


def test_the_largest_faces_come_first_and_are_limited(call: Caller) -> None:
    result = call("POST", "recognition/recognize", TWO).json()["result"]
    areas = [(box["x_max"] - box["x_min"]) * (box["y_max"] - box["y_min"]) for box in (face["box"] for face in result)]
    assert len(areas) == 2
    assert areas == sorted(areas, reverse=True)
    limited = call("POST", "recognition/recognize", TWO, params={"limit": 1}).json()["result"]
    assert limited[0]["box"] == result[0]["box"]
    assert len(limited) == 1


def test_an_example_is_verified(call: Caller) -> None:
    ann = call.add("ann", ANN)
    (face,) = call("POST", f"recognition/faces/{ann}/verify", ANN).json()["result"]
    assert (face["subject"], face["similarity"]) == ("ann", 0.99988)
    (stranger,) = call("POST", f"recognition/faces/{ann}/verify", BOB).json()["result"]
    assert stranger["similarity"] < face["similarity"]
    refused(call("POST", f"recognition/faces/{UNKNOWN}/verify", ANN), 404, 44)


def test_embeddings_are_recognised_and_verified(call: Caller) -> None:
    ann = call.add("ann", ANN)
    call.add("bob", BOB)
    plugins = {"face_plugins": "calculator"}
    (face,) = call("POST", "recognition/recognize", ANN, params=plugins).json()["result"]
    body = {"embeddings": [face["embedding"]]}
    (found,) = call("POST", "recognition/embeddings/recognize?prediction_count=2", json=body).json()["result"]
    assert found["embedding"] == face["embedding"]
    assert [match["subject"] for match in found["similarities"]] == ["ann", "bob"]
    (same,) = call("POST", f"recognition/embeddings/faces/{ann}/verify", json=body).json()["result"]
    assert same["similarity"] == found["similarities"][0]["similarity"]
    for wrong in ({"embeddings": [[1.0, 2.0]]}, {"embeddings": [[0.0] * 128]}):
        refused(call("POST", "recognition/embeddings/recognize", json=wrong), 400, 37)
    refused(call("POST", "recognition/embeddings/recognize", json={"embeddings": []}), 400, 26)
    refused(call("POST", "recognition/embeddings/recognize", json={}), 400, 33)
    refused(call("POST", "recognition/embeddings/recognize", json={"embeddings": [["x"] * 128]}), 400, 26)


@pytest.mark.parametrize("wrong", ["1", '"x"', "[1]", "[]", "{}"])
@pytest.mark.parametrize(
    ("service", "path", "body"),
    [
        ("recognition", "recognition/embeddings/recognize", '{"embeddings": [%s]}'),
        ("recognition", f"recognition/embeddings/faces/{UNKNOWN}/verify", '{"embeddings": [%s]}'),
        ("verification", "verification/embeddings/verify", '{"source": [1], "targets": [%s]}'),
        ("verification", "verification/embeddings/verify", '{"targets": [[1]], "source": [%s]}'),
    ],
)
def test_many_wrong_embeddings_take_no_more_memory_than_right_ones(
    guarded: Guarded, service: CompreFaceService, path: str, body: str, wrong: str
) -> None:
    """An error of each took 450 bytes for a byte of the body, and all but the first were thrown away."""
    call = Caller(guarded.client, compreface_key(guarded.keys, service))
    text = (body % ",".join([wrong] * 20_000)).encode()
    tracemalloc.start()
    try:
        answer = call("POST", path, content=text)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer.status_code in (400, 422)
    assert peak < 60 * len(text) + 2**20


def test_the_number_and_the_length_of_embeddings_are_limited(guarded: Guarded, call: Caller) -> None:
    verify = Caller(guarded.client, compreface_key(guarded.keys, "verification"))
    most = guarded.client.app.state.backend.settings.request.max_embeddings  # type: ignore[attr-defined]
    row = [1.0] * 128
    assert (
        len(call("POST", "recognition/embeddings/recognize", json={"embeddings": [row] * most}).json()["result"])
        == most
    )
    refused(
        call("POST", "recognition/embeddings/recognize", json={"embeddings": [row] * (most + 1)}), 422, 0, "at most"
    )
    body = {"source": row, "targets": [row] * (most + 1)}
    refused(verify("POST", "verification/embeddings/verify", json=body), 422, 0, "at most 1024 are accepted")
    body = {"source": row, "targets": [row, [1.0] * 127]}
    refused(verify("POST", "verification/embeddings/verify", json=body), 400, 37, "has 127 numbers")


def test_detection_says_what_plugins_ask_for(guarded: Guarded) -> None:
    call = Caller(guarded.client, compreface_key(guarded.keys, "detection"))
    result = call("POST", "detection/detect", TWO).json()["result"]
    assert [set(face) for face in result] == [{"box"}, {"box"}]
    (face,) = call("POST", "detection/detect", TWO, params={"limit": 1, "face_plugins": "landmarks"}).json()["result"]
    assert set(face) == {"box", "landmarks"}
    (face,) = call("POST", "detection/detect", ANN, params={"face_plugins": "calculator"}).json()["result"]
    assert len(face["embedding"]) == 128
    refused(call("POST", "detection/detect", NONE), 400, 28, "No face is found")


def test_verification_compares_the_only_face_with_all(guarded: Guarded) -> None:
    call = Caller(guarded.client, compreface_key(guarded.keys, "verification"))

    def verify(source: bytes, target: bytes, **options: Any) -> Any:
        files = {"source_image": ("a", source, "image/png"), "target_image": ("b", target, "image/png")}
        return call.client.post("/api/v1/verification/verify", files=files, params=options, headers=call.headers)

    (found,) = verify(ANN, ANN, status="true").json()["result"]
    assert found["face_matches"][0]["similarity"] == 0.99988
    assert set(found) == {"source_image_face", "face_matches", "plugins_versions"}
    assert len(verify(ANN, TWO).json()["result"][0]["face_matches"]) == 2
    refused(verify(TWO, ANN), 400, 31, "more than one face")
    assert verify(TWO, ANN, limit=1).status_code == 200  # the limit also applies to the source
    refused(verify(NONE, ANN), 400, 28)
    refused(call("POST", "verification/verify", ANN), 400, 34, "'source_image'")
    embeddings = {"source": [1.0] * 128, "targets": [[1.0] * 128, [-1.0] * 128]}
    result = call("POST", "verification/embeddings/verify", json=embeddings).json()["result"]
    assert [match["embedding"][0] for match in result] == [1.0, -1.0]
    assert result[0]["similarity"] > result[1]["similarity"]


def test_images_are_the_kept_crops(call: Caller, galleries: Galleries) -> None:
    create_gallery(galleries, "staff", keep_crops=True)
    ann = call.add("ann", ANN)
    image = call("GET", f"recognition/faces/{ann}/img")
    assert image.headers["content-type"] == "image/png"
    assert image.content.startswith(b"\x89PNG")
    key = call.headers["x-api-key"]
    assert call.client.get(f"/api/v1/static/{key}/images/{ann}").content == image.content
    refused(call.client.get(f"/api/v1/static/{UNKNOWN}/images/{ann}"), 404, 10)
    refused(call("GET", f"recognition/faces/{UNKNOWN}/img"), 404, 44)


def test_a_gallery_without_crops_has_no_images_and_says_why(call: Caller) -> None:
    ann = call.add("ann", ANN)
    refused(call("GET", f"recognition/faces/{ann}/img"), 404, 11, "keeps no crops")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"limit": "-1"}, 26),
        ({"limit": "many"}, 26),
        ({"prediction_count": "0"}, 36),
        ({"prediction_count": "-2"}, 36),
        ({"det_prob_threshold": "1.5"}, 26),
        ({"det_prob_threshold": "nan"}, 26),
        ({"status": "perhaps"}, 26),
        ({"detect_faces": "false"}, 26),
    ],
)
def test_options_that_cannot_be_are_refused(call: Caller, options: dict[str, str], code: int) -> None:
    refused(call("POST", "recognition/recognize", ANN, params=options), 400, code)


def test_photos_without_one_face_are_no_examples(call: Caller) -> None:
    refused(call("POST", "recognition/faces", TWO, params={"subject": "ann"}), 400, 31)
    refused(call("POST", "recognition/faces", NONE, params={"subject": "ann"}), 400, 28)
    refused(call("POST", "recognition/faces", b"no image", params={"subject": "ann"}), 400, 21)
    refused(call("POST", "recognition/faces", ANN), 400, 33, "'subject'")
    refused(call("POST", "recognition/faces", ANN, params={"subject": "a/b"}), 400, 26)
    refused(call("POST", "recognition/faces", ANN, params={"subject": "ann", "det_prob_threshold": 1}), 400, 28)
    assert call("GET", "recognition/subjects").json() == {"subjects": []}


def test_keys_open_their_own_service_only(guarded: Guarded, call: Caller) -> None:
    verification = Caller(guarded.client, compreface_key(guarded.keys, "verification"))
    key = verification.headers["x-api-key"]
    refused(verification("POST", "recognition/recognize", ANN), 404, 10, f"Recognition service with API Key {key}")
    refused(verification("POST", "detection/detect", ANN), 404, 10, "Detection service with API Key")
    refused(call("POST", "verification/verify", ANN), 404, 10, "Verification service with API Key")
    nobody = Caller(guarded.client, {})
    refused(nobody("GET", "recognition/subjects"), 400, 20, "Missing header: x-api-key")
    refused(Caller(guarded.client, {"x-api-key": "short"})("GET", "recognition/subjects"), 400, 26, "should be UUID")
    refused(Caller(guarded.client, {"x-api-key": UNKNOWN})("GET", "recognition/subjects"), 404, 10)
    native = guarded.key("admin")
    refused(Caller(guarded.client, native)("GET", "recognition/subjects"), 400, 26)
    assert guarded.client.get("/v1/info", headers=call.headers).status_code == 401


def test_a_key_reaches_its_own_gallery_only(guarded: Guarded, call: Caller) -> None:
    ann = call.add("ann", ANN)
    other = Caller(guarded.client, compreface_key(guarded.keys, gallery="guests"))
    assert other("GET", "recognition/subjects").json() == {"subjects": []}
    refused(other("DELETE", f"recognition/faces/{ann}"), 404, 44)
    assert other("POST", "recognition/faces/delete", json=[ann]).json() == []
    (face,) = other("POST", "recognition/recognize", ANN).json()["result"]
    assert face["subjects"] == []


def test_a_revoked_key_is_unknown(guarded: Guarded, call: Caller) -> None:
    guarded.keys.revoke("recognition staff")
    refused(call("GET", "recognition/subjects"), 404, 10)


def test_paths_that_do_not_exist_are_errors_in_the_same_form(call: Caller) -> None:
    refused(call("GET", "recognition/nothing"), 404, 0, "not supported")
    refused(call("GET", ""), 404, 0, "not supported")
    refused(call.client.put("/api/v1", headers=call.headers), 404, 0, "PUT /api/v1 is not supported")
    assert call.client.get("/api/v12").json()["code"] == "key_missing"
    refused(call("OPTIONS", "recognition/nothing"), 404, 0, "OPTIONS")


@pytest.mark.parametrize("method", ["PATCH", "OPTIONS", "TRACE", "PROPFIND", "HEAD", "GET"])
def test_other_methods_of_a_path_are_errors_in_the_same_form(call: Caller, method: str) -> None:
    answer = call(method, "recognition/recognize")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    if method != "HEAD":
        refused(answer, 405, 0, f"this path supports POST, not {method}")
    assert "x-request-id" in answer.headers
    if method != "GET":
        several = call(method, "recognition/subjects/ann")
        assert (several.status_code, several.headers["allow"]) == (405, "PUT, DELETE")
    refused(call.client.request("OPTIONS", "/api/v1/recognition/subjects"), 400, 20)


def test_several_keys_are_refused(guarded: Guarded, call: Caller) -> None:
    (name, key), (_, other) = *call.headers.items(), *compreface_key(guarded.keys, gallery="visitors").items()
    for keys in ([key, other], [other, key], [key, key], ["", key]):
        answer = guarded.client.get("/api/v1/recognition/subjects", headers=[(name, one) for one in keys])
        refused(answer, 400, 26, "several keys")
    in_path = guarded.client.get(f"/api/v1/static/{key}/images/{UNKNOWN}", headers=[(name, other)])
    refused(in_path, 400, 26, "several keys")


def test_without_the_setting_there_is_no_such_api(client: Any) -> None:
    assert client.get("/api/v1/recognition/subjects").json()["code"] == "route_unknown"


def test_acts_are_recorded_with_the_key(guarded: Guarded, call: Caller) -> None:
    call.add("ann", ANN)
    call("POST", "recognition/recognize", ANN)
    call("DELETE", "recognition/subjects/ann")
    records = [json.loads(record.content) for record in guarded.audit.records()]
    actions = [record["action"] for record in records]
    assert sorted(actions) == ["create_gallery", "enrol", "erase_subject", "identify"]
    assert len({record["key"] for record in records}) == 1
    assert "ann" not in json.dumps(records)


def test_the_curve_of_compreface_is_used_if_it_is_chosen(
    fake_models: Models, galleries: Galleries, tmp_path: Path
) -> None:
    settings = Settings(compat=CompatSettings(compreface=True, compreface_similarity="facenet"))
    with guarded_client(fake_models, galleries, tmp_path / "security", settings) as guarded:
        call = Caller(guarded.client, compreface_key(guarded.keys))
        call.add("ann", ANN)
        answer = call("POST", "recognition/recognize", ANN)
    assert answer.headers["x-vultus-similarity"] == "facenet"
    assert answer.json()["result"][0]["subjects"][0]["similarity"] == 1.0
