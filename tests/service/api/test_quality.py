"""Quality, gates, likelihood and inconclusive decisions over HTTP, with a fake detector and engine.

The norms of the fake engine are 11.3 ± 0.7. The fake detector finds faces of 8 pixels' width from the left edge on.
"""

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from models.artefact.card import NormStatistics
from models.deadline import Deadline
from models.quality import GeometryRange
from models.serving.models import Models
from service.app import create_app
from service.gallery.galleries import Galleries
from service.settings import Settings
from tests.client import api_client
from tests.conftest import galleries_for
from tests.pictures import faces_png
from tests.service.api.test_faces import problem, verify


def served(models: Models, galleries: Galleries) -> TestClient:
    return api_client(create_app(models, galleries, Settings()))


def with_quality(models: Models, **changes: Any) -> Models:
    assert models.calibration is not None
    quality = replace(models.calibration.quality, **changes)
    return replace(models, calibration=replace(models.calibration, quality=quality))


@pytest.fixture
def unvalidated(fake_models: Models, galleries: Galleries) -> Iterator[TestClient]:
    """A client of a model with unvalidated quality."""
    with served(with_quality(fake_models, validated=False, because="tiny faces look good to it"), galleries) as client:
        yield client


@pytest.fixture
def narrow(fake_models: Models, galleries: Galleries) -> Iterator[TestClient]:
    """A client of a model that was calibrated on large faces only."""
    with served(with_quality(fake_models, seen=GeometryRange(40.0, 1.0, 1.0)), galleries) as client:
        yield client


@pytest.fixture
def uncalibrated(fake_models: Models, galleries: Galleries) -> Iterator[TestClient]:
    models = replace(fake_models, calibration=None, uncalibrated_because="this model was never calibrated")
    with served(models, galleries) as client:
        yield client


def quality_of(client: TestClient, image: bytes) -> float:
    (item,) = client.post("/v1/embed", files={"images": image}).json()["items"]
    return float(item["faces"][0]["quality"])


def two_qualities(client: TestClient) -> tuple[bytes, bytes, float]:
    """Return a photo of higher and one of lower quality, and a quality between theirs."""
    images = sorted((faces_png(1, seed) for seed in range(6)), key=lambda image: quality_of(client, image))
    worse, better = images[0], images[-1]
    return better, worse, (quality_of(client, better) + quality_of(client, worse)) / 2


def b64(vector: "np.ndarray[Any, Any]") -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def test_every_embedded_face_has_a_quality(client: TestClient, fake_models: Models) -> None:
    (photo,) = fake_models.pipeline.embed([faces_png(1)], "single", Deadline())
    assert not isinstance(photo, Exception)
    assert fake_models.quality is not None
    expected = fake_models.quality.score(photo.faces[0].norm)
    assert 0 < expected < 100
    (item,) = client.post("/v1/embed", files={"images": faces_png(1)}).json()["items"]
    assert item["faces"][0]["quality"] == pytest.approx(expected, abs=0.01)
    assert item["faces"][0]["reasons"] == []
    body = verify(client, faces_png(1), faces_png(1)).json()
    assert body["probe"]["quality"] == body["reference"]["quality"] == pytest.approx(expected, abs=0.01)
    (item,) = client.post("/v1/detect", files={"images": faces_png(1)}).json()["items"]
    assert item["faces"][0]["quality"] is None, "quality needs an embedding"


def test_reasons_are_reported_and_refuse_a_face_only_on_request(narrow: TestClient) -> None:
    for route in ("detect", "embed"):
        (item,) = narrow.post(f"/v1/{route}", files={"images": faces_png(1)}).json()["items"]
        assert item["faces"][0]["reasons"] == ["face_too_small"]
    assert verify(narrow, faces_png(1), faces_png(1)).json()["decision"] == "match"
    refused = verify(narrow, faces_png(1), faces_png(1), reject="face_too_small")
    document = problem(refused, 422, "face_too_small")
    assert document["part"] == "probe"
    assert "no face below 40" in document["detail"]
    assert verify(narrow, faces_png(1), faces_png(1), reject="cut_off").status_code == 200
    for unknown in ("ugly", "low_quality"):
        problem(verify(narrow, faces_png(1), faces_png(1), reject=unknown), 422, "member_invalid")


