"""`/v1/detect`, `/v1/embed` and `/v1/verify` with a fake detector and engine, which need no weights."""

import base64
import json
import re
import shutil
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from models.errors import InferenceFailed
from models.packs import find_manifest
from models.serving.models import Models
from service.app import create_app
from service.audit.log import AuditLog
from service.errors import StoreFailed
from service.gallery.galleries import Galleries
from service.settings import RequestSettings, Settings
from tests.client import Guarded, api_client
from tests.pictures import empty_png, encode, faces_png, noise_jpeg, png_bomb

from PIL import Image  # isort: skip

PNG = {"Content-Type": "image/png"}


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def problem(response: Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["code"] == code
    assert document["type"] == f"urn:vultus:problem:{code}"
    assert document["status"] == status
    assert document["request_id"] == response.headers["x-request-id"]
    assert "Traceback" not in response.text
    return document


def verify(client: TestClient, probe: bytes, reference: bytes, **fields: str) -> Response:
    return client.post("/v1/verify", files={"probe": probe, "reference": reference}, data=fields)


def test_the_three_forms_return_the_same_response(client: TestClient) -> None:
    image = faces_png(2)
    answers = [
        client.post("/v1/embed", files={"images": image}, data={"faces": "largest"}),
        client.post("/v1/embed?faces=largest", content=image, headers=PNG),
        client.post("/v1/embed?faces=largest", content=image, headers={"Content-Type": "application/octet-stream"}),
        client.post("/v1/embed?faces=largest", files={"images": image}),
        client.post("/v1/embed", json={"images": [b64(image)], "faces": "largest"}),
    ]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    (item,) = answers[0].json()["items"]
    assert (item["width"], item["height"]) == (64, 48)
    assert len(item["faces"]) == 1
    assert len(item["faces"][0]["embedding"]) == 128


def test_several_images_keep_their_order_and_fail_alone(client: TestClient) -> None:
    images = [faces_png(1), b"broken", faces_png(0), faces_png(3)]
    answer = client.post("/v1/detect", files=[("images", image) for image in images])
    assert answer.status_code == 200
    items = answer.json()["items"]
    assert [item["status"] for item in items] == ["ok", "error", "ok", "ok"]
    assert [len(item["faces"]) for item in items] == [1, 0, 0, 3]
    assert items[1]["problem"]["code"] == "image_unreadable"
    assert items[1]["problem"]["part"] == "images.1"


def test_detect_returns_no_faces_without_an_error_and_applies_policies(client: TestClient) -> None:
    assert client.post("/v1/detect", content=faces_png(0), headers=PNG).json()["items"][0]["faces"] == []
    for policy, count in (("all", 3), ("largest", 1), ("central", 1)):
        answer = client.post(f"/v1/detect?faces={policy}", content=faces_png(3), headers=PNG)
        assert len(answer.json()["items"][0]["faces"]) == count
    problem(client.post("/v1/detect?faces=single", content=faces_png(3), headers=PNG), 422, "several_faces")
    problem(client.post("/v1/embed?faces=largest", content=faces_png(0), headers=PNG), 422, "no_face")


@pytest.mark.parametrize("route", ["detect", "embed"])
def test_the_number_of_faces_beyond_the_limit_is_said(
    client: TestClient, fake_models: Models, monkeypatch: pytest.MonkeyPatch, route: str
) -> None:
    monkeypatch.setattr(fake_models.pipeline, "_max_faces", 3)
    for found, omitted in ((3, 0), (5, 2)):
        response = client.post(f"/v1/{route}", content=faces_png(found), headers={"Content-Type": "image/png"})
        (item,) = response.json()["items"]
        assert (len(item["faces"]), item["omitted_face_count"]) == (3, omitted)


def test_verify_decides_at_the_default_point_and_reports_its_error_rates(client: TestClient) -> None:
    answer = verify(client, faces_png(1), faces_png(1))
    assert answer.status_code == 200
    body = answer.json()
    assert body["similarity"] == pytest.approx(1)
    assert body["decision"] == "match"
    assert body["operating_point"] == {
        "name": "fmr_1e-3",
        "rate": 1e-3,
        "threshold": 0.4,
        "interval": [0.0002, 0.003],
        "threshold_interval": [0.38, 0.43],
        "fnmr": 0.013,
        "fnmr_interval": [0.01, 0.02],
        "errors": 300,
        "measured_on": "a test",
    }
    assert (body["comparisons"], body["false_match_rate"]) == (1, 1e-3)
    stages = re.findall(r"(\w+);dur=[\d.]+", answer.headers["server-timing"])
    assert stages == ["decode", "detect", "align", "embed"]
    other = verify(client, faces_png(1), faces_png(1, seed=1)).json()
    assert other["decision"] == "no_match"
    assert abs(other["similarity"]) < 0.4


@pytest.mark.parametrize("point", ["fmr_1e-2", "0.01"])
def test_verify_accepts_a_point_by_name_or_rate(client: TestClient, point: str) -> None:
    assert verify(client, faces_png(1), faces_png(1), operating_point=point).json()["operating_point"]["rate"] == 0.01


def test_verify_accepts_json(client: TestClient) -> None:
    body = {
        "probe": {"image": b64(faces_png(1))},
        "reference": {"image": b64(faces_png(1))},
        "operating_point": 0.01,
        "faces": "largest",
    }
    answer = client.post("/v1/verify", json=body)
    assert answer.json()["operating_point"]["name"] == "fmr_1e-2"


def test_comparing_all_faces_multiplies_the_false_match_rate(client: TestClient) -> None:
    body = verify(client, faces_png(2), faces_png(3), faces="all").json()
    assert body["comparisons"] == 6
    assert body["false_match_rate"] == pytest.approx(6e-3)


def test_several_faces_are_an_error_unless_a_policy_selects_one(client: TestClient) -> None:
    document = problem(verify(client, faces_png(1), faces_png(2)), 422, "several_faces")
    assert document["part"] == "reference"
    assert verify(client, faces_png(1), faces_png(2), faces="largest").status_code == 200


@pytest.mark.parametrize(
    ("image", "status", "code"),
    [
        (b"", 422, "image_empty"),
        (noise_jpeg(64, 64)[:700], 422, "image_damaged"),
        (b"hello, this is text", 415, "image_unreadable"),
        (png_bomb(30_000), 413, "image_too_many_pixels"),
        (empty_png(), 415, "image_unreadable"),
        (encode(Image.new("RGB", (1, 1))), 422, "image_too_small"),
        (bytes(10 * 2**20 + 1), 413, "image_too_many_bytes"),
        (faces_png(0), 422, "no_face"),
        (faces_png(2), 422, "several_faces"),
    ],
    ids=["empty", "truncated", "text", "bomb", "0x0", "1-pixel", "bytes", "no-face", "two-faces"],
)
@pytest.mark.parametrize("part", ["probe", "reference"])
def test_an_invalid_image_is_reported_with_its_part(
    client: TestClient, image: bytes, status: int, code: str, part: str
) -> None:
    images = {"probe": faces_png(1), "reference": faces_png(1), part: image}
    answer = verify(client, images["probe"], images["reference"])
    assert problem(answer, status, code)["part"] == part
    assert verify(client, faces_png(1), faces_png(1)).status_code == 200, "the service still works"


def test_wrong_media_types_are_refused(client: TestClient) -> None:
    problem(
        client.post("/v1/detect", content=b"x", headers={"Content-Type": "text/plain"}), 415, "media_type_unsupported"
    )
    problem(client.post("/v1/detect", content=b"x"), 415, "media_type_unsupported")
    problem(client.post("/v1/verify", content=b"x", headers=PNG), 415, "media_type_unsupported")
    files = {"images": ("a.pdf", b"%PDF", "application/pdf")}
    assert problem(client.post("/v1/detect", files=files), 415, "image_unreadable")["part"] == "images.0"
    files = {"images": ("a.json", b'{"image": ""}', "application/json")}
    assert problem(client.post("/v1/detect", files=files), 415, "media_type_unsupported")["part"] == "images"


def test_repeated_parts_and_parameters_are_refused(client: TestClient) -> None:
    files = [("probe", faces_png(1)), ("probe", noise_jpeg(64, 64)), ("reference", faces_png(1))]
    assert problem(client.post("/v1/verify", files=files), 422, "member_repeated")["part"] == "probe"
    document = problem(
        client.post("/v1/detect?faces=all&faces=single", content=faces_png(1), headers=PNG), 422, "member_repeated"
    )
    assert document["part"] == "faces"
    answer = client.post("/v1/detect?faces=all", files={"images": faces_png(1)}, data={"faces": "all"})
    assert problem(answer, 422, "member_repeated")["part"] == "faces"


def test_missing_and_unknown_parts_are_named(client: TestClient) -> None:
    assert (
        problem(client.post("/v1/verify", files={"probe": faces_png(1)}), 422, "member_missing")["part"] == "reference"
    )
    files = {"probe": faces_png(1), "reference": faces_png(1), "third": faces_png(1)}
    assert problem(client.post("/v1/verify", files=files), 422, "member_unknown")["part"] == "third"
    assert (
        problem(client.post("/v1/detect?face=all", content=faces_png(1), headers=PNG), 422, "member_unknown")["part"]
        == "face"
    )
    files = {"probe": faces_png(1), "reference": faces_png(1)}
    assert "body" in problem(client.post("/v1/verify?faces=all", files=files), 422, "member_unknown")["detail"]
    problem(
        client.post(
            "/v1/detect", files={}, data={"faces": "all"}, headers={"Content-Type": "multipart/form-data; boundary=x"}
        ),
        400,
        "multipart_malformed",
    )


def test_malformed_bodies_are_refused(client: TestClient) -> None:
    headers = {"Content-Type": "application/json"}
    problem(client.post("/v1/detect", content=b"{", headers=headers), 400, "json_malformed")
    problem(client.post("/v1/detect", content=b"[]", headers=headers), 400, "json_malformed")
    problem(client.post("/v1/detect", content=b"\xff\xfe", headers=headers), 400, "json_malformed")
    problem(
        client.post("/v1/detect", content=b"x", headers={"Content-Type": "multipart/form-data"}),
        400,
        "multipart_malformed",
    )
    document = problem(client.post("/v1/detect", json={"images": ["not base64!"]}), 422, "base64_malformed")
    assert document["part"] == "images.0"
    problem(client.post("/v1/detect", json={"images": []}), 422, "member_invalid")
    problem(client.post("/v1/detect", json={"images": "abc"}), 422, "member_invalid")
    problem(client.post("/v1/detect", json={"images": [b64(faces_png(1))], "extra": 1}), 422, "member_unknown")
    twice = b'{"images": ["a"], "images": ["b"]}'
    assert (
        problem(client.post("/v1/detect", content=twice, headers=headers), 422, "member_repeated")["part"] == "images"
    )
    problem(client.post("/v1/detect", content=b"[" * 100_000, headers=headers), 400, "json_malformed")
    text = client.post("/v1/verify", data={"reference": "a text"}, files={"probe": faces_png(1)})
    assert problem(text, 422, "member_invalid")["part"] == "reference"
    nested = {"probe": {"image": "", "url": "http://x"}, "reference": {"image": ""}}
    assert problem(client.post("/v1/verify", json=nested), 422, "member_unknown")["part"] == "probe.url"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_not_finite_are_refused(client: TestClient, number: str) -> None:
    sides = {"probe": {"image": ""}, "reference": {"image": ""}}
    body = json.dumps(sides)[:-1] + f', "operating_point": {number}}}'
    problem(
        client.post("/v1/verify", content=body, headers={"Content-Type": "application/json"}), 400, "json_malformed"
    )
    document = problem(verify(client, faces_png(1), faces_png(1), operating_point=number), 422, "member_invalid")
    assert document["part"] == "operating_point"


def test_values_out_of_range_are_refused(client: TestClient) -> None:
    problem(verify(client, faces_png(1), faces_png(1), faces="everyone"), 422, "member_invalid")
    problem(verify(client, faces_png(1), faces_png(1), operating_point="fmr_1e-9"), 422, "operating_point_unknown")
    problem(verify(client, faces_png(1), faces_png(1), operating_point="1e-9"), 422, "operating_point_unknown")
    problem(verify(client, faces_png(1), faces_png(1), operating_point="2"), 422, "member_invalid")
    problem(verify(client, faces_png(1), faces_png(1), operating_point=""), 422, "member_invalid")


def test_too_many_images_and_too_large_bodies_are_refused(fake_models: Models, galleries: Galleries) -> None:
    settings = Settings(request=RequestSettings(max_bytes=20_000, max_images=3))
    with api_client(create_app(fake_models, galleries, settings)) as client:
        small = encode(Image.new("RGB", (16, 16)))
        problem(client.post("/v1/detect", files=[("images", small)] * 4), 422, "too_many_images")
        problem(client.post("/v1/detect", files=[("images", small)] * 9), 422, "too_many_images")
        problem(client.post("/v1/detect", json={"images": [b64(small)] * 4}), 422, "too_many_images")
        problem(client.post("/v1/detect", content=bytes(20_001), headers=PNG), 413, "body_too_large")
        problem(client.post("/v1/detect", content=iter([bytes(15_000)] * 2), headers=PNG), 413, "body_too_large")
        problem(client.post("/v1/detect", files={"images": bytes(20_001)}), 413, "body_too_large")
        assert client.post("/v1/detect", files=[("images", small)] * 3).status_code == 200


def test_errors_of_the_router_are_problems_too(client: TestClient) -> None:
    problem(client.get("/v2/nothing"), 404, "route_unknown")
    answer = client.get("/v1/verify")
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


def test_without_a_calibration_verify_returns_a_similarity_and_the_reason(
    fake_models: Models, galleries: Galleries
) -> None:
    from dataclasses import replace

    models = replace(fake_models, calibration=None, uncalibrated_because="this model was never calibrated")
    with api_client(create_app(models, galleries, Settings())) as client:
        body = verify(client, faces_png(1), faces_png(1)).json()
        assert body["similarity"] == pytest.approx(1)
        assert body["decision"] is body["operating_point"] is body["false_match_rate"] is None
        assert body["uncalibrated_because"] == "this model was never calibrated"
        problem(verify(client, faces_png(1), faces_png(1), operating_point="fmr_1e-3"), 409, "calibration_unfit")
        assert client.get("/v1/info").json()["operating_points"] == []


def test_internal_errors_reveal_only_the_request_id(
    fake_models: Models, galleries: Galleries, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret")

    with api_client(create_app(fake_models, galleries, Settings()), raise_server_exceptions=False) as client:
        monkeypatch.setattr(fake_models.pipeline, "detect", fail)
        answer = client.post("/v1/detect", content=faces_png(1), headers={**PNG, "X-Request-Id": "mine-1"})
        assert problem(answer, 500, "internal_error")["request_id"] == "mine-1"
        assert "secret" not in answer.text


def test_request_ids_are_adopted_only_if_they_are_safe(client: TestClient) -> None:
    assert client.get("/healthz", headers={"X-Request-Id": "a-1._B"}).headers["x-request-id"] == "a-1._B"
    for unsafe in ("a b", "x" * 65, '"><script>'):
        assert client.get("/healthz", headers={"X-Request-Id": unsafe}).headers["x-request-id"] != unsafe


def test_ready_only_while_inference_works(
    fake_models: Models, galleries: Galleries, monkeypatch: pytest.MonkeyPatch
) -> None:
    with api_client(create_app(fake_models, galleries, Settings())) as client:
        assert client.get("/healthz").json() == {"status": "alive"}
        assert client.get("/readyz").json() == {"status": "ready"}

        def fail(*_: object) -> None:
            raise InferenceFailed("the engine is gone")

        monkeypatch.setattr(fake_models.pipeline.embedder, "embed", fail)
        problem(client.get("/readyz"), 503, "not_ready")
        problem(client.get("/startupz"), 503, "not_ready")
        assert client.get("/healthz").status_code == client.get("/livez").status_code == 200


def test_ready_only_while_the_store_the_disk_and_the_log_can_be_used(
    guarded: Guarded, galleries: Galleries, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = guarded.client
    assert client.get("/startupz").json() == client.get("/readyz").json() == {"status": "ready"}
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
        answer = problem(client.get("/readyz"), 503, "not_ready")
        assert answer["detail"] == "the disk of the galleries has 1 MiB left; 64 are required"
        assert client.get("/livez").status_code == client.get("/startupz").status_code == 200
    with monkeypatch.context() as patched:

        def fail() -> None:
            raise StoreFailed("the gallery store failed: disk I/O error")

        patched.setattr(galleries, "require_readable", fail)
        assert "disk I/O error" in problem(client.get("/readyz"), 503, "not_ready")["detail"]
    with monkeypatch.context() as patched:
        patched.setattr(AuditLog, "is_stopped", True)
        assert "the audit log" in problem(client.get("/readyz"), 503, "not_ready")["detail"]
    client.app.state.backend.draining.set()  # type: ignore[attr-defined]
    assert "told to stop" in problem(client.get("/readyz"), 503, "not_ready")["detail"]
    assert client.get("/livez").json() == {"status": "alive"}


def test_info_states_the_training_data_of_a_pack(real_client: TestClient) -> None:
    manifest = find_manifest("opencv-zoo")
    info = real_client.get("/v1/info").json()
    for role, entry in (("detector", manifest.detector), ("recognizer", manifest.recognizer)):
        assert entry is not None
        assert info[role]["licence"] == entry.licence
        assert info[role]["training_data"] == entry.training_data


def test_info_describes_what_runs(client: TestClient, fake_models: Models) -> None:
    info = client.get("/v1/info").json()
    assert info["contract_id"] == fake_models.contract_id
    assert info["recognizer"]["session"] == {
        "engine": "fake",
        "version": "0",
        "provider": "none",
        "precision": "fp32",
        "threads": 1,
        "streams": 1,
    }
    assert (info["tuning"], info["untuned_because"]) == (
        None,
        None,
    )  # these models were created without looking for a tuning
    assert [point["name"] for point in info["operating_points"]] == ["fmr_1e-2", "fmr_1e-3"]
