import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.artefact.card import Card, DetectorCard, read_card
from models.artefact.digests import value_digest
from models.calibration import (
    Calibration,
    closest,
    differences,
    not_measured_again,
    read_calibrations,
    write_calibrations,
)
from models.errors import CalibrationUnfit, OperatingPointUnknown, StorageFailed
from models.packs import PackStore, find_manifest
from models.packs.manifest import calibration_file
from tests.conftest import fake_calibration


def test_points_are_found_by_name_and_by_rate() -> None:
    calibration = fake_calibration()
    loose, strict = calibration.points
    assert calibration.point() == strict
    assert calibration.point("fmr_1e-2") == calibration.point(0.01) == loose
    for unknown in ("fmr_1e-9", 0.5, ""):
        with pytest.raises(OperatingPointUnknown, match="fmr_1e-3"):
            calibration.point(unknown)


def test_a_default_with_more_false_matches_than_usual_is_stated() -> None:
    lenient = replace(fake_calibration(), default="fmr_1e-2")
    assert lenient.lenient_default is not None
    assert "at fmr_1e-2, not at fmr_1e-4" in lenient.lenient_default
    assert "100 times" in lenient.lenient_default
    loose, strict = lenient.points
    usual = replace(lenient, points=(loose, replace(strict, name="fmr_1e-4", rate=1e-4)), default="fmr_1e-4")
    assert usual.lenient_default is None


def test_a_similarity_at_the_threshold_matches() -> None:
    point = fake_calibration().point()
    assert point.decide(point.threshold) == "match"
    assert point.decide(np.nextafter(point.threshold, -1)) == "no_match"


def test_is_inconclusive_within_the_threshold_interval_only_on_request() -> None:
    point = fake_calibration().point()
    low, high = point.threshold_interval
    assert low < point.threshold < high
    for similarity in (low, point.threshold, np.nextafter(high, -1)):
        assert point.decide(similarity, allow_inconclusive=True) == "inconclusive"
        assert point.decide(similarity) != "inconclusive"
    assert point.decide(high, allow_inconclusive=True) == "match"
    assert point.decide(np.nextafter(low, -1), allow_inconclusive=True) == "no_match"


def test_the_probability_follows_from_the_likelihood_ratio_and_the_prior() -> None:
    score_map = fake_calibration().score_map
    assert score_map.log_likelihood_ratio(0.4) == 0
    assert score_map.probability(0.4, 0.5) == 0.5
    assert score_map.probability(0.4, 0.01) == pytest.approx(0.01)
    odds = np.exp(score_map.log_likelihood_ratio(0.7)) * 0.1 / 0.9
    assert score_map.probability(0.7, 0.1) == pytest.approx(odds / (1 + odds))
    ratios = [score_map.log_likelihood_ratio(similarity) for similarity in np.linspace(-1.5, 1.5, 50)]
    assert ratios == sorted(ratios)
    assert ratios[0] == -10, "the map is constant beyond the knots"
    assert score_map.probability(-1, 1e-12) > 0
    assert score_map.probability(1, 1 - 1e-12) <= 1


def test_a_calibration_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_calibrations(tmp_path / "c.json", [fake_calibration()])
    assert read_calibrations(tmp_path / "c.json", "ec1-x") == (fake_calibration(),)
    assert [path.name for path in tmp_path.iterdir()] == ["c.json"]


def test_an_unwritable_path_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageFailed, match="cannot be written"):
        write_calibrations(tmp_path / "file" / "c.json", [fake_calibration()])


def test_rejects_another_contract_and_altered_content(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    write_calibrations(path, [fake_calibration()])
    with pytest.raises(CalibrationUnfit, match="ec1-y"):
        read_calibrations(path, "ec1-y")
    content = json.loads(path.read_text())
    content["measured"][0]["points"][0]["threshold"] = -1
    path.write_text(json.dumps(content))
    with pytest.raises(CalibrationUnfit, match="altered"):
        read_calibrations(path, "ec1-x")
    for text in ("{}", "[]", "", '{"version": 3, "measured": [{}]}'):
        path.write_text(text)
        with pytest.raises(CalibrationUnfit, match="cannot be read"):
            read_calibrations(path, "ec1-x")


def altered(path: Path, place: str, value: object) -> Path:
    """Write a calibration with the value at a dotted place replaced and with a correct digest."""
    write_calibrations(path, [fake_calibration()])
    content = json.loads(path.read_text())
    *parents, last = place.split(".")
    part = content if place in content else content["measured"][0]
    for step in parents:
        part = part[int(step)] if step.isdigit() else part[step]
    part[int(last) if last.isdigit() else last] = value
    content.pop("digest")
    content["digest"] = value_digest(content)
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("points", []),
        ("points.0.threshold", float("nan")),
        ("points.0.threshold", "0.4"),
        ("points.0.rate", None),
        ("points.0.interval", [0.3, 0.1]),
        ("points.0.errors", 1.5),
        ("points.0.errors", 29),
        ("points.0.threshold", -5.0),
        ("points.0.threshold", 0.41),
        ("points.0.rate", 1e-4),
        ("points.0.name", "fmr\x1b[31m"),
        ("score_map.knots.1", [1.0, 2.0]),
        ("score_map.knots.2", [1.0, 1e308]),
        ("score_map.folds", "ten"),
        ("quality.statistics.h", -1.0),
        ("bound.fmr", -3.0),
        ("points.1.name", "fmr_1e-2"),
        ("default", "fmr_1e-9"),
        ("score_map.knots", []),
        ("score_map.knots.0", [0.9, 3.0]),
        ("score_map.knots.2", [1.0, float("inf")]),
        ("score_map.cost", float("nan")),
        ("score_map.method", "magic"),
        ("quality.validated", "no"),
        ("quality.statistics.mean", float("nan")),
        ("quality.seen.max_pose", "wide"),
        ("quality.because", {"a": 1}),
        ("bound.fmr", None),
        ("conditions", None),
        ("conditions.engine", ["openvino"]),
        ("contract_id", 7),
        ("measured", []),
        ("measured", None),
        ("points.0.gfrr", 1.5),
        ("points.0.gfar", None),
        ("points.0.fnmr_by_subject", None),
        ("points.0.fnmr_by_subject", -0.1),
        ("points.0.fnmr_by_subject_interval", [0.2, 0.1]),
    ],
)
def test_implausible_values_are_rejected_despite_a_correct_digest(tmp_path: Path, place: str, value: object) -> None:
    path = altered(tmp_path / "c.json", place, value)
    if place == "quality.because":
        path = altered(
            tmp_path / "c.json",
            "quality",
            {**json.loads(path.read_text())["measured"][0]["quality"], "validated": False},
        )
    with pytest.raises(CalibrationUnfit, match=r"c\.json cannot be read as a calibration"):
        read_calibrations(path, "ec1-x")