def test_several_reasons_are_accepted_in_every_form(narrow: TestClient) -> None:
    image, both = faces_png(1), ["cut_off", "face_too_small"]
    narrow.post("/v1/galleries", json={"gallery": "staff"})
    path = "/v1/galleries/staff/subjects/ann/templates"
    files = {"probe": image, "reference": image}
    problem(narrow.post("/v1/verify", files=files, data={"reject": both}), 422, "face_too_small")
    problem(narrow.post(path, files={"images": image}, data={"reject": both}), 422, "face_too_small")
    problem(narrow.post(f"{path}?reject=cut_off&reject=face_too_small", files={"images": image}), 422, "face_too_small")
    search = narrow.post("/v1/identify", files={"images": image}, data={"gallery": "staff", "reject": both}).json()
    assert search["items"][0]["faces"][0]["refusal"] == "face_too_small"
    line = json.dumps({"image": base64.b64encode(image).decode()})
    answer = narrow.post(
        "/v1/identify?gallery=staff&reject=cut_off&reject=face_too_small",
        content=line,
        headers={"Content-Type": "application/x-ndjson"},
    )
    assert json.loads(answer.text)["faces"][0]["refusal"] == "face_too_small"


def test_verify_refuses_the_side_of_low_quality(client: TestClient) -> None:
    better, worse, between = two_qualities(client)
    assert verify(client, better, better, min_quality=str(between)).status_code == 200
    document = problem(verify(client, better, worse, min_quality=str(between)), 422, "low_quality")
    assert document["part"] == "reference"
    for wrong in ("-1", "101", "high"):
        problem(verify(client, better, worse, min_quality=wrong), 422, "member_invalid")


def test_a_decision_about_a_face_of_quality_0_claims_no_error_rate(
    client: TestClient, fake_models: Models, galleries: Galleries
) -> None:
    better, worse, between = two_qualities(client)
    scale = fake_models.quality
    assert scale is not None
    mean, spread = scale.statistics.mean, scale.statistics.deviation + 1e-3
    lowest = mean + (between / 50 - 1) / scale.statistics.h * spread  # the norm that has the quality `between`
    models = with_quality(fake_models, statistics=NormStatistics(lowest + 3.0, 0.999, 1 / 3))
    with served(models, galleries) as floored:
        (item,) = floored.post("/v1/embed", files={"images": worse}).json()["items"]
        assert (item["faces"][0]["quality"], item["faces"][0]["reasons"]) == (0, ["low_quality"])
        for probe, reference in ((worse, worse), (worse, better), (better, worse)):
            body = verify(floored, probe, reference).json()
            assert body["decision"] == ("match" if probe is reference else "no_match")
            assert body["false_match_rate"] is body["probability"] is body["log_likelihood_ratio"] is None
            assert verify(floored, probe, reference, inconclusive="true").json()["decision"] == "inconclusive"
        body = verify(floored, better, better, inconclusive="true").json()
        assert body["probe"]["reasons"] == []
        assert body["decision"] == "match"
        assert body["probability"] is not None


