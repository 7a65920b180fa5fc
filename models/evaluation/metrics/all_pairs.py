"""Comparison of every picture with every other one, in blocks.

The 87 million pairs of LFW take seconds and a few hundred megabytes.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.errors import SingleClass, TooFewSubjects, TooManyPairs
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

TAIL_RATE = 2e-2  # share of non-mated pairs in the tail: twice the highest rate, which leaves room for the bootstrap
MIN_TAIL_PAIRS = 2_000_000  # minimum pairs of the tail; with few subjects a bootstrap draw can exceed the rate by far
MAX_TAIL_PAIRS = 32_000_000  # maximum pairs of the tail, at 12 bytes each
MAX_MATED_PAIRS = 50_000_000  # maximum mated pairs, at 12 bytes each

_ROWS, _COLUMNS = 512, 4096  # pictures of a block


def assign_folds(subjects: NDArray[np.int64], folds: int, seed: int = 0) -> NDArray[np.int64]:
    """Divide subjects at random into folds whose numbers of subjects differ by at most one.

    Args:
        subjects: (N,) int64, subject of each picture.
        folds: Number of folds.
        seed: Seed of the random division.

    Returns:
        (N,) int64, the fold of each picture, from 0.

    Raises:
        TooFewSubjects: A fold would have fewer than two subjects.
    """
    names, owner = np.unique(subjects, return_inverse=True)
    if len(names) < 2 * folds:  # a fold with one subject has no non-mated pairs
        raise TooFewSubjects(f"{len(names)} subjects cannot be divided into {folds} folds of two or more")
    fold_of_subject = np.random.default_rng(seed).permutation(len(names)) % folds
    return fold_of_subject[owner].astype(np.int64)


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
        subjects: (N,) int64, subject of each picture.
        folds: (N,) int64, fold of each picture; all pictures of a subject are in one fold. If given, the similarities
            are also counted in one histogram for each pair of folds.
        progress: Called after each block of rows.
        both_classes: Whether both mated and non-mated pairs are required.

    Raises:
        SingleClass: Both kinds of pairs are required, and one is missing.
        TooManyPairs: The number of mated pairs exceeds `MAX_MATED_PAIRS`.
    """
    fold_of = np.zeros(len(subjects), np.int64) if folds is None else folds
    order = np.lexsort((subjects, fold_of))
    mated_count, other_count = count_pairs(subjects, both_classes)
    vectors, owner, fold = np.ascontiguousarray(embedding[order]), subjects[order], fold_of[order]
    ends = np.searchsorted(np.arange(len(owner)), ends_of_runs(owner))
    tail = _Tail(min(MAX_TAIL_PAIRS, max(MIN_TAIL_PAIRS, int(np.ceil(TAIL_RATE * other_count)) + 1)))
    mated = _Mated(mated_count)
    histograms = _empty_histograms(owner, fold)
    for start, stop in _pieces(fold, 0, _ROWS):
        beyond = int(ends[stop - 1])  # all later columns are of other subjects, hence of non-mated pairs
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
    picture = order.astype(np.int32)  # index of the picture that each row of `vectors` belongs to
    return PairScores(
        MatedPairs(mated.scores, picture[mated.first], picture[mated.second]),
        NonMatedPairs(other_count, scores, picture[first], picture[second], histograms.all().non_mated),
        subjects,
        all_pairs=True,
        by_fold=None if folds is None else histograms,
    )


def count_pairs(subjects: NDArray[np.int64], both_classes: bool = True) -> tuple[int, int]:
    """Count the mated and non-mated pairs among all pictures.

    Args:
        subjects: (N,) int64, subject of each picture.
        both_classes: Whether both mated and non-mated pairs are required.

    Returns:
        Numbers of mated and of non-mated pairs.

    Raises:
        SingleClass: Both kinds of pairs are required, and one is missing.
        TooManyPairs: The number of mated pairs exceeds `MAX_MATED_PAIRS`.
    """
    mated, other = _numbers_of_pairs(subjects)
    if both_classes and not mated:
        raise SingleClass("there are no mated pairs: no subject has two pictures with a face")
    if both_classes and not other:
        raise SingleClass("there are no non-mated pairs: all pictures are of one subject")
    if mated > MAX_MATED_PAIRS:
        raise TooManyPairs(
            f"{mated:,} mated pairs exceed the maximum of {MAX_MATED_PAIRS:,}; compare a sample instead (--pairs)"
        )
    return mated, other


def add_incomplete(pairs: PairScores, attempted: NDArray[np.int64]) -> PairScores:
    """Return the scores of all completed comparisons with the number of those that were not completed.

    Args:
        pairs: Scores of all pairs of pictures with a face.
        attempted: Subject of each picture, with or without a face.
    """
    assert pairs.subjects is not None  # because all pairs were compared
    (mated, other), (of_mated, of_other) = _numbers_of_pairs(attempted), _numbers_of_pairs(pairs.subjects)
    return replace(
        pairs,
        mated=replace(pairs.mated, incomplete=mated - of_mated),
        non_mated=replace(pairs.non_mated, incomplete=other - of_other),
    )


