"""The scale from 0 to 100."""

from dataclasses import replace

import pytest

from models.calibration import Bound
from service.compat.rekognition.similarity import SimilarityScale
from tests.conftest import fake_calibration


def test_80_is_the_default_point_and_99_the_strictest() -> None:
    calibration = replace(fake_calibration(), default="fmr_1e-2")
    scale = SimilarityScale.of(calibration)
    assert scale.meaning == "80=fmr_1e-2, 99=fmr_1e-3"
    assert scale.similarity(0.3) == pytest.approx(80)
    assert scale.similarity(0.4) == pytest.approx(99)
    assert (scale.similarity(1.0), scale.similarity(0.0), scale.similarity(-1.0)) == (100, 0, 0)
    for similarity in (1.0, 50.0, 80.0, 93.0, 99.0, 99.9, 100.0):
        assert scale.similarity(scale.cosine(similarity)) == pytest.approx(similarity)
    assert scale.cosine(0.0) == -1.0


def test_99_is_the_bound_if_the_default_point_is_the_strictest() -> None:
    calibration = fake_calibration()
    assert SimilarityScale.of(calibration).cosines == (0.0, 0.4, 0.7, 1.0)
    assert SimilarityScale.of(calibration).meaning == "80=fmr_1e-3, 99=bound"
    lower = replace(calibration, bound=Bound(0.35, 1e-5))
    assert SimilarityScale.of(lower).cosines == (0.0, 0.4, 0.7, 1.0)
    assert SimilarityScale.of(lower).meaning == "80=fmr_1e-3, 99=half"