def test_a_decision_about_a_template_of_quality_0_claims_no_error_rate(client: TestClient) -> None:
    client.post("/v1/galleries", json={"gallery": "staff"})
    rng = np.random.default_rng(5)
    poor, good = (vector / np.linalg.norm(vector) for vector in rng.normal(size=(2, 128)))

    def enrol(subject: str, vector: "np.ndarray[Any, Any]", **members: Any) -> None:
        body = {"embeddings": [{"embedding": b64(vector), **members}]}
        answer = client.post(f"/v1/galleries/staff/subjects/{subject}/templates", json=body)
        assert answer.json()["items"][0]["status"] == "enrolled"

    def compared(vector: "np.ndarray[Any, Any]", subject: str, **members: Any) -> dict[str, Any]:
        sides = {"probe": {"embedding": b64(vector)}, "reference": {"gallery": "staff", "subject": subject}}
        answer = client.post("/v1/verify", json={**sides, **members})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def is_measured(body: dict[str, Any]) -> bool:
        return body["false_match_rate"] is not None

    enrol("poor", poor, quality=0)
    body = compared(poor, "poor")
    assert body["decision"] == "match"
    assert body["false_match_rate"] is body["probability"] is body["log_likelihood_ratio"] is None
    assert compared(poor, "poor", inconclusive=True)["decision"] == "inconclusive"
    for fusion in ("mean", "quality-weighted"):
        assert not is_measured(compared(poor, "poor", fusion=fusion))

    enrol("unknown", rng.normal(size=128))
    assert compared(good, "unknown")["probability"] is not None

    enrol("both", -poor, quality=0)
    enrol("both", good, quality=60)
    assert compared(good, "both", inconclusive=True)["decision"] == "match"
    assert is_measured(compared(good, "both"))
    assert not is_measured(compared(-poor, "both"))
    assert compared(good, "both")["comparisons"] == compared(-poor, "both")["comparisons"] == 2
    assert not is_measured(compared(good, "both", fusion="mean"))
    weighted = compared(good, "both", fusion="quality-weighted")
    assert weighted["similarity"] == pytest.approx(1, abs=1e-5)
    assert is_measured(weighted)


def test_with_the_policy_all_faces_of_low_quality_are_skipped(client: TestClient) -> None:
    image = faces_png(4)
    (item,) = client.post("/v1/embed", files={"images": image}).json()["items"]
    qualities = sorted(face["quality"] for face in item["faces"])
    between = (qualities[1] + qualities[2]) / 2
    body = verify(client, image, image, faces="all", min_quality=str(between)).json()
    assert body["comparisons"] == 4, "two faces of each photo remain"
    refused = verify(client, image, image, faces="all", min_quality=str(qualities[-1] + 0.1))
    best = max(item["faces"], key=lambda face: float(face["score"]))
    assert f"quality is {best['quality']:.0f};" in problem(refused, 422, "low_quality")["detail"]


def test_a_gate_on_unvalidated_quality_is_refused_with_the_reason(unvalidated: TestClient) -> None:
    calls = [
        verify(unvalidated, faces_png(1), faces_png(1), min_quality="20"),
        unvalidated.post("/v1/galleries", json={"gallery": "staff", "min_quality": 20}),
    ]
    unvalidated.post("/v1/galleries", json={"gallery": "open"})
    path = "/v1/galleries/open"
    calls += [
        unvalidated.patch(path, json={"min_quality": 20}),
        unvalidated.post(f"{path}/subjects/ann/templates", files={"images": faces_png(1)}, data={"min_quality": "20"}),
        unvalidated.post("/v1/identify", files={"images": faces_png(1)}, data={"gallery": "open", "min_quality": "20"}),
        unvalidated.post(
            f"{path}/templates?min_quality=20", content=b"", headers={"Content-Type": "application/x-ndjson"}
        ),
        unvalidated.post(
            "/v1/identify?gallery=open&min_quality=20", content=b"", headers={"Content-Type": "application/x-ndjson"}
        ),
    ]
    for answer in calls:
        assert "tiny faces look good" in problem(answer, 409, "quality_unvalidated")["detail"]
    assert verify(unvalidated, faces_png(1), faces_png(1)).json()["probe"]["quality"] is not None, (
        "quality is reported without being used"
    )
    quality = unvalidated.get("/v1/info").json()["quality"]
    assert (quality["validated"], quality["because"]) == (False, "tiny faces look good to it")


