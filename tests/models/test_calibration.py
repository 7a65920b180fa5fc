import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.artefact import Card, DetectorCard, read_card
from models.calibration import (
    Calibration,
    binomial_interval,
    operating_point,
    read_calibration,
    write_calibration,
)
from models.errors import CalibrationUnfit, OperatingPointUnknown
from models.packs import PackStore, find_manifest
from models.packs.manifest import calibration_file


def scores(count: int, mean: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 0.1, count).astype(np.float32)


@given(st.integers(300, 5000), st.sampled_from([1e-1, 1e-2]), st.integers(0, 9))
def test_the_threshold_costs_what_it_says(count: int, rate: float, seed: int) -> None:
    non_mated = scores(count, 0.0, seed)
    point = operating_point(non_mated, scores(100, 0.6, seed), rate, "a test")
    measured = float((non_mated >= np.float32(point.threshold)).mean())
    assert rate - 1 / count < measured <= rate
    assert point.interval[0] < measured < point.interval[1]


def test_a_rate_that_the_data_cannot_carry_is_refused() -> None:
    with pytest.raises(CalibrationUnfit, match="30000"):
        operating_point(scores(3000, 0, 0), scores(10, 0.6, 0), 1e-4, "a test")
    assert operating_point(scores(3000, 0, 0), scores(10, 0.6, 0), 1e-3, "a test").name == "fmr_1e-3"


def test_intervals_are_those_of_clopper_and_pearson() -> None:
    # C. Clopper, E. Pearson 1934; the rule of three is its upper end for no error, one-sided at 95 %.
    low, high = binomial_interval(0, 100)
    assert low == 0
    assert high == pytest.approx(1 - 0.025 ** (1 / 100))
    low, high = binomial_interval(3, 3000)
    assert (low, high) == pytest.approx((2.0627e-4, 2.9196e-3), rel=1e-4)
    assert binomial_interval(100, 100)[1] == 1


def calibration() -> Calibration:
    points = tuple(operating_point(scores(3000, 0, 0), scores(99, 0.6, 0), rate, "a test") for rate in (1e-2, 1e-3))
    return Calibration("ec1-x", "fmr_1e-3", points, {"engine": "fake"})


def test_points_are_found_by_name_and_by_rate() -> None:
    loose, strict = calibration().points
    assert calibration().point() == strict
    assert calibration().point("fmr_1e-2") == calibration().point(0.01) == loose
    for wanted in ("fmr_1e-9", 0.5, ""):
        with pytest.raises(OperatingPointUnknown, match="fmr_1e-3"):
            calibration().point(wanted)


def test_a_similarity_at_the_threshold_matches() -> None:
    point = calibration().point()
    assert point.decide(point.threshold) == "match"
    assert point.decide(np.nextafter(point.threshold, -1)) == "no_match"


def test_survives_the_file(tmp_path: Path) -> None:
    write_calibration(tmp_path / "c.json", calibration())
    assert read_calibration(tmp_path / "c.json", "ec1-x") == calibration()


def test_is_bound_to_its_contract_and_to_its_content(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    write_calibration(path, calibration())
    with pytest.raises(CalibrationUnfit, match="ec1-y"):
        read_calibration(path, "ec1-y")
    content = json.loads(path.read_text())
    content["points"][0]["threshold"] = -1
    path.write_text(json.dumps(content))
    with pytest.raises(CalibrationUnfit, match="altered"):
        read_calibration(path, "ec1-x")
    for text in ("{}", "[]", "", '{"digest": 1, "version": 1, "points": [{}]}'):
        path.write_text(text)
        with pytest.raises(CalibrationUnfit, match="cannot be read"):
            read_calibration(path, "ec1-x")


def test_the_default_pack_comes_with_a_calibration_of_its_own_contract(store: PackStore) -> None:
    path = calibration_file("opencv-zoo")
    assert path is not None
    pack = store.path(find_manifest("opencv-zoo"))
    detector = read_card(pack / "detector", DetectorCard)
    found = read_calibration(path, read_card(pack / "recognizer", Card).contract_id(detector.family))
    assert [point.rate for point in found.points] == [1e-2, 1e-3], "3,000 pairs carry no lower rate"
    assert all(low < point.rate < high for point in found.points for low, high in [point.interval])
