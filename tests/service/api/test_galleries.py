"""Galleries over HTTP with a fake detector and engine, which need no weights."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from httpx2 import Response
from PIL import Image
from pydantic import BaseModel

from models.deadline import Deadline
from models.runtime.fake import fake_embedding
from models.serving.models import Models
from service.app import create_app
from service.gallery.assignment import assign_unique
from service.gallery.galleries import Galleries
from service.gallery.records import Candidate
from service.settings import RequestSettings, Settings
from tests.client import api_client
from tests.conftest import galleries_for
from tests.pictures import faces_png
from tests.service.api.test_faces import b64, problem

STAFF = "/v1/galleries/staff"
NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
def staff(client: TestClient) -> TestClient:
    assert client.post("/v1/galleries", json={"gallery": "staff"}).status_code == 201
    return client


def enrol(client: TestClient, subject: str, *images: bytes, **options: str) -> Response:
    files = [("images", image) for image in images]
    return client.post(f"{STAFF}/subjects/{subject}/templates", files=files, data=options)


def identify(client: TestClient, *images: bytes, **options: Any) -> Response:
    files = [("images", image) for image in images]
    return client.post("/v1/identify", files=files, data={"gallery": "staff", **options})


def vector(seed: int, length: float = 1.0) -> list[float]:
    drawn = np.random.default_rng(seed).standard_normal(128)
    numbers: list[float] = (length * drawn / np.linalg.norm(drawn)).tolist()
    return numbers


def lines(*members: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(member).encode() + b"\n" for member in members)


def test_a_gallery_is_created_changed_and_erased(client: TestClient) -> None:
    created = client.post("/v1/galleries", json={"gallery": "staff", "index": "sq8", "metadata": {"site": "north"}})
    assert created.status_code == 201
    assert created.json()["serving"] == "flat"  # too few templates from which `sq8` can learn its range
    problem(client.post("/v1/galleries", json={"gallery": "staff"}), 409, "gallery_exists")
    problem(client.post("/v1/galleries", json={"gallery": "a/b"}), 422, "name_invalid")
    problem(client.post("/v1/galleries", json={"gallery": "x" * 10240}), 422, "name_invalid")
    problem(client.post("/v1/galleries", json={"gallery": "x", "index": "ivf"}), 422, "member_invalid")
    problem(client.post("/v1/galleries", json={"name": "x"}), 422, "member_unknown")
    problem(client.post("/v1/galleries", json={"gallery": "x", "metadata": {"a": "b" * 20000}}), 422, "member_invalid")
    assert client.get(STAFF).json() == created.json()
    changed = client.patch(STAFF, json={"gallery": "crew", "index": "flat", "metadata": {}})
    assert (changed.json()["gallery"], changed.json()["index"], changed.json()["metadata"]) == ("crew", "flat", {})
    problem(client.get(STAFF), 404, "gallery_unknown")
    assert client.post("/v1/galleries/crew/rebuild").status_code == 202
    assert client.post("/v1/galleries/crew/verify", json={}).json()["good"] is True
    receipt = client.delete("/v1/galleries/crew").json()
    assert (receipt["what"], receipt["subject_count"], receipt["template_count"]) == ("gallery", 0, 0)
    assert "crew" not in json.dumps(receipt)
    problem(client.delete("/v1/galleries/crew"), 404, "gallery_unknown")


def test_lists_are_read_page_by_page(client: TestClient) -> None:
    names = [f"g{number:02}" for number in range(7)] + ["Zoë", "田中"]
    for name in names:
        client.post("/v1/galleries", json={"gallery": name})
        client.post("/v1/galleries/g00/subjects", json={"subject": name})
    for path, kind in (("/v1/galleries", "galler"), ("/v1/galleries/g00/subjects", "subject")):
        seen, cursor = [], None
        while True:
            page = client.get(path, params={"limit": 4, **({"cursor": cursor} if cursor else {})}).json()
            (entries,) = (value for key, value in page.items() if key.startswith(kind))
            seen += [entry.get("gallery", entry.get("subject")) for entry in entries]
            cursor = page["next"]
            if cursor is None:
                break
            assert len(entries) == 4
        assert seen == sorted(names)
        problem(client.get(path, params={"cursor": "%%%"}), 422, "cursor_invalid")
        problem(client.get(path, params={"limit": 0}), 422, "member_invalid")
        problem(client.get(path, params={"page": 2}), 422, "member_unknown")


def test_a_subject_is_created_changed_merged_and_erased(staff: TestClient) -> None:
    subjects = f"{STAFF}/subjects"
    assert staff.post(subjects, json={"subject": "ann", "metadata": {"badge": 7}}).status_code == 201
    problem(staff.post(subjects, json={"subject": "ann"}), 409, "subject_exists")
    problem(staff.post(subjects, json={"subject": "a\u0000b"}), 422, "name_invalid")
    problem(staff.post("/v1/galleries/none/subjects", json={"subject": "x"}), 404, "gallery_unknown")
    enrol(staff, "ann", faces_png(1, 1), faces_png(1, 2))
    enrol(staff, "anne", faces_png(1, 3))
    details = staff.get(f"{subjects}/ann").json()
    assert details["metadata"] == {"badge": 7}
    assert [template["crop"] for template in details["templates"]] == [False, False]
    assert (details["template_count"], details["next"]) == (2, None)
    assert all(template["norm"] > 1 and len(template["source_sha256"]) == 64 for template in details["templates"])
    assert staff.post(f"{subjects}/ann/merge", json={"subject": "anne"}).json()["template_count"] == 3
    problem(staff.get(f"{subjects}/anne"), 404, "subject_unknown")
    problem(staff.post(f"{subjects}/ann/merge", json={"subject": "ann"}), 409, "subject_exists")
    key = details["templates"][0]["template"]
    receipt = staff.delete(f"{subjects}/ann/templates/{key}").json()
    assert (receipt["what"], receipt["template_count"]) == ("template", 1)
    for wrong in (str(key), "x", "-1", "9" * 30):
        problem(staff.delete(f"{subjects}/ann/templates/{wrong}"), 404, "template_unknown")
    assert staff.patch(f"{subjects}/ann", json={"subject": "Zoë Smith"}).json()["subject"] == "Zoë Smith"
    assert staff.get(f"{subjects}/Zoe\u0308 Smith").json()["metadata"] == {
        "badge": 7
    }  # another Unicode form of the name
    receipt = staff.delete(f"{subjects}/Zoë Smith").json()
    assert (receipt["what"], receipt["subject_count"], receipt["template_count"]) == ("subject", 1, 2)
    problem(staff.delete(f"{subjects}/Zoë Smith"), 404, "subject_unknown")
    assert identify(staff, faces_png(1, 1)).json()["items"][0]["faces"][0]["decision"] == "unknown"


def test_the_templates_of_a_subject_are_paged(staff: TestClient) -> None:
    enrol(staff, "ann", *(faces_png(1, seed) for seed in range(5)))
    enrol(staff, "ben", faces_png(1, 9))
    path = f"{STAFF}/subjects/ann"
    every = staff.get(path).json()["templates"]
    assert len(every) == 5
    seen, cursor = [], ""
    for size in (2, 2, 1):
        page = staff.get(path, params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        assert (len(page["templates"]), page["template_count"]) == (size, 5)
        seen += page["templates"]
        cursor = page["next"]
    assert cursor is None
    assert seen == every
    for wrong in ("%%%", "YW5u", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5"):
        problem(staff.get(path, params={"cursor": wrong}), 422, "cursor_invalid")
    problem(staff.get(path, params={"limit": 1001}), 422, "member_invalid")


def test_a_page_is_written_in_the_worker_that_read_it(staff: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop answers other requests meanwhile."""
    enrol(staff, "ann", faces_png(1, 1))
    writers: list[str] = []
    dump = BaseModel.model_dump_json

    def note_and_dump(model: BaseModel, **options: Any) -> str:
        writers.append(threading.current_thread().name)
        return dump(model, **options)

    monkeypatch.setattr(BaseModel, "model_dump_json", note_and_dump)
    for path in ("/v1/galleries", f"{STAFF}/subjects", f"{STAFF}/subjects/ann"):
        assert staff.get(path).status_code == 200
    assert writers == ["AnyIO worker thread"] * 3


