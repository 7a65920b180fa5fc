from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from models.calibration.records import bound_text
from models.errors import CalibrationUnfit, SingleClass
from models.evaluation.metrics import all_pairs
from models.evaluation.metrics.all_pairs import compare_all
from models.evaluation.metrics.bootstrap import point_intervals
from models.evaluation.metrics.operating_points import (
    RATES,
    binomial_interval,
    operating_points,
    point_name,
    require_points,
    unsupported_rate_notes,
)
from models.evaluation.metrics.pair_scores import PairScores, listed_pairs
from tests.models.evaluation.people import people


def scores(count: int, seed: int = 0) -> PairScores:
    """Return pairs of unknown subjects."""
    rng = np.random.default_rng(seed)
    mated = np.arange(count) % 10 == 0
    similarity = rng.normal(np.where(mated, 0.6, 0.0), 0.1).astype(np.float32)
    places = np.arange(count, dtype=np.int32)
    return listed_pairs(similarity, mated, places, places + np.int32(count))


def test_a_point_has_its_stated_error_rates() -> None:
    pairs = scores(100_000)
    points = operating_points(pairs, "a test")
    assert [point.name for point in points] == ["fmr_1e-2", "fmr_1e-3"]
    others = pairs.non_mated.scores
    for point in points:
        assert (others >= np.float32(point.threshold)).mean() == pytest.approx(point.rate, rel=0.02)
        assert point.errors == int(point.rate * len(others))
        assert point.interval[0] < point.rate < point.interval[1]
        assert point.threshold_interval[0] < point.threshold < point.threshold_interval[1]
        assert point.fnmr == (pairs.mated.scores < np.float32(point.threshold)).mean()


def test_a_rate_with_fewer_than_thirty_errors_has_no_point() -> None:
    """Rule of 30: 29,999 non-mated comparisons do not support 1e-3, 30,000 do."""
    for count, names in ((33_332, ["fmr_1e-2"]), (33_334, ["fmr_1e-2", "fmr_1e-3"])):
        assert [point.name for point in operating_points(scores(count), "a test")] == names


def test_refuses_to_calibrate_on_too_few_comparisons() -> None:
    pairs = scores(1000)
    points = operating_points(pairs, "a test")
    assert points == []
    with pytest.raises(
        CalibrationUnfit,
        match=r"900 non-mated .* needs 3,000 .* 0\.004 \(rule of 3 over 900 disjoint pairs of pictures\)",
    ):
        require_points(points, pairs)


def test_refuses_pairs_of_one_class() -> None:
    places = np.arange(50, dtype=np.int32)
    for mated in (np.ones(50, np.bool_), np.zeros(50, np.bool_)):
        with pytest.raises(SingleClass):
            operating_points(listed_pairs(np.ones(50, np.float32), mated, places, places), "a test")


def test_binomial_intervals_are_those_of_clopper_and_pearson() -> None:
    # C. Clopper, E. Pearson 1934; without errors, the one-sided upper bound at 95 % is the rule of three.
    low, high = binomial_interval(0, 100)
    assert low == 0
    assert high == pytest.approx(1 - 0.025 ** (1 / 100))
    assert binomial_interval(3, 3000) == pytest.approx((2.0627e-4, 2.9196e-3), rel=1e-4)
    assert binomial_interval(100, 100)[1] == 1


def test_names_are_short() -> None:
    assert [point_name(rate) for rate in (1e-2, 1e-6, 3e-4, 2.5e-3)] == [
        "fmr_1e-2",
        "fmr_1e-6",
        "fmr_3e-4",
        "fmr_2.5e-3",
    ]


def plain_bootstrap(
    embedding: NDArray[np.float32], subjects: NDArray[np.int64], threshold: float, replicates: int
) -> NDArray[np.float64]:
    """Return the interval of FMR from a slow reference bootstrap.

    Each replicate draws subjects, copies their pictures and compares all pictures of different subjects.
    """
    rng = np.random.default_rng(7)
    names = np.unique(subjects)
    rates = []
    for _ in range(replicates):
        drawn = rng.choice(names, len(names))
        rows = np.concatenate([np.flatnonzero(subjects == name) for name in drawn])
        similarity = embedding[rows] @ embedding[rows].T
        other = np.triu(subjects[rows][:, None] != subjects[rows][None], 1)
        rates.append((similarity[other] >= threshold).mean())
    return np.asarray(np.quantile(rates, [0.025, 0.975]))


def test_the_bootstrap_agrees_with_a_reference_that_draws_whole_subjects() -> None:
    embedding, subjects = people(40, 4, dimensions=6)
    pairs = compare_all(embedding, subjects)
    threshold = pairs.non_mated.threshold(1e-2)
    assert threshold is not None
    (interval,) = point_intervals(pairs, [(1e-2, threshold)], replicates=2000)
    plain = plain_bootstrap(embedding, subjects, threshold, 2000)
    assert interval.fmr == pytest.approx(tuple(plain), rel=0.15)
    errors = pairs.non_mated.errors(threshold)
    low, high = binomial_interval(errors, pairs.non_mated.count)
    assert interval.fmr[1] - interval.fmr[0] > 1.5 * (high - low), "pairs that share a subject are not independent"


