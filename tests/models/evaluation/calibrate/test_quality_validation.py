import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from models.evaluation.calibrate.degradation import DEGRADATIONS, degrade
from models.evaluation.calibrate.quality_validation import REAL, Comparisons, Verdict, validate_quality
from models.evaluation.metrics.discard import discard_curve, rank_correlation
from models.synthetic import synthetic_pictures

THRESHOLD = 0.4


def comparisons(order: float, seed: int = 0, subjects: int = 300, level: float = 0.55) -> Comparisons:
    """Return similarities and qualities with the correlation `order`."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(level, 0.15, subjects)
    quality = order * (scores - level) / 0.15 + np.sqrt(1 - order**2) * rng.normal(size=subjects)
    return Comparisons((10 + quality + 5 * level).astype(np.float32), scores.astype(np.float32))


def test_a_norm_that_predicts_errors_is_validated() -> None:
    verdict = validate_quality({REAL: comparisons(0.6), "blur": comparisons(0.5, 1, level=0.4)}, THRESHOLD)
    assert verdict.because is None
    assert verdict.evidence["subjects"] == 300
    assert verdict.evidence["blur"]["spearman_least"] > 0
    assert verdict.evidence["blur"]["fnmr_with_a_fifth_discarded"] < verdict.evidence["blur"]["fnmr"]


def test_a_norm_unrelated_to_errors_is_not_validated() -> None:
    verdict = validate_quality({REAL: comparisons(0.0)}, THRESHOLD)
    assert verdict.because is not None
    assert "real faces" in verdict.because
    assert "does not predict" in verdict.because


def test_one_degradation_with_long_embeddings_prevents_validation() -> None:
    """A real network behaves like this: faces of 12 pixels are useless and have the longest embeddings of all."""
    tiny = comparisons(0.0, 1, level=0.05)
    tiny = tiny._replace(quality=tiny.quality + 9)
    verdict = validate_quality({REAL: comparisons(0.6), "12 px": tiny}, THRESHOLD)
    assert verdict.because is not None
    assert "12 px" in verdict.because


def validate_real(scores: NDArray[np.float64], quality: NDArray[np.float64]) -> Verdict:
    return validate_quality({REAL: Comparisons(quality.astype(np.float32), scores.astype(np.float32))}, THRESHOLD)


def test_correlation_alone_does_not_validate_quality() -> None:
    """Similarity rises with quality, but all errors have medium quality, so discarding the lowest does not help."""
    scores = np.linspace(0.5, 0.9, 400)
    scores[200:240] = 0.3
    verdict = validate_real(scores, np.arange(400.0))
    assert verdict.evidence[REAL]["spearman_least"] > 0.3
    assert verdict.because is not None
    assert "does not clearly lower" in verdict.because


def test_few_errors_must_not_become_more_frequent() -> None:
    """25 errors are too few to show a decrease, but enough to show that all of them have the highest quality."""
    scores = np.linspace(0.5, 0.9, 1000)
    scores[975:] = 0.3
    verdict = validate_real(scores, np.arange(1000.0))
    assert verdict.evidence[REAL]["errors"] == 25
    assert verdict.evidence[REAL]["spearman_least"] > 0.3
    assert verdict.because is not None
    assert "raises the false non-match rate" in verdict.because


def test_quality_is_not_validated_without_errors() -> None:
    verdict = validate_real(np.linspace(0.5, 0.9, 400), np.arange(400.0))
    assert verdict.because == "the measurement has only 0 errors; at least 30 are needed"


def test_quality_is_not_validated_on_few_subjects_and_pictures_without_a_face_do_not_count() -> None:
    compared = comparisons(0.9, subjects=40)
    scores = compared.scores.copy()
    scores[:15] = np.nan
    verdict = validate_quality({REAL: Comparisons(compared.quality, scores)}, THRESHOLD)
    assert verdict.because == "it was measured on 25 subjects with two pictures; at least 30 are needed"


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_degradations_are_deterministic_and_change_the_crop(kind: str) -> None:
    crop = synthetic_pictures(1, 112, 96)[0]
    worse = degrade(crop, kind)
    assert worse.shape == crop.shape
    assert worse.dtype == np.uint8
    assert (degrade(crop, kind) == worse).all()
    assert np.abs(worse.astype(int) - crop).mean() > 2


def detail(crop: NDArray[np.uint8]) -> float:
    return float(cv2.Laplacian(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())


def test_lower_resolutions_leave_less_detail() -> None:
    crop = synthetic_pictures(1, 112, 112)[0]
    details = [detail(crop), *(detail(degrade(crop, kind)) for kind in ("32 px", "20 px", "12 px"))]
    assert details == sorted(details, reverse=True)
    assert degrade(crop, "dark").mean() == pytest.approx(0.15 * crop.mean(), rel=0.02)


def test_noise_differs_between_faces() -> None:
    crops = np.clip(synthetic_pictures(2, 112, 112), 90, 165)  # so that no noise is clipped at black or white
    noises = [(degrade(crop, "noise").astype(int) - crop).ravel() for crop in crops]
    assert abs(np.corrcoef(*noises)[0, 1]) < 0.05
    assert np.std(noises[0]) == pytest.approx(30, rel=0.05)


def test_discard_curve_counts_the_remaining_comparisons() -> None:
    quality = np.arange(100, dtype=np.float32)
    scores = np.where(quality < 10, 0.0, 1.0).astype(np.float32)
    curve = discard_curve(quality, scores, 0.5)
    assert curve.comparisons == 100
    assert curve.discarded[:4] == [0.0, 0.05, 0.1, 0.15]
    assert curve.fnmr[:4] == pytest.approx([0.1, 5 / 95, 0.0, 0.0])
    assert discard_curve(-quality, scores, 0.5).fnmr[2] == pytest.approx(10 / 90), "the rate rises in reverse order"


def test_rank_correlation_of_constant_values_is_0() -> None:
    ones = np.ones(5, np.float32)
    assert rank_correlation(ones, np.arange(5, dtype=np.float32)) == 0
    assert rank_correlation(np.arange(5, dtype=np.float32), np.arange(5, dtype=np.float32) ** 3) == pytest.approx(1)