def test_a_search_asks_for_no_more_candidates_than_can_be_found_in_time(staff: TestClient) -> None:
    enrol(staff, "ann", faces_png(1, 1))
    body = {"gallery": "staff", "embeddings": [vector(1)] * 101, "k": 1000, "operating_point": "none"}
    document = problem(staff.post("/v1/identify", json=body), 422, "too_many_candidates")
    assert "101,000; a search returns at most 100,000" in document["detail"]
    assert staff.post("/v1/identify", json={**body, "k": 990}).status_code == 200
    photos = [b64(faces_png(52, 1)), b64(faces_png(52, 2))]
    problem(
        staff.post("/v1/identify", json={"gallery": "staff", "images": photos, "k": 1000}), 422, "too_many_candidates"
    )
    content = lines(*({"image": photo} for photo in photos))
    answer = staff.post("/v1/identify?gallery=staff&k=1000", content=content, headers=NDJSON)
    assert [json.loads(line)["status"] for line in answer.text.splitlines()] == ["ok", "ok"]


def test_a_photo_too_many_is_refused_alone(staff: TestClient, galleries: Galleries) -> None:
    galleries.max_templates = 2
    items = enrol(staff, "ann", *(faces_png(1, seed) for seed in range(3))).json()["items"]
    assert [item["status"] for item in items] == ["enrolled", "enrolled", "error"]
    assert items[2]["problem"]["code"] == "subject_full"
    problem(enrol(staff, "ann", faces_png(1, 9)), 409, "subject_full")
    assert enrol(staff, "ann", faces_png(1, 1)).json()["items"][0]["status"] == "duplicate"