def test_the_bootstrap_of_fnmr_draws_whole_subjects() -> None:
    """If half of the 40 subjects never match, the interval is as wide as that of 40 coin tosses, for any pictures."""
    embedding, subjects = people(40, 10, spread=0.01)
    embedding = np.where((subjects % 2 == 0)[:, None], embedding, np.roll(embedding, 1, axis=0))
    rng = np.random.default_rng(1)
    noise = rng.normal(size=embedding.shape).astype(np.float32)
    embedding[subjects % 2 == 1] = noise[subjects % 2 == 1] / np.linalg.norm(noise[subjects % 2 == 1], axis=1)[:, None]
    pairs = compare_all(embedding, subjects)
    (interval,) = point_intervals(pairs, [(1e-2, 0.95)], replicates=500)
    assert interval.fnmr == pytest.approx((0.35, 0.65), abs=0.04)


def test_equal_similarities_never_leave_a_point_fewer_than_thirty_errors() -> None:
    """If every picture occurs four times, similarities occur in groups that a threshold cannot split."""
    embedding, subjects = people(20, 2, dimensions=4)
    pairs = compare_all(np.repeat(embedding, 4, axis=0), np.repeat(subjects, 4))
    for point in operating_points(pairs, "a test", replicates=20):
        assert point.errors >= 30
    points = operating_points(pairs, "a test", replicates=20)
    assert len(points) + len([note for note in unsupported_rate_notes(pairs, points) if "left out" in note]) == sum(
        pairs.non_mated.supports(rate) for rate in RATES
    )


def test_few_pairs_support_no_point_at_all() -> None:
    (few,) = unsupported_rate_notes(scores(30), [])
    assert few.startswith("27 non-mated comparisons support no operating point, which needs 30 errors. Above")
    (more,) = unsupported_rate_notes(scores(100), [])
    assert more.startswith("90 non-mated comparisons support no rate below 0.333 (30 errors). Above")


def test_without_errors_the_upper_end_of_fnmr_is_the_rule_of_three() -> None:
    embedding, subjects = people(60, 3, spread=0.01)
    pairs = compare_all(embedding, subjects)
    (interval,) = point_intervals(pairs, [(1e-2, 0.9)], replicates=50)
    assert interval.fnmr == interval.fnmr_by_subject
    assert interval.fnmr == pytest.approx((0.0, 1 - 0.05 ** (1 / 60)))


def test_an_error_does_not_lower_the_upper_end_of_fnmr() -> None:
    """One missed pair in 180 varies little between replicates; without it, the rule of 3 allows 3 of 60 subjects."""
    embedding, subjects = people(60, 3, spread=0.01)
    pairs = compare_all(embedding, subjects)
    scores = pairs.mated.scores.copy()
    scores[0] = 0.0
    (interval,) = point_intervals(replace(pairs, mated=replace(pairs.mated, scores=scores)), [(1e-2, 0.9)])
    assert interval.fnmr[0] == 0
    assert interval.fnmr[1] > 1 - 0.05 ** (1 / 60)
    by_subject = interval.fnmr_by_subject
    assert by_subject is not None
    assert by_subject[1] > 1 - 0.05 ** (1 / 60)


def test_if_every_mated_pair_is_an_error_the_lower_end_of_fnmr_is_the_rule_of_three() -> None:
    """With mated pairs for two of 300 subjects, one draw in seven has no mated pair and therefore no FNMR."""
    for mated in (2, 30):
        embedding, subjects = people(300 + mated, 1)
        subjects = np.where(subjects >= 300, subjects - 300, subjects)
        (interval,) = point_intervals(compare_all(embedding, subjects), [(1e-2, 0.9999)], replicates=300)
        assert interval.fnmr == pytest.approx((0.05 ** (1 / mated), 1.0))


def test_the_lower_end_of_the_threshold_is_minus_one_if_the_tail_is_too_short(monkeypatch: pytest.MonkeyPatch) -> None:
    embedding, subjects = people(12, 12, dimensions=6)
    full = compare_all(embedding, subjects)
    monkeypatch.setattr(all_pairs, "MIN_TAIL_PAIRS", 0)
    short = compare_all(embedding, subjects)
    threshold = full.non_mated.threshold(1e-2)
    assert threshold is not None
    (exact,), (limited,) = (point_intervals(pairs, [(1e-2, threshold)], replicates=400) for pairs in (full, short))
    assert len(short.non_mated.scores) < 0.03 * short.non_mated.count
    assert exact.threshold[0] < short.non_mated.scores[-1], "draws of twelve subjects vary beyond the short tail"
    assert limited.threshold[0] == -1
    assert limited.threshold[1] == exact.threshold[1]


def test_the_intervals_of_two_subjects_are_finite() -> None:
    pairs = compare_all(*people(2, 60, dimensions=4))
    for point in operating_points(pairs, "a test", replicates=200):
        assert np.isfinite((*point.interval, *point.threshold_interval, *point.fnmr_interval)).all()


def test_upper_bounds_are_rounded_up() -> None:
    assert [bound_text(bound) for bound in (5.16e-5, 3e-3, 0.00046, 1.0, 0.0)] == ["6e-05", "0.003", "0.0005", "1", "0"]
