"""Every picture against every other, in blocks: 87 million pairs of LFW need seconds and a few hundred megabytes."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from models.errors import OneClassOnly, TooFewSubjects, TooManyPairs
from models.evaluation.metrics.pair_scores import (
    BINS,
    Floats,
    FoldHistograms,
    Indices,
    MatedPairs,
    NonMatedPairs,
    PairScores,
    bins_of,
)
from models.types import Progress, no_progress

TAIL_RATE = 2e-2  # the tail that is kept holds rates of up to half of it, with room for the bootstrap
LEAST_KEPT = 2_000_000  # with few subjects one draw of them may need much more than the rate
MOST_KEPT = 32_000_000  # pairs of the tail; 12 bytes each
MOST_MATED = 50_000_000

_ROWS, _COLUMNS = 512, 4096


def deal_into_folds(subjects: NDArray[np.int64], folds: int, seed: int = 0) -> NDArray[np.int64]:
    """Deal subjects into folds of nearly the same number of subjects, at least two.

    Returns:
        (N,) the fold of each picture.

    Raises:
        TooFewSubjects: There are fewer subjects than that.
    """
    names, owner = np.unique(subjects, return_inverse=True)
    if len(names) < 2 * folds:  # one subject alone has no non-mated pairs
        raise TooFewSubjects(f"{len(names)} subjects cannot be dealt into {folds} folds of two or more")
    dealt = np.random.default_rng(seed).permutation(len(names)) % folds
    return dealt[owner].astype(np.int64)


def compare_all(
    embedding: Floats,
    subjects: NDArray[np.int64],
    folds: NDArray[np.int64] | None = None,
    progress: Progress = no_progress,
    both_classes: bool = True,
) -> PairScores:
    """Compare every picture with every other one.

    Args:
        embedding: (N, D) float32 of length 1.
        subjects: (N,) number of the subject of each.
        folds: (N,) fold of each, all pictures of a subject in one; histograms are kept by fold if given.
        progress: Called as work gets done.
        both_classes: Whether there must be mated and non-mated pairs.

    Raises:
        OneClassOnly: There are no mated, or no non-mated, pairs, and there must be.
        TooManyPairs: There are more mated pairs than can be kept.
    """
    own = np.zeros(len(subjects), np.int64) if folds is None else folds
    order = np.lexsort((subjects, own))
    mated_count, other_count = count_pairs(subjects, both_classes)
    vectors, owner, fold = np.ascontiguousarray(embedding[order]), subjects[order], own[order]
    ends = np.searchsorted(np.arange(len(owner)), _ends(owner))
    tail = _Tail(min(MOST_KEPT, max(LEAST_KEPT, int(np.ceil(TAIL_RATE * other_count)) + 1)))
    mated = _Mated(mated_count)
    count = int(fold.max()) + 1
    histograms = FoldHistograms(np.zeros((count, BINS), np.int64), np.zeros((count, count, BINS), np.int64))
    for start, stop in _pieces(fold, 0, _ROWS):
        beyond = int(ends[stop - 1])  # before it lie pairs of one subject, and pairs that were seen
        near = vectors[start:stop] @ vectors[start:beyond].T
        rows, columns = np.nonzero(np.arange(start, beyond)[None] > np.arange(start, stop)[:, None])
        same = owner[start + rows] == owner[start + columns]
        mated.add(near[rows[same], columns[same]], start + rows[same], start + columns[same])
        histograms.mated[fold[start]] += _count(near[rows[same], columns[same]])
        rows, columns = rows[~same], columns[~same]
        scores = near[rows, columns]
        tail.add(scores, start + rows, start + columns)
        histograms.non_mated[fold[start], fold[start]] += _count(scores)
        for left, right in _pieces(fold, beyond, _COLUMNS):
            block = vectors[start:stop] @ vectors[left:right].T
            tail.add_block(block, start, left)
            histograms.non_mated[fold[start], fold[left]] += _count(block.ravel())
        progress("comparing all pairs", stop, len(owner))
    scores, first, second = tail.sorted()
    place = order.astype(np.int32)
    return PairScores(
        MatedPairs(mated.scores, place[mated.first], place[mated.second]),
        NonMatedPairs(other_count, scores, place[first], place[second], histograms.all()[1]),
        subjects,
        all_pairs=True,
        by_fold=None if folds is None else histograms,
    )


def count_pairs(subjects: NDArray[np.int64], both_classes: bool = True) -> tuple[int, int]:
    """Count mated and non-mated pairs among all pictures.

    Raises:
        OneClassOnly: There are none of one kind, and there must be.
        TooManyPairs: There are more mated pairs than can be kept.
    """
    sizes = np.unique(subjects, return_counts=True)[1].astype(np.int64)
    mated = int((sizes * (sizes - 1) // 2).sum())
    other = len(subjects) * (len(subjects) - 1) // 2 - mated
    if both_classes and not mated:
        raise OneClassOnly("there are no mated pairs: no subject has two pictures with a face")
    if both_classes and not other:
        raise OneClassOnly("there are no non-mated pairs: all pictures are of one subject")
    if mated > MOST_MATED:
        raise TooManyPairs(
            f"there are {mated:,} mated pairs and at most {MOST_MATED:,} can be kept; take a sample of pairs (--pairs)"
        )
    return mated, other


def sample_pairs(subjects: NDArray[np.int64], count: int, seed: int) -> tuple[Indices, Indices, NDArray[np.bool_]]:
    """Draw pairs of pictures: all mated ones or `count` of them, and `count` non-mated ones, without repetition.

    Returns:
        (P,) first and second picture, and whether a pair is of one subject.

    Raises:
        OneClassOnly: There are none of one kind.
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(subjects, kind="stable")
    owner = subjects[order]
    ends = _ends(owner)
    later = ends - np.arange(len(owner)) - 1  # mated pairs that a picture begins
    total = int(later.sum())
    all_others = len(owner) * (len(owner) - 1) // 2 - total
    if not total or not all_others:
        count_pairs(subjects)
    first, second = _numbered(_draw(rng, total, min(count, total)), later, np.arange(len(owner)) + 1)
    one, other = _numbered(_draw(rng, all_others, min(count, all_others)), len(owner) - ends, ends)
    mated = np.concatenate([np.ones(len(first), np.bool_), np.zeros(len(one), np.bool_)])
    return (
        order[np.concatenate([first, one])].astype(np.int32),
        order[np.concatenate([second, other])].astype(np.int32),
        mated,
    )