def test_each_image_of_an_enrolment_has_an_outcome(staff: TestClient) -> None:
    images = [faces_png(1, 1), b"broken", faces_png(0), faces_png(2), faces_png(1, 1), faces_png(1, 2)]
    items = enrol(staff, "ann", *images).json()["items"]
    assert [item["status"] for item in items] == ["enrolled", "error", "error", "error", "duplicate", "enrolled"]
    assert [item["problem"]["code"] for item in items[1:4]] == ["image_unreadable", "no_face", "several_faces"]
    assert items[1]["problem"]["part"] == "images.1"
    assert items[0]["template"] == items[4]["template"]
    assert items[0]["face"]["box"][2] == 8
    again = enrol(staff, "ann", faces_png(1, 1))
    assert again.status_code == 200
    assert again.json()["items"][0]["status"] == "duplicate"
    refused = problem(enrol(staff, "bob", faces_png(1, 1)), 409, "duplicate_of_another")
    assert refused["duplicate_of"] == "ann"
    assert "ann" not in refused["detail"]
    two = enrol(staff, "bob", faces_png(1, 1), faces_png(1, 9)).json()["items"]
    assert (two[0]["duplicate_of"], two[1]["status"]) == ("ann", "enrolled")
    problem(enrol(staff, "eve", b"broken"), 415, "image_unreadable")
    problem(staff.get(f"{STAFF}/subjects/eve"), 404, "subject_unknown")
    all_bad = enrol(staff, "eve", b"broken", faces_png(0))
    assert all_bad.status_code == 200
    assert {item["status"] for item in all_bad.json()["items"]} == {"error"}
    problem(enrol(staff, "a%5Cb", faces_png(1, 5)), 422, "name_invalid")


def test_faces_must_meet_the_requirements(staff: TestClient) -> None:
    """The box of the fake face has 8 x 20 pixels; its embedding has a norm of about 11."""
    problem(enrol(staff, "ann", faces_png(1), min_face_px="10"), 422, "face_too_small")
    problem(enrol(staff, "ann", faces_png(1), min_norm="20"), 422, "low_quality")
    assert enrol(staff, "ann", faces_png(1), min_face_px="8", min_norm="5").json()["items"][0]["status"] == "enrolled"
    assert enrol(staff, "bob", faces_png(3, 1), faces="largest").json()["items"][0]["status"] == "enrolled"
    problem(enrol(staff, "bob", faces_png(3), faces="all"), 422, "member_invalid")


def test_embeddings_are_enrolled_and_identified_like_images(staff: TestClient) -> None:
    path = f"{STAFF}/subjects/ann/templates"
    packed = b64(np.array(vector(2), "<f4").tobytes())
    sent: dict[str, Any] = {
        "embeddings": [vector(1), packed, {"embedding": vector(3, length=7.5), "quality": 80}, vector(1)],
    }
    items = staff.post(path, json=sent).json()["items"]
    assert [item["status"] for item in items] == ["enrolled", "enrolled", "enrolled", "duplicate"]
    templates = staff.get(f"{STAFF}/subjects/ann").json()["templates"]
    assert [template["norm"] for template in templates] == [None, None, pytest.approx(7.5)]
    assert [template["quality"] for template in templates] == [None, None, 80]
    body = {"gallery": "staff", "embeddings": [vector(2), vector(3, length=0.1), vector(99)]}
    faces = [item["faces"][0] for item in staff.post("/v1/identify", json=body).json()["items"]]
    assert [face["decision"] for face in faces] == ["candidates", "candidates", "unknown"]
    assert faces[0]["candidates"] == [{"gallery": "staff", "subject": "ann", "similarity": pytest.approx(1)}]
    assert faces[0]["box"] is None


@pytest.mark.parametrize(
    ("embedding", "status", "code"),
    [
        (vector(1)[:64], 422, "embedding_wrong_dimension"),
        ([0.0] * 128, 422, "embedding_zero"),
        ([1e200] * 128, 422, "embedding_not_finite"),
        (b64(np.full(128, np.nan, "<f4").tobytes()), 422, "embedding_not_finite"),
        ("&&&", 422, "base64_malformed"),
        ("AAA=", 422, "base64_malformed"),
        ([True] * 128, 422, "member_invalid"),
        ([10**400] * 128, 422, "member_invalid"),
        ({"embedding": vector(1), "contract_id": "ec1-other"}, 409, "contract_mismatch"),
        ({"embedding": vector(1), "quality": 101}, 422, "member_invalid"),
        ({"vector": vector(1)}, 422, "member_unknown"),
    ],
    ids=str,
)
def test_embeddings_that_cannot_be_compared_are_refused(
    staff: TestClient, embedding: Any, status: int, code: str
) -> None:
    answer = staff.post(f"{STAFF}/subjects/ann/templates", json={"embeddings": [embedding]})
    document = problem(answer, status, code)
    if code == "contract_mismatch":
        assert "ec1-other" in document["detail"]
        assert staff.get("/v1/info").json()["contract_id"] in document["detail"]
    problem(staff.post("/v1/identify", json={"gallery": "staff", "embeddings": [embedding]}), status, code)


def test_faces_of_many_images_are_identified_independently(staff: TestClient) -> None:
    people = {name: faces_png(1, seed) for seed, name in enumerate(("ann", "bob", "eve"))}
    for name, image in people.items():
        enrol(staff, name, image)
    body = identify(staff, people["eve"], b"broken", people["ann"], faces_png(0), faces_png(3, 50)).json()
    assert [item["status"] for item in body["items"]] == ["ok", "error", "ok", "ok", "ok"]
    assert [len(item["faces"]) for item in body["items"]] == [1, 0, 1, 0, 3]
    assert body["items"][0]["faces"][0]["candidates"][0]["subject"] == "eve"
    assert body["items"][2]["faces"][0]["candidates"][0]["subject"] == "ann"
    assert body["items"][1]["problem"]["part"] == "images.1"
    assert {face["decision"] for face in body["items"][4]["faces"]} == {"unknown"}
    assert body["operating_point"]["name"] == "fmr_1e-3"
    assert body["comparisons"] == 3
    assert body["fpir_bound"] == pytest.approx(0.003)
    all_invalid = identify(staff, b"broken", b"", faces_png(1)[:200])
    assert all_invalid.status_code == 200
    assert {item["status"] for item in all_invalid.json()["items"]} == {"error"}
    problem(identify(staff, b"broken"), 415, "image_unreadable")


