from pathlib import Path

import numpy as np
import pytest

from models.errors import SingleClass, TooFewSubjects
from models.evaluation.metrics.verification import (
    distances_of,
    folded_rates,
    squared_distances,
    ten_fold_accuracy,
    validation_rate,
)
from tests.models.evaluation.golden import golden_pairs


def test_ten_folds_apply_the_threshold_of_the_other_nine() -> None:
    """The best threshold of a shifted fold must not be applied to that fold."""
    similarity = np.tile([0.9, 0.1], 100).astype(np.float32)
    mated = np.tile([True, False], 100)
    assert ten_fold_accuracy(distances_of(similarity), mated)[:2] == (1.0, 0.0)
    similarity[:20] = np.tile([0.05, 0.01], 10)  # separable, but not at the threshold of the other folds
    accuracy = ten_fold_accuracy(distances_of(similarity), mated)
    assert accuracy[:2] == pytest.approx((0.95, 0.15))
    assert accuracy.folds == (0.5, *(1.0,) * 9)


def test_the_accuracy_equals_that_of_the_official_code(shared: Path) -> None:
    first, second, mated, answers = golden_pairs(shared)
    distance = squared_distances(first, second)
    assert np.round(distance[:5], 9).tolist() == answers["squared_distance_first5"]
    accuracy = ten_fold_accuracy(distance, mated)
    assert accuracy.mean == answers["mean_accuracy"]
    assert accuracy.deviation == answers["std_accuracy"]
    assert list(accuracy.folds) == answers["fold_accuracy"]
    assert np.round(accuracy.thresholds, 2).tolist() == answers["fold_best_threshold"]


def test_rates_at_a_threshold_equal_those_of_the_official_code(shared: Path) -> None:
    first, second, mated, answers = golden_pairs(shared)
    thresholds, true, false = folded_rates(squared_distances(first, second), mated)
    assert thresholds[100] == 1
    assert true[100] == answers["tpr_at_index_100"]
    assert false[100] == answers["fpr_at_index_100"]


def test_a_pair_with_a_face_that_was_not_acquired_is_an_error() -> None:
    mated = np.tile([True, False], 50)
    distance = np.where(mated, 0.2, 1.8)
    acquired = np.ones(100, np.bool_)
    acquired[[0, 1]] = False
    assert ten_fold_accuracy(distance, mated, acquired).mean == pytest.approx(0.98)


def test_val_keeps_far_on_the_held_out_folds() -> None:
    rng = np.random.default_rng(0)
    mated = np.arange(6000) // 300 % 2 == 0
    distance = np.clip(np.where(mated, rng.normal(0.8, 0.2, 6000), rng.normal(1.9, 0.2, 6000)), 0, 4)
    rate = validation_rate(distance, mated, far=1e-2)
    assert 0.005 <= rate.far <= 0.015
    threshold = np.quantile(distance[~mated], 0.01)
    assert rate.val == pytest.approx((distance[mated] < threshold).mean(), abs=0.01)
    assert validation_rate(distance, mated, far=0.0).far < 2e-3


def test_refuses_too_few_pairs_and_pairs_of_one_kind() -> None:
    with pytest.raises(TooFewSubjects, match="9 pairs"):
        ten_fold_accuracy(np.ones(9), np.arange(9) > 4)
    for mated in (np.ones(20, np.bool_), np.zeros(20, np.bool_)):
        with pytest.raises(SingleClass):
            ten_fold_accuracy(np.ones(20), mated)


def test_val_accepts_no_pair_whose_faces_were_not_acquired() -> None:
    """Two faces that were not acquired have distance 0."""
    mated = np.tile([True, False], 100)
    distance = np.where(mated, 1.9, 1.0)
    distance[:100:2] = 0.0
    acquired = np.ones(200, np.bool_)
    acquired[:100:2] = False
    assert validation_rate(distance, mated, acquired=acquired).val == 0
    assert validation_rate(distance, mated).val == 0.5


def test_val_of_folds_without_non_mated_pairs_is_a_number() -> None:
    mated = np.ones(20, np.bool_)
    mated[0] = False
    assert 0 <= validation_rate(np.linspace(0, 3, 20), mated).val <= 1
