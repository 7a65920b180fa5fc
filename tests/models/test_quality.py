from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.alignment import TEMPLATES
from models.artefact.card import NormStatistics
from models.detection import Face
from models.errors import CalibrationUnfit, CutOff, ExtremePose, FaceTooSmall, LowQuality, QualityUnvalidated
from models.quality import (
    NO_GATE,
    Gate,
    GeometryRange,
    QualityScale,
    adaface_indicator,
    assess,
    geometry_of,
    quality_scores,
)
from models.quality.geometry import measured_range
from models.quality.norm import norm_statistics

TEMPLATE = TEMPLATES["arcface-112"]
POINTS = np.array(TEMPLATE.points, np.float32)
SCALE = QualityScale(NormStatistics(20.0, 4.0, 0.333), "measured", True, None, {}, GeometryRange(40.0, 0.3, 0.1))


def face(scale: float = 1.0, shift: tuple[float, float] = (0.0, 0.0), turn: float = 0.0) -> Face:
    """Return a frontal face in the size of the template times `scale`; `turn` moves the nose sideways."""
    points = POINTS.copy()
    points[2, 0] += turn
    points = points * scale + np.array(shift, np.float32)
    box = np.array([*shift, shift[0] + 112 * scale, shift[1] + 112 * scale], np.float32)
    return Face(box, points.astype(np.float32), 0.9)


def test_quality_rises_with_the_norm_from_0_to_100() -> None:
    norms = np.array([0.0, 8.0, 16.0, 20.0, 24.0, 32.0, 99.0], np.float32)
    quality = quality_scores(norms, SCALE.statistics)
    assert quality == pytest.approx([0, 0.12, 33.4, 50, 66.6, 99.9, 100], abs=0.1)
    assert (np.diff(quality) >= 0).all()
    assert quality == pytest.approx(50 * (1 + adaface_indicator(norms, SCALE.statistics)))


def test_statistics_match_those_of_the_training() -> None:
    norms = np.array([5, 10, 15, 500], np.float32)
    found = norm_statistics(norms)
    clipped = np.array([5, 10, 15, 100])
    assert found.mean == pytest.approx(clipped.mean())
    assert found.deviation == pytest.approx(clipped.std(ddof=1))


@given(st.floats(0.2, 5), st.floats(-3.1, 3.1), st.tuples(st.floats(300, 400), st.floats(300, 400)), st.floats(-12, 12))
def test_pose_does_not_depend_on_position_size_and_rotation(
    scale: float, angle: float, shift: tuple[float, float], turn: float
) -> None:
    upright = face(turn=turn)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.array([56, 56])
    points = ((upright.landmarks - middle) @ rotation.T * scale + np.array(shift)).astype(np.float32)
    moved = Face(upright.box, points, 0.9)
    expected = geometry_of(upright, (112, 112), TEMPLATE)
    found = geometry_of(moved, (2000, 2000), TEMPLATE)
    assert found.pose == pytest.approx(expected.pose, abs=2e-3)


def test_pose_is_zero_for_the_template_and_grows_as_the_head_turns() -> None:
    poses = [geometry_of(face(turn=turn), (112, 112), TEMPLATE).pose for turn in (0, 4, 8, 16, 24)]
    assert poses[0] == pytest.approx(0, abs=1e-5)
    assert poses == sorted(poses)


def test_cut_off_is_the_share_of_the_crop_outside_the_photo() -> None:
    assert geometry_of(face(), (112, 112), TEMPLATE).cut_off == pytest.approx(0, abs=1e-5)
    assert geometry_of(face(shift=(-28, 0)), (500, 500), TEMPLATE).cut_off == pytest.approx(0.25, abs=0.01)
    assert geometry_of(face(2.0, (-112, -112)), (500, 500), TEMPLATE).cut_off == pytest.approx(0.75, abs=0.01)
    assert geometry_of(face(shift=(-500, 0)), (100, 100), TEMPLATE).cut_off == pytest.approx(1, abs=1e-5)


def test_a_range_excludes_one_face_in_a_thousand_at_each_limit() -> None:
    rows = np.stack([np.arange(10_000), np.arange(10_000), np.arange(10_000)], axis=1).astype(np.float32)
    assert measured_range(rows) == pytest.approx((10, 9989, 9989), abs=0.1)