def test_without_a_decision_the_nearest_subjects_are_returned(staff: TestClient) -> None:
    for seed in range(6):
        enrol(staff, f"s{seed}", faces_png(1, seed))
    body = identify(staff, faces_png(1, 50), operating_point="none", k="4").json()
    (face,) = body["items"][0]["faces"]
    assert face["decision"] is None
    assert body["operating_point"] is body["fpir_bound"] is None
    similarities = [candidate["similarity"] for candidate in face["candidates"]]
    assert len(similarities) == 4
    assert similarities == sorted(similarities, reverse=True)
    assert (
        len(
            identify(staff, faces_png(1, 50), operating_point="none", k="1000").json()["items"][0]["faces"][0][
                "candidates"
            ]
        )
        == 6
    )


def test_invalid_searches_are_refused(staff: TestClient) -> None:
    image = faces_png(1)
    problem(identify(staff, image, k="0"), 422, "member_invalid")
    problem(identify(staff, image, gallery="none"), 404, "gallery_unknown")
    problem(identify(staff, image, gallery=["staff", "none"]), 404, "gallery_unknown")
    problem(identify(staff, image, fusion="median"), 422, "member_invalid")
    problem(identify(staff, image, operating_point="fmr_1e-9"), 422, "operating_point_unknown")
    problem(staff.post("/v1/identify", files={"images": image}), 422, "member_missing")
    problem(staff.post("/v1/identify", json={"gallery": "staff"}), 422, "member_invalid")
    surrogate = json.dumps({"gallery": "\ud800", "embeddings": [vector(1)]})  # unpaired
    answer = staff.post("/v1/identify", content=surrogate, headers={"Content-Type": "application/json"})
    problem(answer, 400, "json_malformed")
    problem(identify(staff, *[image] * 65), 422, "too_many_images")
    problem(
        staff.post("/v1/identify", json={"gallery": "staff", "embeddings": [[0.0]] * 1025}), 422, "too_many_embeddings"
    )
    assert len(identify(staff, *[image] * 64).json()["items"]) == 64
    empty = identify(staff, image).json()["items"][0]["faces"][0]
    assert (empty["decision"], empty["candidates"]) == ("unknown", [])


def test_several_galleries_are_searched_together(staff: TestClient) -> None:
    staff.post("/v1/galleries", json={"gallery": "guests"})
    enrol(staff, "ann", faces_png(1, 1))
    staff.post("/v1/galleries/guests/subjects/bob/templates", files={"images": faces_png(1, 2)})
    both = identify(staff, faces_png(1, 1), faces_png(1, 2), gallery=["staff", "guests"]).json()
    assert [item["faces"][0]["candidates"][0]["gallery"] for item in both["items"]] == ["staff", "guests"]
    alone = identify(staff, faces_png(1, 2)).json()
    assert alone["items"][0]["faces"][0]["decision"] == "unknown"
    raw = staff.post(
        "/v1/identify?gallery=staff&gallery=guests", content=faces_png(1, 2), headers={"Content-Type": "image/png"}
    )
    assert raw.json()["items"][0]["faces"][0]["candidates"][0]["subject"] == "bob"


def test_a_subject_is_assigned_once_in_a_photo() -> None:
    """Two faces resemble ann. The first also resembles bob; the second resembles only ann."""
    first = [Candidate("staff", "ann", 1, 0.9), Candidate("staff", "bob", 2, 0.8)]
    second = [Candidate("staff", "ann", 1, 0.85)]
    assigned = assign_unique([first, second], 0.3)
    assert [[candidate.subject for candidate in face] for face in assigned] == [["bob"], ["ann"]]
    assert assign_unique([second, second], 0.3) == [second, []]
    assert assign_unique([[], []], 0.3) == [[], []]


