"""LFW View 2 with the default pack, from photos: some minutes of real work, the proof of the whole pipeline."""

from pathlib import Path

import pytest

from models.assembly import Models
from models.calibration import read_calibration
from models.evaluation.lfw_view2 import View2, calibrate, measure
from models.packs.manifest import calibration_file


@pytest.fixture(scope="module")
def view2(real_models: Models, shared: Path) -> View2:
    return measure(real_models.pipeline, shared / "data" / "lfw")


def test_finds_every_face(view2: View2) -> None:
    assert view2.failures == []


def test_reaches_the_accuracy_of_the_published_model(view2: View2) -> None:
    assert len(view2.mated) == len(view2.non_mated) == 3000
    assert view2.accuracy.mean >= 0.993


def test_the_calibration_in_the_repository_is_what_is_measured(real_models: Models, view2: View2) -> None:
    """Thresholds of another engine or precision may move by some thousandths, not by more."""
    path = calibration_file("opencv-zoo")
    assert path is not None
    kept = read_calibration(path, real_models.contract_id)
    for written, measured in zip(kept.points, calibrate(real_models, view2).points, strict=True):
        assert written.name == measured.name
        assert written.threshold == pytest.approx(measured.threshold, abs=0.01)
        false_matches = float((view2.non_mated >= written.threshold).mean())
        assert written.interval[0] <= false_matches <= written.interval[1]
