"""`GET /v1/parity`: the proof of the recognizer that runs."""

from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from models.serving.models import Models
from service.app import create_app
from service.gallery.galleries import Galleries
from service.settings import Settings
from tests.client import api_client

MEASURED = {
    "version": "1.32.0",
    "isa": "amx",
    "asked": True,
    "compared_with": "the source network",
    "worst_relative_l2": 1.5e-6,
    "mean_relative_l2": 1.3e-6,
    "worst_cosine": 0.99999988,
    "mean_cosine": 1.0,
    "worst_norm_drift": 3.5e-7,
    "spread": 0.05,
    "reference_spread": 0.05,
    "mean_between": 0.2,
    "reference_mean_between": 0.2,
    "threshold": 0.25,
    "flipped": 0,
    "pairs": 28,
    "labelled": {"accuracy": 0.99, "fnmr_at_1e-3": None},
    "passed": True,
    "why": [],
}
PROOF: dict[str, Any] = {
    "reference": {"file": "net.onnx", "sha256": "0" * 64, "runtime": "onnxruntime 1.32.0"},
    "pictures": "8 synthetic, seed 0",
    "labelled": {"set": "lfw", "accuracy": 0.991, "fnmr_at_1e-3": 0.01},
    "limits": {"fp32": {"worst_relative_l2": 1e-4, "worst_cosine": 0.99999, "norm_drift": 1e-4}},
    "measured": [
        {"precision": "fp32", "engine": "onnxruntime", **MEASURED},
        {"precision": "fp16", "engine": "openvino", "passed": False, "why": ["the engine failed"]},
    ],
    "passed": True,
}


@pytest.fixture
def answer(fake_models: Models, galleries: Galleries) -> dict[str, Any]:
    models = replace(fake_models, proof=PROOF, proof_row=("fp32", "onnxruntime"))
    with api_client(create_app(models, galleries, Settings())) as client:
        described: dict[str, Any] = client.get("/v1/parity").json()
    return described


def test_a_row_has_its_measures_and_limits(answer: dict[str, Any]) -> None:
    row = answer["rows"][0]
    measures = ("worst_relative_l2", "worst_cosine", "isa", "version", "passed", "why", "flipped", "pairs")
    assert {name: row[name] for name in measures} == {name: MEASURED[name] for name in measures}
    assert (row["norm_drift"], row["faces"], row["runs"], row["requested"]) == (3.5e-7, 8, True, True)
    assert row["limits"] == {**PROOF["limits"]["fp32"], "mean_cosine": None}
    assert row["labelled"] == {"accuracy": 0.99, "fnmr": None}
    assert row["impostors"] == pytest.approx(
        {
            "spread": 0.05,
            "reference_spread": 0.05,
            "least_spread": 0.04,
            "mean": 0.2,
            "reference_mean": 0.2,
            "greatest_mean": 0.25,
        }
    )
    assert (answer["labelled_set"], answer["reference"]) == ("lfw", PROOF["reference"])


def test_a_row_of_an_engine_that_failed_or_of_an_earlier_program_has_no_measures(answer: dict[str, Any]) -> None:
    row = answer["rows"][1]
    assert (row["passed"], row["why"], row["runs"]) == (False, ["the engine failed"], False)
    assert [row[name] for name in ("isa", "faces", "worst_cosine", "impostors", "labelled")] == [None] * 5


def test_the_proof_of_the_default_pack_has_the_row_that_runs(real_client: TestClient, real_models: Models) -> None:
    answer = real_client.get("/v1/parity").json()
    assert answer["passed"]
    assert len(answer["rows"]) == len(real_models.proof["measured"])
    (running,) = [row for row in answer["rows"] if row["runs"]]
    session = real_models.embedder_session
    assert (running["precision"], running["engine"]) == (session.precision, session.engine)
    assert (answer["precision"], answer["engine"]) == (session.precision, session.engine)
    assert running["passed"]
    assert running["faces"] == 8