def _numbers_of_pairs(subjects: NDArray[np.int64]) -> tuple[int, int]:
    """Return the numbers of mated and of non-mated pairs among all pictures."""
    sizes = np.unique(subjects, return_counts=True)[1].astype(np.int64)
    mated = int((sizes * (sizes - 1) // 2).sum())
    return mated, len(subjects) * (len(subjects) - 1) // 2 - mated


def similarities(embedding: Floats, first: Indices, second: Indices) -> Floats:
    """Return (P,) float32, the similarities of listed pairs of (N, D) embeddings, computed in chunks."""
    scores = np.empty(len(first), np.float32)
    for start in range(0, len(first), 1 << 16):
        part = slice(start, start + (1 << 16))
        scores[part] = np.einsum("ij,ij->i", embedding[first[part]], embedding[second[part]])
    return scores


class _Tail:
    """Collector of the highest similarities of a stream, with their pairs."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._floor = np.float32(-np.inf)
        self._scores: list[Floats] = []
        self._first: list[Indices] = []
        self._second: list[Indices] = []
        self._held = 0

    def add_block(self, block: Floats, row: int, column: int) -> None:
        """Add a block of similarities whose first element belongs to the pair (row, column)."""
        indices = np.flatnonzero(block.ravel() > self._floor)
        if len(indices):
            rows, columns = np.divmod(indices, block.shape[1])
            self._append(block.ravel()[indices], row + rows, column + columns)

    def add(self, scores: Floats, first: NDArray[np.int64], second: NDArray[np.int64]) -> None:
        """Add similarities of listed pairs."""
        high = scores > self._floor
        self._append(scores[high], first[high], second[high])

    def _append(self, scores: Floats, first: NDArray[np.int64], second: NDArray[np.int64]) -> None:
        self._scores.append(scores)
        self._first.append(first.astype(np.int32))
        self._second.append(second.astype(np.int32))
        self._held += len(scores)
        if self._held > 2 * self._maximum:
            self._trim()

    def _trim(self) -> None:
        scores = np.concatenate(self._scores)
        if len(scores) > self._maximum:
            highest = np.argpartition(scores, len(scores) - self._maximum)[len(scores) - self._maximum :]
            self._floor = scores[highest].min()
        else:
            highest = np.arange(len(scores))
        self._scores = [scores[highest]]
        self._first = [np.concatenate(self._first)[highest]]
        self._second = [np.concatenate(self._second)[highest]]
        self._held = len(highest)

    def sorted(self) -> tuple[Floats, Indices, Indices]:
        """Return the highest similarities in descending order, with their first and second pictures."""
        self._trim()
        order = np.argsort(-self._scores[0], kind="stable")
        return self._scores[0][order], self._first[0][order], self._second[0][order]


class _Mated:
    """Collector of all mated similarities, in arrays of their final size."""

    def __init__(self, count: int) -> None:
        self.scores = np.empty(count, np.float32)
        self.first, self.second = np.empty(count, np.int32), np.empty(count, np.int32)
        self._filled = 0

    def add(self, scores: Floats, first: NDArray[np.int64], second: NDArray[np.int64]) -> None:
        """Add similarities of listed pairs."""
        part = slice(self._filled, self._filled + len(scores))
        self.scores[part], self.first[part], self.second[part] = scores, first, second
        self._filled += len(scores)


def _empty_histograms(owner: NDArray[np.int64], fold: NDArray[np.int64]) -> FoldHistograms:
    count = int(fold.max()) + 1
    _, first, sizes = np.unique(owner, return_index=True, return_counts=True)
    return FoldHistograms(
        np.zeros((count, BINS), np.int64),
        np.zeros((count, count, BINS), np.int64),
        np.bincount(fold[first[sizes > 1]], minlength=count),
        np.bincount(fold[first], minlength=count),
    )


def ends_of_runs(owner: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return, for each element of a sorted array, the end index of its run of equal values."""
    last = np.concatenate([np.flatnonzero(np.diff(owner)), [len(owner) - 1]])
    return np.repeat(last + 1, np.diff(np.concatenate([[-1], last])))


def _pieces(fold: NDArray[np.int64], start: int, longest: int) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of consecutive pieces from `start` on, each of at most `longest` rows and of one fold."""
    while start < len(fold):
        end = int(np.searchsorted(fold, fold[start], side="right"))
        yield start, (start := min(end, start + longest))


def _count(scores: Floats) -> NDArray[np.int64]:
    return np.bincount(bins_of(scores), minlength=BINS).astype(np.int64)
