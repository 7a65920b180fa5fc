"""Upper bounds of error rates that count subjects, not pairs.

Pairs that share a subject are not independent, so a bound over all pairs is too low: of the 16 million pairs of 5,749
subjects, only 2,874 can share no subject with one another. The mean over all pairs is an average of means over that
many disjoint pairs, and Chernoff's bound for so many independent trials holds for it too, however the errors are spread
over subjects (W. Hoeffding, Journal of the American Statistical Association 58, 1963, section 5). Without an error it
is the rule of 3 (ISO/IEC 19795-1:2021, annex B) over the disjoint pairs. A few subjects who resemble everybody, the
wolves of G. Doddington et al. (ICSLP 1998), reach it, so no lower bound holds in general. (S. Dass, Y. Zhu, A. Jain,
"Validating a biometric authentication system: sample size requirements", IEEE PAMI 28, 2006, get narrower regions by a
model of the correlation.)

Subjects count equally in the theorem. If one subject has many more pictures than another, the bound is approximate
where there are errors.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import rel_entr

from models.evaluation.metrics.pair_scores import PairScores

CONFIDENCE = 0.95

_HALVINGS = 60  # of the interval in which a bound is searched; float64 has 53 bits

Doubles = NDArray[np.float64]


def upper_bound(share: Doubles, trials: int) -> Doubles:
    """Return the upper 95 % bound of a rate.

    Args:
        share: Measured rates, in [0, 1].
        trials: Number of independent trials, such as subjects or disjoint pairs of subjects.

    Returns:
        The highest rate p with trials · KL(share, p) at most ln 20; 1 without a trial.
    """
    rates, place = np.unique(share, return_inverse=True)  # the shares of histogram bins repeat
    low, high = rates, np.ones_like(rates, np.float64)
    limit = -np.log(1 - CONFIDENCE) / max(trials, np.finfo(np.float64).tiny)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        within = rel_entr(rates, middle) + rel_entr(1 - rates, 1 - middle) <= limit
        low, high = np.where(within, middle, low), np.where(within, high, middle)
    return high[place]


def disjoint_pairs(pairs: PairScores) -> int:
    """Return how many of the non-mated pairs share no subject with one another.

    If not all pairs were compared, the number is that of a maximal matching, at least half of the highest possible.
    """
    if pairs.all_pairs and pairs.subjects is not None:
        return len(np.unique(pairs.subjects)) // 2
    first, second = pairs.non_mated.first, pairs.non_mated.second
    owner = _owners(pairs)
    return _matching(owner[first], owner[second])


def bound_without_errors(pairs: PairScores) -> float:
    """Return the upper 95 % bound of the false match rate at a similarity that no non-mated pair exceeds."""
    return float(upper_bound(np.zeros(1), disjoint_pairs(pairs))[0])


def _owners(pairs: PairScores) -> NDArray[np.int64]:
    """Return the subject of each picture; of unknown subjects, those pictures are of one that mated pairs link."""
    if pairs.subjects is not None:
        return np.unique(pairs.subjects, return_inverse=True)[1].astype(np.int64)
    mated, others = pairs.mated, pairs.non_mated
    count = 1 + max(int(part.max()) for part in (mated.first, mated.second, others.first, others.second) if len(part))
    links = coo_array((np.ones(len(mated.first), np.bool_), (mated.first, mated.second)), shape=(count, count))
    return np.asarray(connected_components(links, directed=False)[1], np.int64)


def _matching(first: NDArray[np.int64], second: NDArray[np.int64]) -> int:
    """Return the number of pairs in a maximal matching, found in parallel with random priorities."""
    different = first != second
    order = np.random.default_rng(0).permutation(np.flatnonzero(different))
    first, second = first[order], second[order]
    matched, count = 0, 1 + int(max(first.max(initial=-1), second.max(initial=-1)))
    free = np.ones(count, np.bool_)
    while len(first):
        place = np.arange(len(first))
        best = np.full(count, len(first))
        np.minimum.at(best, first, place)
        np.minimum.at(best, second, place)
        chosen = (best[first] == place) & (best[second] == place)
        matched += int(chosen.sum())
        free[first[chosen]] = free[second[chosen]] = False
        remaining = free[first] & free[second]
        first, second = first[remaining], second[remaining]
    return matched
