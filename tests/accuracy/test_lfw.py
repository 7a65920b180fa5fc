"""LFW View 2 from photos with the default pack, which tests the whole pipeline and takes about half a minute."""

from pathlib import Path

import numpy as np
import pytest

from models.calibration import closest, read_calibrations
from models.evaluation.acquire.pictures import FaceTable, Picture
from models.evaluation.metrics.all_pairs import compare_all
from models.evaluation.metrics.pair_scores import PairScores
from models.evaluation.model import EvaluatedModel
from models.evaluation.protocols.lfw_view2 import POLICY, evaluate_lfw_view2
from models.evaluation.reports.document import Evaluation
from models.evaluation.sets.lfw import photos, read_pairs
from models.packs.manifest import calibration_file
from models.serving.models import Models

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def model(real_models: Models, tmp_path_factory: pytest.TempPathFactory) -> EvaluatedModel:
    return EvaluatedModel(real_models, tmp_path_factory.mktemp("embeddings"))


@pytest.fixture(scope="module")
def faces(model: EvaluatedModel, shared: Path) -> FaceTable:
    lfw = shared / "data" / "lfw"
    pictures = [Picture(name, lfw / "images" / name) for name in photos(read_pairs(lfw / "pairs.txt"))]
    return model.embed(model.photos(POLICY), pictures)


@pytest.fixture(scope="module")
def view2(model: EvaluatedModel, faces: FaceTable, shared: Path) -> Evaluation:
    assert faces.inferred > 7000
    return evaluate_lfw_view2(model, shared / "data" / "lfw")


@pytest.fixture(scope="module")
def pairs(faces: FaceTable) -> PairScores:
    subjects = np.unique([name.partition("/")[0] for name in faces.names], return_inverse=True)[1]
    return compare_all(faces.embedding, subjects.astype(np.int64))


def figures(evaluation: Evaluation) -> dict[str, float]:
    return {figure.name: figure.value for figure in evaluation.figures}


def test_finds_every_face(faces: FaceTable) -> None:
    assert faces.failures == []


def test_reaches_the_accuracy_of_the_published_model(view2: Evaluation) -> None:
    found = figures(view2)
    assert found["mated"] == found["non_mated"] == 3000
    assert found["accuracy"] >= 0.993
    assert found["failure_to_acquire"] == 0


def test_reports_no_rate_that_three_thousand_pairs_do_not_support(view2: Evaluation) -> None:
    (points,) = [table for table in view2.tables if table.name == "points"]
    assert [row[0] for row in points.rows] == ["fmr_1e-2"]
    assert any("support no rate below 0.01" in note for note in view2.notes)


def test_the_norm_correlates_with_mated_similarity(view2: Evaluation) -> None:
    assert figures(view2)["norm_spearman"] > 0.4


def test_the_calibration_of_the_repository_is_reproduced(real_models: Models, pairs: PairScores) -> None:
    """Measured on the 29 million pairs of these photos; thresholds of other engines may differ by some thousandths."""
    path = calibration_file("opencv-zoo")
    assert path is not None
    stored = closest(read_calibrations(path, real_models.contract_id), real_models.running)
    for point in stored.points[:4]:  # a rate of 1e-6 has only 29 errors among these pairs
        measured = pairs.non_mated.threshold(point.rate)
        assert measured is not None
        assert point.threshold_interval[0] <= measured <= point.threshold_interval[1]
        assert point.threshold == pytest.approx(measured, abs=0.01 if point.rate > 1e-4 else 0.04)
        assert point.interval[0] <= pairs.non_mated.fmr(point.threshold) <= point.interval[1]


def test_cached_embeddings_need_no_inference(model: EvaluatedModel, faces: FaceTable, shared: Path) -> None:
    lfw = shared / "data" / "lfw" / "images"
    again = model.embed(model.photos(POLICY), [Picture(name, lfw / name) for name in faces.names])
    assert again.inferred == 0
    assert np.array_equal(again.embedding, faces.embedding)
    assert np.array_equal(again.geometry, faces.geometry)
    other = model.embed(model.photos("largest"), [Picture(faces.names[0], lfw / faces.names[0])])
    assert other.inferred == 1, "another policy may select another face"