def test_without_a_calibration_there_are_no_gates_and_only_a_similarity(uncalibrated: TestClient) -> None:
    body = verify(uncalibrated, faces_png(1), faces_png(1)).json()
    assert body["similarity"] == pytest.approx(1)
    for member in ("decision", "operating_point", "log_likelihood_ratio", "probability", "prior"):
        assert body[member] is None
    assert body["uncalibrated_because"] == "this model was never calibrated"
    assert body["probe"]["quality"] is None
    for gate in ({"min_quality": "10"}, {"reject": "cut_off"}):
        document = problem(verify(uncalibrated, faces_png(1), faces_png(1), **gate), 409, "calibration_unfit")
        assert "never calibrated" in document["detail"]
    info = uncalibrated.get("/v1/info").json()
    assert info["quality"] is info["score_map"] is info["bound"] is None


def test_statistics_of_the_checkpoint_determine_quality_without_a_calibration(
    fake_models: Models, galleries: Galleries
) -> None:
    card = replace(fake_models.recognizer, norm_statistics=NormStatistics(11.0, 1.0, 0.333))
    models = replace(fake_models, recognizer=card, calibration=None, uncalibrated_because="it was never calibrated")
    with served(models, galleries) as client:
        assert verify(client, faces_png(1), faces_png(1)).json()["probe"]["quality"] is not None
        quality = client.get("/v1/info").json()["quality"]
        assert (quality["validated"], quality["norm_source"], quality["min_side_px"]) == (False, "checkpoint", None)
        problem(verify(client, faces_png(1), faces_png(1), min_quality="5"), 409, "quality_unvalidated")
        problem(verify(client, faces_png(1), faces_png(1), reject="cut_off"), 409, "calibration_unfit")
    mirrored = replace(card, preprocessing={**card.preprocessing, "mirror": True})
    with served(replace(models, recognizer=mirrored), galleries) as client:
        body = verify(client, faces_png(1), faces_png(1)).json()
    assert body["probe"]["quality"] is None, "the norm of two fused views differs from the norm in training"


def test_the_minimum_quality_of_a_gallery_applies_everywhere(client: TestClient) -> None:
    better, worse, between = two_qualities(client)
    created = client.post("/v1/galleries", json={"gallery": "staff", "min_quality": between})
    assert created.json()["min_quality"] == pytest.approx(between)
    path = "/v1/galleries/staff/subjects/ann/templates"
    problem(client.post(path, files={"images": worse}), 422, "low_quality")
    (item,) = client.post(path, files={"images": better}).json()["items"]
    assert item["status"] == "enrolled"
    templates = client.get("/v1/galleries/staff/subjects/ann").json()["templates"]
    assert templates[0]["quality"] == pytest.approx(quality_of(client, better), abs=0.01)

    search = client.post("/v1/identify", files=[("images", better), ("images", worse)], data={"gallery": "staff"})
    good, poor = (item["faces"][0] for item in search.json()["items"])
    assert (good["decision"], good["refusal"]) == ("candidates", None)
    assert good["candidates"][0]["subject"] == "ann"
    assert (poor["decision"], poor["refusal"], poor["candidates"]) == ("rejected", "low_quality", [])
    assert poor["reasons"] == ["low_quality"]

    sides = {
        "probe": {"image": base64.b64encode(worse).decode()},
        "reference": {"gallery": "staff", "subject": "ann"},
    }
    problem(client.post("/v1/verify", json=sides), 422, "low_quality")

    assert client.patch("/v1/galleries/staff", json={"min_quality": 0}).json()["min_quality"] == 0
    assert client.post(path, files={"images": worse}).json()["items"][0]["status"] == "enrolled"
    assert client.post("/v1/verify", json=sides).status_code == 200
    assert client.patch("/v1/galleries/staff", json={"index": "flat"}).json()["min_quality"] == 0
    for wrong in (101, -1, True, "much", None):
        problem(client.post("/v1/galleries", json={"gallery": "x", "min_quality": wrong}), 422, "member_invalid")


