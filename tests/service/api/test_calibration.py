"""`GET /v1/calibration`: the whole calibration that runs."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from fastapi.testclient import TestClient

from models.calibration import DISTRIBUTION_BINS, Calibration, Distribution
from models.serving.models import Models
from service.app import create_app
from service.gallery.galleries import Galleries
from service.settings import Settings
from tests.client import api_client


@contextmanager
def serving(models: Models, galleries: Galleries) -> Iterator[TestClient]:
    with api_client(create_app(models, galleries, Settings())) as client:
        yield client


def calibration_of(models: Models) -> Calibration:
    assert models.calibration is not None
    return models.calibration


def test_the_calibration_is_described_with_its_knots_and_distribution(
    fake_models: Models, galleries: Galleries
) -> None:
    counts = tuple(range(DISTRIBUTION_BINS))
    calibration = replace(calibration_of(fake_models), distribution=Distribution(counts, counts[::-1]))
    with serving(replace(fake_models, calibration=calibration), galleries) as client:
        answer, described = client.get("/v1/calibration").json(), client.get("/v1/info").json()
    assert answer["operating_points"] == described["operating_points"]
    assert answer["default_operating_point"] == described["default_operating_point"] == "fmr_1e-3"
    assert answer["bound"] == described["bound"]
    assert answer["conditions"] == described["calibration_conditions"]
    assert answer["mismatch"] == described["calibration_mismatch"]
    assert answer["contract_id"] == calibration.contract_id
    assert answer["score_map"]["knots"] == [[-1.0, -10.0], [0.4, 0.0], [1.0, 9.0]]
    assert described["score_map"].items() <= answer["score_map"].items()
    assert described["quality"].items() <= answer["quality"].items()
    assert (answer["quality"]["norm_h"], answer["quality"]["evidence"]) == (0.333, [])
    assert answer["distribution"] == {"mated": list(counts), "non_mated": list(counts[::-1])}


def test_a_calibration_of_an_earlier_version_has_no_distribution(client: TestClient) -> None:
    assert client.get("/v1/calibration").json()["distribution"] is None


def test_the_evidence_of_quality_has_a_curve_for_each_kind(fake_models: Models, galleries: Galleries) -> None:
    calibration = calibration_of(fake_models)
    real = {
        "spearman": 0.52,
        "spearman_least": None,
        "fnmr": 0.023,
        "fnmr_with_a_fifth_discarded": 0.011,
        "fnmr_change_least": -0.02,
        "errors": 23,
        "curve": {"discarded": [0.0, 0.1], "fnmr": [0.023, 0.015]},
    }
    evidence = {"subjects": 1000, "threshold": 0.43, "real": real, "of another program": {"curve": 3}}
    quality = replace(calibration.quality, evidence=evidence)
    with serving(replace(fake_models, calibration=replace(calibration, quality=quality)), galleries) as client:
        answer = client.get("/v1/calibration").json()["quality"]
    assert answer["evidence_threshold"] == 0.43
    shown = {name: value for name, value in real.items() if name != "fnmr_change_least"}
    assert answer["evidence"] == [{"kind": "real", **shown}]


def test_without_a_calibration_the_reason_is_told(fake_models: Models, galleries: Galleries) -> None:
    because = "this model was never calibrated"
    with serving(replace(fake_models, calibration=None, uncalibrated_because=because), galleries) as client:
        refused = client.get("/v1/calibration")
    assert (refused.status_code, refused.json()["code"]) == (409, "calibration_unfit")
    assert because in refused.json()["detail"]


def test_the_calibration_of_the_default_pack_has_evidence(real_client: TestClient, real_models: Models) -> None:
    answer = real_client.get("/v1/calibration").json()
    shipped = calibration_of(real_models)
    kinds = [kind for kind, found in shipped.quality.evidence.items() if isinstance(found, dict)]
    assert [entry["kind"] for entry in answer["quality"]["evidence"]] == kinds
    for entry in answer["quality"]["evidence"]:
        assert entry["curve"] == json.loads(json.dumps(shipped.quality.evidence[entry["kind"]]["curve"]))
    assert answer["score_map"]["knots"] == [list(knot) for knot in shipped.score_map.knots]