def _draw(rng: np.random.Generator, total: int, count: int) -> NDArray[np.int64]:
    """Draw different numbers below `total`, ascending, with memory for those that are drawn."""
    if 2 * count >= total:
        return np.sort(rng.permutation(total)[:count])
    drawn: NDArray[np.int64] = np.empty(0, np.int64)
    while len(drawn) < count:
        drawn = np.unique(np.concatenate([drawn, rng.integers(total, size=count - len(drawn) + 16)]))
    return np.sort(rng.permutation(drawn)[:count])


def _numbered(
    numbers: NDArray[np.int64], begun: NDArray[np.int64], partner: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find pairs by their number, where each picture begins so many pairs and the first is with `partner`."""
    before = np.concatenate([[0], np.cumsum(begun)])
    first = np.searchsorted(before, numbers, side="right") - 1
    return first, partner[first] + numbers - before[first]


def similarities(embedding: Floats, first: Indices, second: Indices) -> Floats:
    """Return (P,) cosines of listed pairs of (N, D) embeddings, some at a time."""
    scores = np.empty(len(first), np.float32)
    for start in range(0, len(first), 1 << 16):
        part = slice(start, start + (1 << 16))
        scores[part] = np.einsum("ij,ij->i", embedding[first[part]], embedding[second[part]])
    return scores


class _Tail:
    """The highest of ever more similarities, and whose they are."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._floor = np.float32(-np.inf)
        self._scores: list[Floats] = []
        self._first: list[Indices] = []
        self._second: list[Indices] = []
        self._held = 0

    def add_block(self, block: Floats, row: int, column: int) -> None:
        """Look at a block of similarities whose corner is the pair (row, column)."""
        places = np.flatnonzero(block.ravel() > self._floor)
        if len(places):
            rows, columns = np.divmod(places, block.shape[1])
            self._keep(block.ravel()[places], row + rows, column + columns)

    def add(self, scores: Floats, first: NDArray[np.int64], second: NDArray[np.int64]) -> None:
        """Look at similarities of pairs."""
        high = scores > self._floor
        self._keep(scores[high], first[high], second[high])

    def _keep(self, scores: Floats, first: NDArray[np.int64], second: NDArray[np.int64]) -> None:
        self._scores.append(scores)
        self._first.append(first.astype(np.int32))
        self._second.append(second.astype(np.int32))
        self._held += len(scores)
        if self._held > 2 * self._most:
            self._cut()

    def _cut(self) -> None:
        scores = np.concatenate(self._scores)
        if len(scores) > self._most:
            kept = np.argpartition(scores, len(scores) - self._most)[len(scores) - self._most :]
            self._floor = scores[kept].min()
        else:
            kept = np.arange(len(scores))
        self._scores = [scores[kept]]
        self._first = [np.concatenate(self._first)[kept]]
        self._second = [np.concatenate(self._second)[kept]]
        self._held = len(kept)

    def sorted(self) -> tuple[Floats, Indices, Indices]:
        """Return what was kept, highest first."""
        self._cut()
        order = np.argsort(-self._scores[0], kind="stable")
        return self._scores[0][order], self._first[0][order], self._second[0][order]


class _Mated:
    """All mated similarities, in arrays of their final size."""

    def __init__(self, count: int) -> None:
        self.scores = np.empty(count, np.float32)
        self.first, self.second = np.empty(count, np.int32), np.empty(count, np.int32)
        self._filled = 0

    def add(self, scores: Floats, first: NDArray[np.int64], second: NDArray[np.int64]) -> None:
        """Take some more."""
        part = slice(self._filled, self._filled + len(scores))
        self.scores[part], self.first[part], self.second[part] = scores, first, second
        self._filled += len(scores)


def _ends(owner: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each place of a sorted array the end of its run of equal values."""
    last = np.concatenate([np.flatnonzero(np.diff(owner)), [len(owner) - 1]])
    return np.repeat(last + 1, np.diff(np.concatenate([[-1], last])))


def _pieces(fold: NDArray[np.int64], start: int, longest: int) -> Iterator[tuple[int, int]]:
    """Cut what lies behind `start` into pieces of at most `longest`, none across two folds."""
    while start < len(fold):
        end = int(np.searchsorted(fold, fold[start], side="right"))
        yield start, (start := min(end, start + longest))


def _count(scores: Floats) -> NDArray[np.int64]:
    return np.bincount(bins_of(scores), minlength=BINS).astype(np.int64)