def test_the_stricter_of_request_and_gallery_applies(client: TestClient) -> None:
    better, worse, between = two_qualities(client)
    client.post("/v1/galleries", json={"gallery": "staff", "min_quality": 1})
    path = "/v1/galleries/staff/subjects/ann/templates"
    problem(client.post(path, files={"images": worse}, data={"min_quality": str(between)}), 422, "low_quality")
    client.patch("/v1/galleries/staff", json={"min_quality": between})
    problem(client.post(path, files={"images": worse}, data={"min_quality": "1"}), 422, "low_quality")
    assert client.post(path, files={"images": better}, data={"min_quality": "1"}).status_code == 200


def test_embeddings_are_gated_by_their_norm_or_stated_quality(client: TestClient) -> None:
    client.post("/v1/galleries", json={"gallery": "staff", "min_quality": 50})
    rng = np.random.default_rng(0)

    def enrolled(**members: Any) -> dict[str, Any]:
        vector = rng.normal(size=128)
        unit = b64(vector / np.linalg.norm(vector))
        body = {"embeddings": [{"embedding": unit, **members}, {"embedding": unit, **members}]}
        answer = client.post("/v1/galleries/staff/subjects/ann/templates", json=body).json()
        return dict(answer["items"][0])

    assert enrolled(norm=12.0)["status"] == "enrolled"
    assert enrolled(quality=80)["status"] == "enrolled"
    for members, words in (
        ({}, "is unknown"),
        ({"norm": 10.0}, "embedding is"),
        ({"quality": 30, "norm": 12}, "is 30"),
    ):
        item = enrolled(**members)
        assert item["problem"]["code"] == "low_quality"
        assert words in item["problem"]["detail"]


def test_ndjson_lines_are_gated_too(client: TestClient) -> None:
    better, worse, between = two_qualities(client)
    client.post("/v1/galleries", json={"gallery": "staff"})
    lines = [{"subject": "ann", "image": base64.b64encode(image).decode()} for image in (better, worse)]
    answer = client.post(
        f"/v1/galleries/staff/templates?min_quality={between}",
        content="\n".join(map(json.dumps, lines)),
        headers={"Content-Type": "application/x-ndjson"},
    )
    first, second = (json.loads(line) for line in answer.text.splitlines())
    assert (first["status"], second["status"]) == ("enrolled", "error")
    assert second["problem"]["code"] == "low_quality"


def test_within_the_interval_of_the_threshold_the_decision_may_be_inconclusive(
    fake_models: Models, galleries: Galleries
) -> None:
    """The reference is constructed to have each similarity with the probe."""
    rng = np.random.default_rng(3)
    probe, other = rng.normal(size=(2, 128))
    probe /= np.linalg.norm(probe)
    other -= other @ probe * probe
    other /= np.linalg.norm(other)
    with served(fake_models, galleries) as client:
        for similarity, default, inconclusive in (
            (0.37, "no_match", "no_match"),
            (0.39, "no_match", "inconclusive"),
            (0.41, "match", "inconclusive"),
            (0.44, "match", "match"),
        ):
            reference = similarity * probe + np.sqrt(1 - similarity**2) * other
            sides = {"probe": {"embedding": b64(probe)}, "reference": {"embedding": b64(reference)}}
            assert client.post("/v1/verify", json=sides).json()["decision"] == default
            answer = client.post("/v1/verify", json={**sides, "inconclusive": True}).json()
            assert answer["decision"] == inconclusive
            by_rate = client.post("/v1/verify", json={**sides, "operating_point": 0.01}).json()
            assert by_rate["operating_point"]["name"] == "fmr_1e-2"
            assert by_rate["decision"] == "match"


