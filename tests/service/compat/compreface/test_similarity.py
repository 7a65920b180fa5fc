"""CompreFace's curves, and the probability."""

import math

import pytest

from models.calibration import ScoreMap
from service.compat.compreface.similarity import _CURVES, Curve, Probability, similarity_map
from service.compat.compreface.wire import rounded

SCORE_MAP = ScoreMap("logistic", ((0.0, -10.0), (0.4, 0.0), (1.0, 9.0)), 0.02, 0.01, 0.001, 10, "a test")


@pytest.mark.parametrize("name", list(_CURVES))
def test_curves_are_those_of_compreface(name: str) -> None:
    centre, slope = _CURVES[name]
    curve = Curve(name)
    at_centre = 1 - centre**2 / 2  # the cosine of two vectors at the distance of the centre
    assert curve.of(at_centre) == pytest.approx(0.5)
    assert curve.of(1.0) == pytest.approx((math.tanh(centre * slope) + 1) / 2)
    assert curve.of(1.0) > 0.999
    assert curve.of(-1.0) < 0.01


def test_the_probability_is_that_of_the_calibration_at_even_odds() -> None:
    found = similarity_map("probability", SCORE_MAP)
    assert isinstance(found, Probability)
    assert found.of(0.4) == pytest.approx(0.5)
    assert found.of(1.0) == pytest.approx(1 / (1 + math.exp(-9)))
    assert similarity_map("probability", None) is None
    assert similarity_map("facenet", None) == Curve("facenet")


@pytest.mark.parametrize(("number", "expected"), [(0.123455, 0.12346), (0.5, 0.5), (0.000004, 0.0), (1.0, 1.0)])
def test_numbers_have_five_decimals_and_halves_are_rounded_up(number: float, expected: float) -> None:
    assert rounded(number) == expected