def test_unique_assignment_names_each_subject_once_in_a_group_photo(
    staff: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrol(staff, "ann", faces_png(1, 1))
    pipeline = staff.app.state.backend.models.pipeline  # type: ignore[attr-defined]
    twin, _ = pipeline.embedder.embed(pipeline.crop([faces_png(1, 1)], "all", Deadline())[0].crops)

    def everybody_is_ann(crops: Any, _job: Deadline) -> Any:
        return type("Two", (), {"embedding": np.repeat(twin, len(crops), 0), "norm": np.ones(len(crops), np.float32)})

    monkeypatch.setattr(pipeline.embedder, "embed", everybody_is_ann)
    independent = identify(staff, faces_png(2, 7)).json()["items"][0]["faces"]
    assert [len(face["candidates"]) for face in independent] == [1, 1]
    unique = identify(staff, faces_png(2, 7), assign="unique").json()["items"][0]["faces"]
    assert sorted(len(face["candidates"]) for face in unique) == [0, 1]
    assert sorted(face["decision"] for face in unique) == ["candidates", "unknown"]


def test_verify_accepts_subjects_and_embeddings_as_sides(staff: TestClient) -> None:
    enrol(staff, "ann", faces_png(1, 1), faces_png(1, 2))
    subject = {"gallery": "staff", "subject": "ann"}
    answer = staff.post("/v1/verify", json={"probe": {"image": b64(faces_png(1, 2))}, "reference": subject}).json()
    assert (answer["decision"], answer["comparisons"]) == ("match", 2)
    assert answer["false_match_rate"] == pytest.approx(0.002)
    assert answer["reference"] is None
    form = staff.post(
        "/v1/verify", files={"probe": faces_png(1, 2)}, data={"reference": json.dumps(subject), "fusion": "mean"}
    ).json()
    assert form["comparisons"] == 1
    assert form["similarity"] == pytest.approx(0.5, abs=0.2)
    assert (form["log_likelihood_ratio"], form["probability"], form["prior"]) == (None, None, None)
    enrol(staff, "ben", faces_png(1, 3))
    ben = {"probe": {"image": b64(faces_png(1, 2))}, "reference": {"gallery": "staff", "subject": "ben"}}
    single = staff.post("/v1/verify", json={**ben, "fusion": "mean"}).json()
    assert single["log_likelihood_ratio"] is not None  # the mean of one template is that template
    embedded = staff.post("/v1/embed", files={"images": faces_png(1, 1)}).json()
    face = {"embedding": embedded["items"][0]["faces"][0]["embedding"], "contract_id": embedded["contract_id"]}
    assert staff.post("/v1/verify", json={"probe": face, "reference": subject}).json()["decision"] == "match"
    both = staff.post("/v1/verify", json={"probe": subject, "reference": subject, "fusion": "quality-weighted"}).json()
    assert both["similarity"] == pytest.approx(1)
    staff.post(f"{STAFF}/subjects", json={"subject": "new"})
    for side, status, code in (
        ({"gallery": "staff", "subject": "none"}, 404, "subject_unknown"),
        ({"gallery": "none", "subject": "ann"}, 404, "gallery_unknown"),
        ({"gallery": "staff", "subject": "new"}, 409, "subject_empty"),
        ({"gallery": "staff"}, 422, "member_invalid"),
        ({"subject": "ann"}, 422, "member_invalid"),
        ({}, 422, "member_invalid"),
        ({**subject, "image": b64(faces_png(1))}, 422, "member_invalid"),
        ({"embedding": vector(1), "contract_id": "ec1-other"}, 409, "contract_mismatch"),
        ({"embedding": [1.0]}, 422, "embedding_wrong_dimension"),
    ):
        problem(staff.post("/v1/verify", json={"probe": face, "reference": side}), status, code)
    broken = staff.post("/v1/verify", files={"probe": faces_png(1)}, data={"reference": "{"})
    assert problem(broken, 400, "json_malformed")["part"] == "reference"


def test_a_gallery_of_another_model_is_listed_and_not_searched(
    staff: TestClient, fake_models: Models, galleries: Galleries, tmp_path: Any
) -> None:
    enrol(staff, "ann", faces_png(1, 1))
    contract_id = galleries.contract_id
    exported = staff.get(f"{STAFF}/export").content
    galleries.close()
    other = replace(fake_models, contract_id="ec1-other")
    sides = {"probe": {"embedding": vector(1)}, "reference": {"gallery": "staff", "subject": "ann"}}
    with (
        galleries_for(other, tmp_path / "galleries") as galleries,
        api_client(create_app(other, galleries, Settings())) as client,
    ):
        assert client.get(STAFF).json()["contract_id"] == contract_id
        galleries.wait_idle()
        assert client.patch(STAFF, json={"index": "flat-fp16"}).json()["serving"] is None
        problem(client.post(f"{STAFF}/rebuild"), 409, "contract_mismatch")
        galleries.wait_idle()
        assert client.get(STAFF).json()["serving"] is None  # an index would never be searched
        assert client.post(f"{STAFF}/verify", json={}).json()["good"] is True
        client.patch(STAFF, json={"index": "auto"})
        for answer in (
            identify(client, faces_png(1, 1)),
            enrol(client, "bob", faces_png(1, 2)),
            client.post("/v1/verify", json=sides),
            client.post(f"{STAFF}/import", content=exported, headers=NDJSON),
        ):
            detail = problem(answer, 409, "contract_mismatch")["detail"]
            assert contract_id in detail
            assert "ec1-other" in detail
        assert client.get(f"{STAFF}/export").content == exported
        client.post("/v1/galleries", json={"gallery": "fresh"})
        problem(client.post("/v1/galleries/fresh/import", content=exported, headers=NDJSON), 409, "contract_mismatch")
        assert client.delete(STAFF).status_code == 200


def test_export_and_import_copy_a_gallery(staff: TestClient) -> None:
    for seed in range(5):
        enrol(staff, f"s{seed}", faces_png(1, seed), faces_png(1, 100 + seed))
    exported = staff.get(f"{STAFF}/export")
    assert exported.headers["content-type"] == "application/x-ndjson"
    assert [*map(json.loads, exported.content.splitlines())][-1] == {"end": {"templates": 10}}
    staff.post("/v1/galleries", json={"gallery": "copy"})
    path = "/v1/galleries/copy/import"
    pieces = [exported.content[:1000], exported.content[1000:1001], exported.content[1001:]]
    assert staff.post(path, content=iter(pieces), headers=NDJSON).json() == {
        "enrolled": 10,
        "duplicates": 0,
        "refused": 0,
    }
    assert staff.post(path, content=exported.content, headers=NDJSON).json()["duplicates"] == 10
    found = identify(staff, faces_png(1, 103), gallery="copy").json()
    assert found["items"][0]["faces"][0]["candidates"][0]["subject"] == "s3"
    problem(staff.post(path, content=b"{}\n", headers=NDJSON), 422, "line_malformed")
    problem(staff.post(path, content=b"x" * (2**20 + 1), headers=NDJSON), 413, "body_too_large")
    problem(staff.post(path, json={}), 415, "media_type_unsupported")
    problem(staff.post("/v1/galleries/none/import", content=b"", headers=NDJSON), 404, "gallery_unknown")
    problem(staff.get("/v1/galleries/none/export"), 404, "gallery_unknown")


@pytest.mark.parametrize("content", [b"", b"\n\n", b" \r\n\t"], ids=["empty", "newlines", "blank"])
def test_bodies_without_lines_are_refused(staff: TestClient, content: bytes) -> None:
    detail = problem(staff.post(f"{STAFF}/import", content=content, headers=NDJSON), 422, "line_malformed")["detail"]
    assert "it has no lines" in detail
    for path in (f"{STAFF}/templates", "/v1/identify?gallery=staff"):
        problem(staff.post(path, content=content, headers=NDJSON), 422, "lines_missing")
    header = staff.get(f"{STAFF}/export").content.splitlines()[0]
    problem(staff.post(f"{STAFF}/import", content=header, headers=NDJSON), 422, "line_malformed")
    assert staff.post(f"{STAFF}/import", content=staff.get(f"{STAFF}/export").content, headers=NDJSON).is_success


def test_an_enrolment_stays_with_its_gallery_if_the_name_is_given_to_another_one(
    staff: TestClient, fake_models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed = fake_models.pipeline.embedder.embed
    swapped: list[bool] = []

    def swap_and_embed(crops: Any, deadline: Deadline) -> Any:
        if not swapped:
            staff.patch(STAFF, json={"gallery": "old"}).raise_for_status()
            staff.post("/v1/galleries", json={"gallery": "staff"}).raise_for_status()
            swapped.append(True)
        return embed(crops, deadline)

    monkeypatch.setattr(fake_models.pipeline.embedder, "embed", swap_and_embed)
    people = [{"subject": f"s{seed}", "image": b64(faces_png(1, seed))} for seed in range(20)]  # two groups
    answer = staff.post(f"{STAFF}/templates", content=lines(*people), headers=NDJSON)
    assert {json.loads(line)["status"] for line in answer.text.splitlines()} == {"enrolled"}
    counts = [staff.get(f"/v1/galleries/{name}").json()["template_count"] for name in ("old", "staff")]
    assert counts == [20, 0]


def test_a_first_line_that_is_too_long_is_the_error_of_the_request(fake_models: Models, galleries: Galleries) -> None:
    with api_client(create_app(fake_models, galleries, Settings(request=RequestSettings(max_bytes=20_000)))) as client:
        client.post("/v1/galleries", json={"gallery": "staff"})
        problem(client.post(f"{STAFF}/templates", content=b"x" * 20_001, headers=NDJSON), 413, "body_too_large")


def test_long_batches_are_answered_line_by_line(staff: TestClient) -> None:
    people: list[dict[str, Any]] = [{"subject": f"s{seed}", "image": b64(faces_png(1, seed))} for seed in range(40)]
    sent: list[dict[str, Any]] = [
        *people[:20],
        {"subject": "a/b", "image": b64(faces_png(1, 99))},
        {"oops": 1},
        *people[20:],
        people[0],
    ]
    answer = staff.post(f"{STAFF}/templates", content=iter([lines(line) for line in sent]), headers=NDJSON)
    items = [*map(json.loads, answer.text.splitlines())]
    assert [item["status"] for item in items] == ["enrolled"] * 20 + ["error"] * 2 + ["enrolled"] * 20 + ["duplicate"]
    assert [item["problem"]["code"] for item in items[20:22]] == ["name_invalid", "member_unknown"]
    probes: list[dict[str, Any]] = [{"id": str(seed), "image": b64(faces_png(1, seed))} for seed in range(40)]
    probes.insert(7, {"id": "bad", "image": b64(b"broken")})
    probes += [{"id": "vector", "embedding": vector(1)}, {"id": "neither"}]
    answer = staff.post("/v1/identify?gallery=staff&k=1", content=lines(*probes) + b"not json\n", headers=NDJSON)
    found = [*map(json.loads, answer.text.splitlines())]
    assert len(found) == len(probes) + 1
    named = {
        item["id"]: item["faces"][0]["candidates"][0]["subject"] for item in found if item.get("id", "x").isdigit()
    }
    assert named == {str(seed): f"s{seed}" for seed in range(40)}
    assert [item["problem"]["code"] for item in found if item["status"] == "error"] == [
        "image_unreadable",
        "member_invalid",
        "json_malformed",
    ]
    problem(staff.post("/v1/identify", content=b"", headers=NDJSON), 422, "member_missing")
    problem(staff.post("/v1/galleries/none/templates", content=b"", headers=NDJSON), 404, "gallery_unknown")
    problem(staff.post(f"{STAFF}/templates", json={}), 415, "media_type_unsupported")


def test_a_boolean_is_not_a_number(staff: TestClient) -> None:
    enrol(staff, "ann", faces_png(1, 1))
    embedding = {"embedding": vector(1)}
    subject = f"{STAFF}/subjects/ann/templates"
    for path, members, part in (
        ("/v1/identify", {"gallery": "staff", "embeddings": [embedding], "k": True}, "k"),
        ("/v1/identify", {"gallery": "staff", "embeddings": [embedding], "min_quality": True}, "min_quality"),
        (subject, {"embeddings": [{**embedding, "norm": True}]}, "embeddings.0.norm"),
        (subject, {"embeddings": [{**embedding, "quality": False}]}, "embeddings.0.quality"),
        (subject, {"embeddings": [[True, *vector(1)[1:]]]}, "embeddings.0.embedding"),
        (subject, {"embeddings": [embedding], "min_norm": True}, "min_norm"),
        (subject, {"embeddings": [embedding], "min_face_px": False}, "min_face_px"),
        ("/v1/galleries", {"gallery": "x", "min_quality": True}, "min_quality"),
        ("/v1/verify", {"probe": embedding, "reference": embedding, "prior": True}, "prior"),
    ):
        assert problem(staff.post(path, json=members), 422, "member_invalid")["part"] == part
    for member in ("norm", "quality"):
        answer = staff.post(
            f"{STAFF}/templates", content=lines({"subject": "bob", **embedding, member: True}), headers=NDJSON
        )
        assert json.loads(answer.text)["problem"]["part"] == member
    assert staff.post("/v1/galleries", json={"gallery": "x", "keep_crops": True}).status_code == 201


def test_a_path_with_a_slash_at_its_end_redirects_nowhere(client: TestClient) -> None:
    for path in ("/v1/galleries/", f"{STAFF}/", f"{STAFF}/subjects/", "/v1/info/", "/healthz/"):
        answer = client.get(path, headers={"Host": "elsewhere.localhost"}, follow_redirects=False)
        assert "elsewhere" not in json.dumps([problem(answer, 404, "route_unknown"), *answer.headers.items()])


def test_a_repeated_member_of_a_large_object_is_found_quickly(staff: TestClient) -> None:
    start = time.monotonic()
    content = "{" + ",".join(f'"m{number}":0' for number in range(200_000)) + ',"m199999":0}'
    sent = staff.post(f"{STAFF}/subjects", content=content, headers={"Content-Type": "application/json"})
    assert problem(sent, 422, "member_repeated")["part"] == "m199999"
    assert time.monotonic() - start < 10  # comparing each pair of names takes an hour


def test_malformed_requests_that_once_failed_are_refused(staff: TestClient) -> None:
    def send(path: str, text: str) -> Response:
        return staff.post(path, content=text, headers={"Content-Type": "application/json"})

    start = time.monotonic()
    problem(staff.post("/v1/galleries", json={"gallery": "a" + "\u0301" * 200_000}), 422, "name_invalid")
    assert time.monotonic() - start < 2  # normalising a name of this length takes minutes
    problem(staff.get("/v1/galleries/" + "e\u0301" * 2000), 404, "gallery_unknown")
    problem(staff.delete(f"{STAFF}/subjects/ann/templates/{'9' * 5000}"), 404, "template_unknown")
    problem(send(f"{STAFF}/subjects", '{"subject": "ann", "metadata": {"a": "\\ud800"}}'), 400, "json_malformed")
    problem(send(f"{STAFF}/subjects", '{"subject": "ann", "metadata": {"a": 1e400}}'), 400, "json_malformed")
    problem(send(f"{STAFF}/subjects", '{"\\ud800": 2, "\\ud800": 1}'), 422, "member_repeated")
    problem(send(f"{STAFF}/subjects", '{"subject": "\\udfff"}'), 400, "json_malformed")
    assert staff.get(f"{STAFF}/subjects").json()["subjects"] == []
    embedding = json.dumps({"embedding": vector(1), "contract_id": "x"}).replace('"x"', '"\\ud800"')
    problem(send(f"{STAFF}/subjects/ann/templates", f'{{"embeddings": [{embedding}]}}'), 400, "json_malformed")
    point = f'{{"gallery": "staff", "embeddings": [{vector(1)}], "operating_point": {"9" * 400}}}'
    problem(send("/v1/identify", point), 422, "member_invalid")
    far = {"embeddings": [{"embedding": vector(1), "norm": 1e300}]}
    problem(staff.post(f"{STAFF}/subjects/ann/templates", json=far), 422, "member_invalid")
    hidden = staff.get("/v1/galleries/staff/subjects/ann/secret")
    assert "ann" not in json.dumps(problem(hidden, 404, "route_unknown"))


def test_one_gallery_in_two_unicode_forms_is_searched_once(staff: TestClient) -> None:
    staff.post("/v1/galleries", json={"gallery": "Zo\u00eb"})
    staff.post("/v1/galleries/Zo\u00eb/subjects/ann/templates", files={"images": faces_png(1, 1)})
    body = identify(staff, faces_png(1, 1), gallery=["Zo\u00eb", "Zoe\u0308"]).json()
    assert (body["comparisons"], len(body["items"][0]["faces"][0]["candidates"])) == (1, 1)


def test_a_line_that_is_too_long_ends_the_stream_with_an_error(fake_models: Models, galleries: Galleries) -> None:
    settings = Settings(request=RequestSettings(max_bytes=20_000))
    with api_client(create_app(fake_models, galleries, settings)) as client:
        client.post("/v1/galleries", json={"gallery": "staff"})
        good = lines({"subject": "ann", "image": b64(faces_png(1, 1))})

        def arriving() -> Iterator[bytes]:
            yield good
            yield b"x" * 20_001

        answer = client.post(f"{STAFF}/templates", content=arriving(), headers=NDJSON)
        items = [*map(json.loads, answer.text.splitlines())]
        assert items[0]["status"] == "enrolled"
        assert items[1]["problem"]["code"] == "body_too_large"


def test_crops_are_stored_on_request_and_erased_with_their_subject(client: TestClient, galleries: Galleries) -> None:
    client.post("/v1/galleries", json={"gallery": "staff", "keep_crops": True})
    enrol(client, "ann", faces_png(1, 1))
    assert client.get(f"{STAFF}/subjects/ann").json()["templates"][0]["crop"] is True
    with galleries.database.reading() as connection:
        (png,) = connection.execute("SELECT png FROM crops").fetchone()
    assert png.startswith(b"\x89PNG")
    assert client.delete(f"{STAFF}/subjects/ann").json()["crop_count"] == 1
    audit = client.post(f"{STAFF}/verify", json={"erasure": True}).json()
    assert (audit["good"], audit["erasure"], audit["faults"]) == (True, "complete", [])
    assert not any(png in path.read_bytes() for path in galleries.directory.iterdir())


def test_a_crop_is_shown_to_no_cache_and_missing_where_none_is_kept(client: TestClient, staff: TestClient) -> None:
    client.post("/v1/galleries", json={"gallery": "crops", "keep_crops": True})
    crops = "/v1/galleries/crops/subjects/ann/templates"
    kept = client.post(crops, files={"images": faces_png(1, 1)}).json()["items"][0]["template"]
    shown = client.get(f"{crops}/{kept}/crop")
    assert (shown.headers["content-type"], shown.headers["cache-control"]) == ("image/png", "no-store")
    with Image.open(BytesIO(shown.content)) as crop:
        assert (crop.format, crop.size) == ("PNG", (112, 112))
    enrol(staff, "ann", faces_png(1, 1))
    bare = staff.get(f"{STAFF}/subjects/ann").json()["templates"][0]
    assert bare["crop"] is False
    problem(staff.get(f"{STAFF}/subjects/ann/templates/{bare['template']}/crop"), 404, "crop_missing")
    for number in (kept, "x", "1" * 30):
        problem(staff.get(f"{STAFF}/subjects/ann/templates/{number}/crop"), 404, "template_unknown")


def test_subjects_are_searched_by_a_part_of_their_name(staff: TestClient) -> None:
    for name in ("Ann", "JOHANN", "anna maria", "zoë"):
        assert staff.post(f"{STAFF}/subjects", json={"subject": name}).status_code == 201
    url = f"{STAFF}/subjects"
    first = staff.get(url, params={"name": "aNN", "limit": 2}).json()
    assert [entry["subject"] for entry in first["subjects"]] == ["Ann", "JOHANN"]
    last = staff.get(url, params={"name": "aNN", "limit": 2, "cursor": first["next"]}).json()
    assert [entry["subject"] for entry in last["subjects"]] == ["anna maria"]
    assert last["next"] is None
    assert staff.get(url, params={"name": "nobody"}).json() == {"subjects": [], "next": None}
    for refused in ("", "x" * 201):
        problem(staff.get(url, params={"name": refused}), 422, "member_invalid")
    problem(staff.get("/v1/galleries", params={"name": "a"}), 422, "member_unknown")
    problem(staff.get("/v1/galleries/none/subjects", params={"name": "a"}), 404, "gallery_unknown")


def test_the_fake_engine_has_the_properties_that_these_tests_need() -> None:
    (first, norm), (second, _) = (fake_embedding(np.full((2, 2, 3), value, np.uint8)) for value in (1, 2))
    assert abs(float(first @ second)) < 0.3
    assert 8 < float(norm) < 15


def test_names_that_are_not_utf8_do_not_become_one_name(staff: TestClient) -> None:
    for name in ("m%FCller", "m%F6ller", "%ed%a0%80"):
        sent = staff.post(f"{STAFF}/subjects/{name}/templates", files={"images": faces_png(1)})
        assert problem(sent, 422, "name_invalid")["detail"].endswith(
            "contains bytes that are not UTF-8, or the character U+FFFD"
        )


def test_metadata_are_not_nested_without_end(staff: TestClient) -> None:
    deep: Any = 1
    for _ in range(80):
        deep = {"a": deep}
    problem(staff.post(f"{STAFF}/subjects", json={"subject": "deep", "metadata": {"a": deep}}), 422, "member_invalid")
