from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from models.calibration import ScoreMap
from models.evaluation.calibrate.score_map import fit_score_map
from models.evaluation.metrics.pair_scores import BINS, FoldHistograms, bins_of

FOLDS = 5


def histograms(mated: NDArray[np.float64], others: NDArray[np.float64]) -> FoldHistograms:
    """Deal scores into folds, as if every score were of different subjects."""

    def count(scores: NDArray[np.float64]) -> NDArray[np.int64]:
        return np.bincount(bins_of(scores.astype(np.float32)), minlength=BINS).astype(np.int64)

    by_fold = FoldHistograms(
        np.zeros((FOLDS, BINS), np.int64),
        np.zeros((FOLDS, FOLDS, BINS), np.int64),
        np.array([len(mated[fold::FOLDS]) for fold in range(FOLDS)]),
        np.array([2 * len(others[fold::FOLDS]) for fold in range(FOLDS)]),
    )
    for fold in range(FOLDS):
        by_fold.mated[fold] = count(mated[fold::FOLDS])
        by_fold.non_mated[fold, fold] = count(others[fold::FOLDS])
    return by_fold


def normal(mean: float, deviation: float, count: int, seed: int) -> NDArray[np.float64]:
    return np.clip(np.random.default_rng(seed).normal(mean, deviation, count), -1, 1)


def fit(mated: NDArray[np.float64], others: NDArray[np.float64]) -> ScoreMap:
    return fit_score_map(histograms(mated, others), "a test")


def test_fits_the_known_ratio_of_normal_distributions() -> None:
    """Two normal distributions of equal width have a linear ratio: (m1 - m0) (s - mean) / variance."""
    found = fit(normal(0.4, 0.15, 40_000, 0), normal(0.0, 0.15, 40_000, 1))
    for similarity in (0.0, 0.1, 0.2, 0.3, 0.4):
        true = 0.4 * (similarity - 0.2) / 0.15**2
        assert found.log_likelihood_ratio(similarity) == pytest.approx(true, abs=0.25)
    assert found.calibration_error < 0.02
    assert found.least_cost <= found.cost < found.least_cost + 0.01


def test_chooses_the_isotonic_map_where_a_line_does_not_fit() -> None:
    """One mated pair in ten has a uniformly random similarity, so only a flat line would fit those pairs."""
    uniform = np.random.default_rng(1).uniform(-1, 1, 4000)
    mated = np.random.default_rng(2).permutation(np.concatenate([normal(0.6, 0.05, 36_000, 0), uniform]))
    found = fit(mated, normal(0.0, 0.05, 40_000, 3))
    assert found.method == "isotonic"
    assert len(found.knots) <= 70
    assert found.cost < 0.25
    assert found.probability(0.6, 0.5) > 0.99
    assert found.probability(0.0, 0.5) == pytest.approx(0.055, abs=0.01), "pooled with the mated pairs below"


def test_is_monotone_for_random_scores() -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        found = fit(rng.uniform(-1, 1, 300), rng.uniform(-1, 1, 300))
        similarities, ratios = zip(*found.knots, strict=True)
        assert list(ratios) == sorted(ratios)
        assert list(similarities) == sorted(similarities)
        assert found.cost == pytest.approx(1, abs=0.15), "uninformative scores cost 1 bit"


def test_ratios_stay_within_what_the_data_supports() -> None:
    """Separate classes would yield an infinite ratio; 3,000 comparisons support a ratio of 1,000."""
    found = fit(normal(0.8, 0.01, 600, 0), normal(0.0, 0.01, 3000, 1))
    assert found.log_likelihood_ratio(1.0) <= -np.log(1 - 0.05 ** (1 / 3000)) + 1e-9, "the rule of 3"
    assert found.log_likelihood_ratio(-1.0) >= np.log(1 - 0.05 ** (1 / 600)) - 1e-9
    assert found.log_likelihood_ratio(1.0) > 3


def test_errors_at_the_ends_bound_the_ratio() -> None:
    """Ten non-mated pairs have the highest similarity, as people under two names would; they limit the ratio."""
    others = np.concatenate([normal(0.0, 0.05, 100_000, 1), np.full(10, 0.9)])
    mated = np.concatenate([normal(0.6, 0.1, 10_000, 0), np.full(20, -0.2)])
    found = fit(mated, np.random.default_rng(0).permutation(others))
    assert found.log_likelihood_ratio(1.0) < np.log(100_010 / 10)
    assert found.log_likelihood_ratio(1.0) > np.log(100_010 / 10) - 1.5
    assert found.log_likelihood_ratio(-1.0) > -np.log(10_020 / 20)


def test_a_line_outside_the_limits_is_clipped_to_them() -> None:
    found = fit(normal(0.5, 0.1, 10, 0), normal(0.0, 0.1, 10, 1))
    similarities, ratios = zip(*found.knots, strict=True)
    assert list(similarities) == sorted(set(similarities))
    assert max(map(abs, ratios)) <= np.log(10)


def test_the_cost_and_the_least_cost_are_over_the_same_pairs() -> None:
    """Pairs of two folds are in no held-out set. If they alone are hard, both costs stay low."""
    by_fold = histograms(normal(0.7, 0.05, 5000, 0), normal(0.0, 0.05, 5000, 1))
    for fold in range(FOLDS - 1):
        by_fold.non_mated[fold, fold + 1] += np.bincount(
            bins_of(normal(0.7, 0.05, 2000, fold).astype(np.float32)), minlength=BINS
        )
    found = fit_score_map(by_fold, "a test")
    assert found.least_cost < 0.001
    assert found.least_cost <= found.cost


def test_ratios_are_limited_by_subjects_and_not_by_pairs() -> None:
    """The same separate classes, once from many subjects and once from 40."""
    many = histograms(normal(0.8, 0.01, 600, 0), normal(0.0, 0.01, 3000, 1))
    few = replace(many, mated_subjects=np.full(FOLDS, 8), subjects=np.full(FOLDS, 8))
    found = fit_score_map(few, "a test")
    assert found.log_likelihood_ratio(1.0) <= -np.log(1 - 0.05 ** (1 / 20)) + 1e-9, "20 disjoint pairs of 40 subjects"
    assert found.log_likelihood_ratio(-1.0) >= np.log(1 - 0.05 ** (1 / 40)) - 1e-9
    assert fit_score_map(many, "a test").log_likelihood_ratio(1.0) > 3