def test_similarity_maps_to_a_ratio_and_with_a_prior_to_a_probability(client: TestClient) -> None:
    body = verify(client, faces_png(1), faces_png(1)).json()
    assert body["log_likelihood_ratio"] == pytest.approx(9, abs=1e-4)
    assert body["prior"] == 0.5
    assert body["probability"] == pytest.approx(1 / (1 + np.exp(-9)))
    rare = verify(client, faces_png(1), faces_png(1), prior="0.0001").json()
    assert rare["log_likelihood_ratio"] == body["log_likelihood_ratio"]
    assert rare["probability"] == pytest.approx(1 / (1 + np.exp(-9) * 9999))
    for wrong in ("0", "1", "nan", "often"):
        problem(verify(client, faces_png(1), faces_png(1), prior=wrong), 422, "member_invalid")
    best = verify(client, faces_png(2), faces_png(2), faces="all").json()
    assert best["comparisons"] == 4
    assert best["probability"] is None, "the score map is valid for single comparisons only"


def test_a_calibration_under_other_conditions_is_reported(fake_models: Models, galleries: Galleries) -> None:
    assert fake_models.calibration is not None
    conditions = {
        **fake_models.calibration.conditions,
        "precision": "bf16",
        "detector_max_side_px": 1280,
        "mirror_in_graph": False,
    }
    models = replace(fake_models, calibration=replace(fake_models.calibration, conditions=conditions))
    with served(models, galleries) as client:
        mismatch = client.get("/v1/info").json()["calibration_mismatch"]
        assert client.get("/v1/info").json()["calibration_conditions"]["mirror_in_graph"] is False
    assert mismatch == "the calibration was measured with precision bf16, now fp32; detector_max_side_px 1280, now 640"
    with served(fake_models, galleries) as client:
        info = client.get("/v1/info").json()
    assert info["calibration_mismatch"] is None
    assert info["bound"] == {"similarity": 0.7, "fmr": 1e-5}
    assert info["score_map"]["method"] == "logistic"
    assert info["quality"]["norm_mean"] == 11.3


def test_the_calibration_that_was_measured_in_what_runs_is_served(fake_models: Models, galleries: Galleries) -> None:
    """The file holds bf16 and fp32; a processor without bf16 serves fp32 and reports no mismatch."""
    assert fake_models.calibration is not None
    measured = [
        replace(fake_models.calibration, default=name, conditions={"engine": "fake", "precision": precision})
        for precision, name in (("bf16", "fmr_1e-2"), ("fp32", "fmr_1e-3"))
    ]
    for calibrations, mismatch in (
        (measured, None),
        (measured[:1], "the calibration was measured with precision bf16, now fp32"),
    ):
        with served(fake_models.calibrated(calibrations, None), galleries) as client:
            info = client.get("/v1/info").json()
        assert info["calibration_mismatch"] == mismatch
        assert info["calibration_conditions"]["precision"] == ("bf16" if mismatch else "fp32")
        assert info["default_operating_point"] == ("fmr_1e-2" if mismatch else "fmr_1e-3")
    with served(fake_models.calibrated((), "never"), galleries) as client:
        assert client.get("/v1/info").json()["uncalibrated_because"] == "never"


def test_a_store_without_the_column_of_quality_has_no_minimum(fake_models: Models, tmp_path: Path) -> None:
    import sqlite3

    from service.gallery.store.schema import MIGRATIONS

    with galleries_for(fake_models, tmp_path / "galleries") as galleries:
        path = galleries.database.path
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    connection = sqlite3.connect(path)
    connection.executescript(MIGRATIONS[0])
    connection.execute(
        "INSERT INTO galleries (name, contract_id, dimensions, kind, keep_crops, metadata, created) "
        "VALUES ('old', ?, 128, 'auto', 0, '{}', 0)",
        (fake_models.contract_id,),
    )
    connection.execute("PRAGMA user_version = 1")
    connection.commit()
    connection.close()
    with galleries_for(fake_models, tmp_path / "galleries") as galleries, served(fake_models, galleries) as client:
        assert client.get("/v1/galleries/old").json()["min_quality"] == 0
        templates = "/v1/galleries/old/subjects/ann/templates"
        assert client.post(templates, files={"images": faces_png(1)}).status_code == 200
