import numpy as np
import pytest
from numpy.typing import NDArray

from models.errors import SingleClass, TooFewSubjects, TooManyPairs
from models.evaluation.metrics import all_pairs
from models.evaluation.metrics.all_pairs import assign_folds, compare_all, count_pairs, similarities
from models.evaluation.metrics.pair_scores import BINS, Histograms, MatedPairs, NonMatedPairs, PairScores, bins_of
from models.evaluation.metrics.sampling import sample_pairs
from tests.models.evaluation.people import people

Pairs = dict[tuple[int, int], float]


def counts(histograms: Histograms) -> tuple[int, int]:
    return int(histograms.mated.sum()), int(histograms.non_mated.sum())


def every_pair(embedding: NDArray[np.float32], subjects: NDArray[np.int64]) -> tuple[Pairs, Pairs]:
    """Return mated and non-mated similarities by pair, from a plain double loop."""
    scores = embedding @ embedding.T
    mated: Pairs = {}
    others: Pairs = {}
    for first in range(len(subjects)):
        for second in range(first + 1, len(subjects)):
            kind = mated if subjects[first] == subjects[second] else others
            kind[first, second] = float(scores[first, second])
    return mated, others


def as_pairs(first: NDArray[np.int32], second: NDArray[np.int32], scores: NDArray[np.float32]) -> Pairs:
    rows = zip(first.tolist(), second.tolist(), scores.tolist(), strict=True)
    return {(min(a, b), max(a, b)): score for a, b, score in rows}


