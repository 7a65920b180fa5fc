"""Samples of the pairs of pictures, for sets that are too large to compare all pairs."""

import numpy as np
from numpy.typing import NDArray

from models.evaluation.metrics.all_pairs import count_pairs, ends_of_runs
from models.evaluation.metrics.pair_scores import Indices


def sample_pairs(subjects: NDArray[np.int64], count: int, seed: int) -> tuple[Indices, Indices, NDArray[np.bool_]]:
    """Draw at most `count` mated and at most `count` non-mated pairs of pictures, without repetition.

    Args:
        subjects: (N,) int64, subject of each picture.
        count: Maximum number of pairs of each kind; if fewer exist, all of them are returned.
        seed: Seed of the draw.

    Returns:
        (P,) int32, first picture of each pair; (P,) int32, second picture; (P,) bool, whether the pair is mated.

    Raises:
        SingleClass: There are no mated pairs, or no non-mated pairs.
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(subjects, kind="stable")
    owner = subjects[order]
    ends = ends_of_runs(owner)
    later = ends - np.arange(len(owner)) - 1  # number of mated pairs of each picture with later pictures
    total = int(later.sum())
    other_total = len(owner) * (len(owner) - 1) // 2 - total
    if not total or not other_total:
        count_pairs(subjects)  # raises the error of the missing kind
    first, second = _numbered(_draw(rng, total, min(count, total)), later, np.arange(len(owner)) + 1)
    other_first, other_second = _numbered(_draw(rng, other_total, min(count, other_total)), len(owner) - ends, ends)
    mated = np.concatenate([np.ones(len(first), np.bool_), np.zeros(len(other_first), np.bool_)])
    return (
        order[np.concatenate([first, other_first])].astype(np.int32),
        order[np.concatenate([second, other_second])].astype(np.int32),
        mated,
    )


def _draw(rng: np.random.Generator, total: int, count: int) -> NDArray[np.int64]:
    """Draw `count` different numbers below `total`, in ascending order; memory grows with `count` only."""
    if 2 * count >= total:
        return np.sort(rng.permutation(total)[:count])
    drawn: NDArray[np.int64] = np.empty(0, np.int64)
    while len(drawn) < count:
        drawn = np.unique(np.concatenate([drawn, rng.integers(total, size=count - len(drawn) + 16)]))
    return np.sort(rng.permutation(drawn)[:count])


def _numbered(
    numbers: NDArray[np.int64], counts: NDArray[np.int64], partner: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs with the given numbers.

    Pairs are numbered by their first picture: picture i is the first of `counts[i]` pairs, whose second pictures are
    `partner[i]`, `partner[i] + 1` and so on.
    """
    before = np.concatenate([[0], np.cumsum(counts)])
    first = np.searchsorted(before, numbers, side="right") - 1
    return first, partner[first] + numbers - before[first]