def test_reasons_state_how_a_face_lies_outside_the_calibration() -> None:
    def reasons(
        assessed: Face, size: tuple[int, int] = (2000, 2000), norm: float = 20, minimum: float = 0
    ) -> tuple[str, ...]:
        return assess(assessed, size, TEMPLATE, SCALE, norm, minimum).reasons

    assert reasons(face(shift=(50, 50))) == ()
    assert reasons(face(0.3, (50, 50))) == ("face_too_small",)
    assert reasons(face(turn=40, shift=(50, 50))) == ("extreme_pose",)
    assert reasons(face(shift=(-40, 50))) == ("cut_off",)
    assert reasons(face(shift=(50, 50)), norm=10, minimum=30) == ("low_quality",)
    assert reasons(Face(np.array([0, 0, 50, 50], np.float32), np.zeros((5, 2), np.float32), 0.9)) == ("extreme_pose",)


def test_a_face_at_the_floor_of_a_calibrated_scale_has_a_reason() -> None:
    def reasons(norm: float, scale: QualityScale) -> tuple[str, ...]:
        return assess(face(shift=(50, 50)), (2000, 2000), TEMPLATE, scale, norm).reasons

    floor = 20 - (4 + 1e-3) / 0.333
    assert reasons(floor - 0.01, SCALE) == ("low_quality",)
    assert reasons(floor + 0.01, SCALE) == ()
    uncalibrated = QualityScale.of_checkpoint(SCALE.statistics, "this model was never calibrated")
    assert reasons(floor - 0.01, uncalibrated) == (), "no range was measured that the face could lie outside of"


def test_an_assessment_without_a_calibration_is_empty() -> None:
    assert assess(face(), (112, 112), TEMPLATE, None, 20) == (None, (), None)
    assert assess(face(), (112, 112), TEMPLATE, SCALE).quality is None, "quality is unknown without an embedding"


def test_a_gate_rejects_only_for_its_reasons() -> None:
    small = assess(face(0.3, (50, 50)), (2000, 2000), TEMPLATE, SCALE, 10, 40)
    assert NO_GATE.refusal(small, SCALE) is None
    assert isinstance(Gate(40).refusal(small, SCALE), LowQuality)
    assert isinstance(Gate(0, ("face_too_small",)).refusal(small, SCALE), FaceTooSmall)
    assert Gate(5, ("cut_off", "extreme_pose")).refusal(small, SCALE) is None
    turned = assess(face(turn=40, shift=(-60, 0)), (2000, 2000), TEMPLATE, SCALE, 20)
    assert isinstance(Gate(0, ("extreme_pose",)).refusal(turned, SCALE), ExtremePose)
    assert isinstance(Gate(0, ("cut_off",)).refusal(turned, SCALE), CutOff)


def test_a_gate_requires_a_calibration_and_validated_quality() -> None:
    unvalidated = replace(SCALE, validated=False, because="tiny faces look good to it")
    NO_GATE.require_usable(None, "never calibrated")
    NO_GATE.require_usable(unvalidated, None)
    Gate(0, ("cut_off",)).require_usable(unvalidated, None)
    with pytest.raises(QualityUnvalidated, match="tiny faces look good"):
        Gate(1).require_usable(unvalidated, None)
    for gate in (Gate(1), Gate(0, ("extreme_pose",))):
        with pytest.raises(CalibrationUnfit, match="never calibrated"):
            gate.require_usable(None, "never calibrated")


def test_quality_from_checkpoint_statistics_cannot_be_a_gate() -> None:
    scale = QualityScale.of_checkpoint(SCALE.statistics, "this model was never calibrated")
    found = assess(face(0.1, (-60, 0), turn=40), (200, 200), TEMPLATE, scale, 24)
    assert found.quality == pytest.approx(SCALE.score(24))
    assert found.reasons == (), "without a calibration a face has no range to lie outside of"
    with pytest.raises(QualityUnvalidated, match="never calibrated"):
        Gate(1).require_usable(scale, "never calibrated")
    with pytest.raises(CalibrationUnfit, match="never calibrated"):
        Gate(0, ("cut_off",)).require_usable(scale, "never calibrated")


def test_the_stricter_of_two_gates_applies() -> None:
    assert Gate(30, ("cut_off",)).with_min_quality(50) == Gate(50, ("cut_off",))
    assert Gate(30).with_min_quality(0) == Gate(30)
