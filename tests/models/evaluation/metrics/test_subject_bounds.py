"""Bounds that count subjects, simulated with subjects whose similarities to others are correlated."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom, norm

from models.evaluation.metrics.all_pairs import compare_all
from models.evaluation.metrics.bootstrap import rate_intervals
from models.evaluation.metrics.operating_points import bound_beyond, unsupported_rate_notes
from models.evaluation.metrics.pair_scores import PairScores, listed_pairs
from models.evaluation.metrics.subject_bounds import disjoint_pairs, upper_bound
from tests.models.evaluation.people import people

SUBJECTS, ROUNDS = 40, 400

Draw = Callable[[np.random.Generator], tuple[NDArray[np.float64], Callable[[float], float]]]


def similar_to_all(rng: np.random.Generator) -> tuple[NDArray[np.float64], Callable[[float], float]]:
    """Draw similarities of which half the variance is due to how similar the two subjects are to everybody."""
    own = rng.normal(0, 0.1, SUBJECTS)
    noise = rng.normal(0, 0.1, (SUBJECTS, SUBJECTS))
    return (own[:, None] + own + noise) / 4, lambda limit: float(norm.sf(4 * limit, 0, 0.1 * np.sqrt(3)))


def wolves(rng: np.random.Generator) -> tuple[NDArray[np.float64], Callable[[float], float]]:
    """Draw similarities that are high for all pairs of the few subjects who resemble everybody."""
    share, rise = 0.01, 8.0
    wolf = rng.random(SUBJECTS) < share
    noise = rng.normal(0, 0.05, (SUBJECTS, SUBJECTS))
    either = 1 - (1 - share) ** 2

    def true_rate(limit: float) -> float:
        return float((1 - either) * norm.sf(limit / 0.05) + either * norm.sf(limit / 0.05 - rise))

    return noise + 0.05 * rise * (wolf[:, None] | wolf), true_rate


def of_all_subjects(similarity: NDArray[np.float64]) -> PairScores:
    """Return all pairs of subjects with one picture each, and one mated pair."""
    first, second = np.triu_indices(SUBJECTS, 1)
    first, second = np.append(first, 0), np.append(second, SUBJECTS)
    mated = np.arange(len(first)) == len(first) - 1
    scores = np.where(mated, 0.9, similarity[first, np.minimum(second, SUBJECTS - 1)]).astype(np.float32)
    return listed_pairs(
        scores, mated, first.astype(np.int32), second.astype(np.int32), np.append(np.arange(SUBJECTS), 0)
    )


@pytest.mark.parametrize("draw", [similar_to_all, wolves])
def test_the_bound_without_errors_holds_in_95_of_100_simulations_with_correlated_pairs(draw: Draw) -> None:
    rng = np.random.default_rng(3)
    failed = failed_over_pairs = 0
    for _ in range(ROUNDS):
        similarity, true_rate = draw(rng)
        pairs = of_all_subjects(similarity)
        bound = bound_beyond(pairs)
        rate = true_rate(bound.similarity)
        failed += rate > bound.fmr
        failed_over_pairs += rate > 3 / pairs.non_mated.count
    assert failed <= binom.ppf(0.99, ROUNDS, 0.05)
    assert failed_over_pairs > 0.1 * ROUNDS, "the simulation shows the error of counting pairs as independent"


def test_the_bound_of_a_rate_with_errors_holds_in_95_of_100_simulations() -> None:
    """At one threshold there are sometimes errors and sometimes none."""
    rng, threshold = np.random.default_rng(4), 0.2
    failed = failed_over_pairs = 0
    for _ in range(ROUNDS):
        similarity, true_rate = wolves(rng)
        pairs = of_all_subjects(similarity)
        share = np.array([pairs.non_mated.fmr(threshold)])
        failed += true_rate(threshold) > upper_bound(share, SUBJECTS // 2)[0]
        failed_over_pairs += true_rate(threshold) > upper_bound(share, pairs.non_mated.count)[0]
    assert failed <= binom.ppf(0.99, ROUNDS, 0.05)
    assert failed_over_pairs > 0.1 * ROUNDS


def test_without_an_error_the_bound_is_the_rule_of_three() -> None:
    none = np.zeros(1)
    assert upper_bound(none, 1000)[0] == pytest.approx(1 - 0.05 ** (1 / 1000))
    assert upper_bound(none, 1000)[0] == pytest.approx(3 / 1000, rel=5e-3)
    assert upper_bound(none, 0)[0] == 1
    assert upper_bound(np.ones(1), 10)[0] == 1
    rates = np.array([0.0, 0.01, 0.1, 0.5])
    assert (np.diff(upper_bound(rates, 50)) > 0).all()
    assert (upper_bound(rates, 50) > upper_bound(rates, 500)).all()


def test_all_pairs_of_subjects_contain_half_as_many_disjoint_ones() -> None:
    pairs = compare_all(*people(31, 4))
    assert disjoint_pairs(pairs) == 15
    assert bound_beyond(pairs).fmr == pytest.approx(1 - 0.05 ** (1 / 15))
    assert bound_beyond(pairs).similarity == pairs.non_mated.scores[0]


def pairs_of(first: list[int], second: list[int], mated: list[bool], subjects: list[int] | None = None) -> PairScores:
    known = None if subjects is None else np.array(subjects)
    scores = np.linspace(0.1, 0.9, len(first)).astype(np.float32)
    return listed_pairs(scores, np.array(mated), np.array(first, np.int32), np.array(second, np.int32), known)


def test_listed_pairs_count_only_as_far_as_they_share_no_subject() -> None:
    star = pairs_of([0] * 6, [1, 2, 3, 4, 5, 6], [False] * 6, list(range(7)))
    assert disjoint_pairs(star) == 1, "every pair contains the first subject"
    apart = pairs_of([0, 2, 4], [1, 3, 5], [False] * 3, list(range(6)))
    assert disjoint_pairs(apart) == 3
    same = pairs_of([0, 2, 4], [1, 3, 5], [False] * 3, [0, 1, 0, 1, 0, 1])
    assert disjoint_pairs(same) == 1, "three pairs of the same two subjects"


def test_pictures_that_mated_pairs_link_count_as_one_subject_if_subjects_are_unknown() -> None:
    linked = pairs_of([0, 2, 0, 2], [1, 3, 2, 4], [False, False, True, True])
    assert disjoint_pairs(linked) == 1
    assert disjoint_pairs(pairs_of([0, 2, 6], [1, 3, 7], [False, False, True])) == 2
    (note,) = unsupported_rate_notes(linked, [])
    assert "FMR is at most 1 (rule of 3 over 1 disjoint pairs of pictures)" in note


def test_a_large_list_of_pairs_is_matched_in_a_moment() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 100_000, (2, 500_000))
    pairs = listed_pairs(
        np.zeros(500_000, np.float32),
        np.zeros(500_000, np.bool_),
        first.astype(np.int32),
        second.astype(np.int32),
        np.arange(100_000),
    )
    assert 25_000 < disjoint_pairs(pairs) <= 50_000, "a maximal matching has at least half the pairs of the largest"


def test_the_interval_of_a_group_without_errors_counts_its_subjects() -> None:
    """A cohort of 12 subjects with ten pictures each has 6,600 non-mated pairs, and 6 that share no subject."""
    pairs = compare_all(*people(12, 10, spread=0.01))
    fmr, fnmr = rate_intervals(pairs, 0.999, replicates=50)
    assert fmr == pytest.approx((0.0, 1 - 0.05 ** (1 / 6)))
    assert fnmr is not None
    assert fnmr[1] >= 1 - 0.05 ** (1 / 12)
    alone, own = rate_intervals(compare_all(*people(1, 4), both_classes=False), 0.5, replicates=20)
    assert alone is None
    assert own is not None