def test_rejects_json_that_is_nested_too_deeply(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text("[" * 200_000)
    with pytest.raises(CalibrationUnfit):
        read_calibrations(tmp_path / "c.json", "ec1-x")


def test_the_error_for_an_older_version_states_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.json"
    monkeypatch.setattr("models.calibration.files._VERSION", 2)
    write_calibrations(path, [fake_calibration()])
    monkeypatch.undo()
    with pytest.raises(CalibrationUnfit, match="run vultus calibrate"):
        read_calibrations(path, "ec1-x")


def measured_in(precision: str, detector_precision: str = "fp32", **more: object) -> Calibration:
    conditions = {"engine": "openvino", "precision": precision, "detector_precision": detector_precision, **more}
    return replace(fake_calibration(), conditions=conditions)


def test_a_file_holds_the_calibrations_of_several_conditions(tmp_path: Path) -> None:
    written = (measured_in("bf16", "bf16"), measured_in("fp32"))
    write_calibrations(tmp_path / "c.json", written)
    assert read_calibrations(tmp_path / "c.json", "ec1-x") == written


@pytest.mark.parametrize(
    ("running", "expected", "different"),
    [
        ({"precision": "fp32", "detector_precision": "fp32"}, 1, set()),
        ({"precision": "bf16", "detector_precision": "bf16"}, 0, set()),
        ({"precision": "fp32", "detector_precision": "fp32", "engine": "onnxruntime"}, 1, set()),
        ({"precision": "bf16", "detector_precision": "bf16", "engine": "onnxruntime"}, 0, {"engine"}),
        ({"precision": "int8", "detector_precision": "bf16"}, 0, {"precision"}),
        ({"precision": "int8", "detector_precision": "fp32"}, 1, {"precision"}),
        ({"precision": "fp32", "detector_precision": "bf16"}, 0, {"precision"}),
    ],
)
def test_the_calibration_whose_conditions_are_closest_is_chosen(
    running: dict[str, str], expected: int, different: set[str]
) -> None:
    calibrations = [measured_in("bf16", "bf16"), measured_in("fp32")]
    running = {"engine": "openvino", "engine_version": "2027.0", **running}
    chosen = closest(calibrations, running)
    assert chosen is calibrations[expected]
    assert set(differences(chosen, running)) == different


def test_conditions_that_are_not_measured_again_are_kept() -> None:
    earlier = [measured_in("bf16", "bf16"), measured_in("fp32"), measured_in("int8")]
    measured = [measured_in("int8", "bf16"), measured_in("fp32", engine="onnxruntime")]
    assert not_measured_again(earlier, measured) == [earlier[0], earlier[2]]


def test_precision_counts_more_than_all_other_conditions() -> None:
    far = measured_in("fp32", engine="onnxruntime", detector="scrfd", detector_max_side_px=1280)
    near = measured_in("bf16", engine="openvino", detector="yunet", detector_max_side_px=640)
    running = {
        "engine": "openvino",
        "precision": "fp32",
        "detector_precision": "fp32",
        "detector": "yunet",
        "detector_max_side_px": 640,
    }
    assert closest([near, far], running) is far


def test_unvalidated_quality_is_stored_with_its_reason(tmp_path: Path) -> None:
    calibration = fake_calibration()
    quality = replace(calibration.quality, validated=False, because="small faces look good to it")
    write_calibrations(tmp_path / "c.json", [replace(calibration, quality=quality)])
    assert read_calibrations(tmp_path / "c.json", "ec1-x")[0].quality == quality


def test_the_default_pack_has_a_calibration_for_its_contract(store: PackStore) -> None:
    path = calibration_file("opencv-zoo")
    assert path is not None
    pack = store.path(find_manifest("opencv-zoo"))
    detector = read_card(pack / "detector", DetectorCard)
    (found, *_) = read_calibrations(path, read_card(pack / "recognizer", Card).contract_id(detector.family))
    assert [point.rate for point in found.points] == [1e-2, 1e-3, 1e-4, 1e-5, 1e-6]
    assert all(low < point.rate < high for point in found.points for low, high in [point.interval])
    assert all(low < point.threshold < high for point in found.points for low, high in [point.threshold_interval])
    assert all(point.errors >= 30 for point in found.points)
    assert found.conditions["non_mated"] == 87_189_422
    assert found.quality.validated