@pytest.mark.parametrize("folds", [None, 3])
@pytest.mark.parametrize("small", [True, False])
def test_every_pair_is_counted_once(folds: int | None, small: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks are smaller than the pictures of a subject, or one block holds all pictures."""
    if small:
        monkeypatch.setattr(all_pairs, "_ROWS", 5)
        monkeypatch.setattr(all_pairs, "_COLUMNS", 7)
    monkeypatch.setattr(all_pairs, "TAIL_RATE", 1.0)
    embedding, subjects = people(12, 8)
    mated, others = every_pair(embedding, subjects)
    found = compare_all(embedding, subjects, None if folds is None else assign_folds(subjects, folds))
    assert as_pairs(found.mated.first, found.mated.second, found.mated.scores) == pytest.approx(mated, abs=1e-6)
    tail = found.non_mated
    assert as_pairs(tail.first, tail.second, tail.scores) == pytest.approx(others, abs=1e-6)
    assert (np.diff(tail.scores) <= 0).all()
    assert tail.count == len(others) == tail.histogram.sum()
    assert len(found.mated.scores) == len(mated)
    expected = np.bincount(bins_of(np.array(list(others.values()), np.float32)), minlength=BINS)
    assert np.abs(np.cumsum(tail.histogram) - np.cumsum(expected)).max() <= 2, "rounding may change a bin"


def test_the_tail_holds_the_highest_similarities_in_any_order_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(all_pairs, "_ROWS", 4)
    monkeypatch.setattr(all_pairs, "_COLUMNS", 4)
    monkeypatch.setattr(all_pairs, "TAIL_RATE", 0.05)
    monkeypatch.setattr(all_pairs, "MIN_TAIL_PAIRS", 0)
    embedding, subjects = people(30, 3)
    _, others = every_pair(embedding, subjects)
    tail = compare_all(embedding, subjects).non_mated
    assert len(tail.scores) < 0.06 * len(others)
    assert tail.scores.tolist() == pytest.approx(sorted(others.values(), reverse=True)[: len(tail.scores)], abs=1e-6)


def test_the_tail_of_a_small_set_holds_all_pairs() -> None:
    """With few subjects, a bootstrap draw can need many more pairs than the rate."""
    embedding, subjects = people(30, 3)
    tail = compare_all(embedding, subjects).non_mated
    assert len(tail.scores) == tail.count


def test_histograms_by_fold_count_the_pairs_of_the_subjects_of_the_folds() -> None:
    embedding, subjects = people(20, 4)
    folds = assign_folds(subjects, 4)
    found = compare_all(embedding, subjects, folds)
    assert found.by_fold is not None
    for fold in range(4):
        inside, outside = subjects[folds == fold], subjects[folds != fold]
        assert counts(found.by_fold.of(fold)) == count_pairs(inside)
        assert counts(found.by_fold.without(fold)) == count_pairs(outside)
        assert found.by_fold.without(fold).subjects == len(np.unique(outside))
    assert counts(found.by_fold.all()) == count_pairs(subjects)


def test_folds_have_disjoint_subjects_and_similar_sizes() -> None:
    _, subjects = people(23, 3)
    folds = assign_folds(subjects, 5)
    by_fold = [set(subjects[folds == fold].tolist()) for fold in range(5)]
    assert sum(map(len, by_fold)) == 23
    assert {len(names) for names in by_fold} == {4, 5}
    assert (assign_folds(subjects, 5) == folds).all()
    with pytest.raises(TooFewSubjects, match="23 subjects cannot be divided into 12 folds of two"):
        assign_folds(subjects, 12)


def test_rates_and_thresholds_are_exact_to_the_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(all_pairs, "MIN_TAIL_PAIRS", 0)
    embedding, subjects = people(40, 3)
    found = compare_all(embedding, subjects)
    highest = found.non_mated.scores[0]
    _, others = every_pair(embedding, subjects)
    ranked = np.sort(np.array(list(others.values()), np.float32))[::-1]
    threshold = found.non_mated.threshold(1e-2)
    assert threshold is not None
    allowed = int(1e-2 * len(ranked))
    assert threshold == pytest.approx(ranked[allowed - 1], abs=1e-6)
    assert found.non_mated.errors(threshold) == allowed
    assert found.non_mated.errors(float(np.nextafter(highest, np.float32(2)))) == 0
    assert found.non_mated.fmr(-1.0) == 1.0, "below the tail, the rate comes from the histogram"
    assert found.non_mated.threshold(0.5 / len(ranked)) is None, "the rate allows no error"
    assert found.non_mated.threshold(0.5) is None, "the rate allows more errors than the tail has pairs"


def test_ties_never_exceed_the_requested_rate() -> None:
    scores = np.array([0.9, 0.5, 0.5, 0.5, 0.1], np.float32)
    pictures = np.zeros(5, np.int32)
    ties = PairScores(
        MatedPairs(scores, pictures, pictures),
        NonMatedPairs(5, scores, pictures, pictures, np.zeros(BINS, np.int64)),
        None,
    ).non_mated
    assert ties.threshold(0.4) == pytest.approx(0.9)
    assert ties.threshold(0.8) == pytest.approx(0.5)
    assert ties.errors(0.5) == 4


def test_samples_follow_the_seed_and_have_no_repetition() -> None:
    embedding, subjects = people(30, 4)
    first, second, mated = sample_pairs(subjects, 100, seed=3)
    assert mated.sum() == 100
    assert (~mated).sum() == 100
    assert ((subjects[first] == subjects[second]) == mated).all()
    assert len({frozenset(pair) for pair in zip(first.tolist(), second.tolist(), strict=True)}) == 200
    again = sample_pairs(subjects, 100, seed=3)
    assert all((a == b).all() for a, b in zip(again, (first, second, mated), strict=True))
    assert (sample_pairs(subjects, 100, seed=4)[0] != first).any()
    assert sample_pairs(subjects, 10**6, seed=0)[2].sum() == count_pairs(subjects)[0]
    assert similarities(embedding, first, second) == pytest.approx(
        (embedding[first] * embedding[second]).sum(axis=1), abs=1e-6
    )


@pytest.mark.parametrize("count", [1, 40, 200, 239])
def test_every_pair_has_the_same_chance_to_be_drawn(count: int) -> None:
    """The subjects have very different numbers of pictures."""
    subjects = np.array([0] * 12 + [1] * 6 + [2, 3, 4, 5], np.int64)
    mated_count, other_count = count_pairs(subjects)
    seen = np.zeros((22, 22))
    rounds = 300
    for seed in range(rounds):
        first, second, mated = sample_pairs(subjects, count, seed)
        assert (~mated).sum() == min(count, other_count)
        np.add.at(seen, (np.minimum(first, second), np.maximum(first, second)), 1)
    other = np.triu(subjects[:, None] != subjects[None], 1)
    expected = rounds * min(count, other_count) / other_count
    assert seen[other].mean() == pytest.approx(expected)
    assert seen[other].std() < 2 * np.sqrt(expected) + 1e-9
    assert seen[np.triu(subjects[:, None] == subjects[None], 1)].mean() == pytest.approx(
        rounds * min(count, mated_count) / mated_count
    )


def test_refuses_pairs_of_one_class() -> None:
    embedding, subjects = people(5, 1)
    for call in (lambda: compare_all(embedding, subjects), lambda: sample_pairs(subjects, 5, 0)):
        with pytest.raises(SingleClass, match="no mated pairs"):
            call()
    with pytest.raises(SingleClass, match="no non-mated"):
        compare_all(embedding, np.zeros(5, np.int64))


def test_refuses_more_mated_pairs_than_the_maximum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(all_pairs, "MAX_MATED_PAIRS", 10)
    with pytest.raises(TooManyPairs, match="--pairs"):
        compare_all(*people(5, 4))
