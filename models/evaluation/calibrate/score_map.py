"""Similarity to log-likelihood ratio: two monotone maps, the better one by cross-validation over subjects.

Logistic: log-likelihood ratio linear in similarity, fitted by logistic regression with both classes weighing alike
(N. Brümmer, J. du Preez, "Application-independent evaluation of speaker detection", Computer Speech and Language 20,
2006). Isotonic: pool adjacent violators, with each pool taken at its centre and straight lines between (A. Oron,
N. Flournoy, "Centered isotonic regression", Statistics in Biopharmaceutical Research 9, 2017). Neither claims more than
its data carries at its ends, see `_limits`; in between the line may be off by what its cost says.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression, minimize
from scipy.special import gammaincinv

from models.calibration import ScoreMap
from models.evaluation.metrics.pair_scores import CENTRES, FoldHistograms

Counts = NDArray[np.int64]
Doubles = NDArray[np.float64]
Method = Literal["logistic", "isotonic"]

FOLDS = 10

_MOST_KNOTS = 64
_PROBABILITY_BINS = 15
_CONFIDENCE = 0.95
_LOG_2 = float(np.log(2))


class _Knots(NamedTuple):
    similarity: Doubles
    ratio: Doubles

    def at(self, similarity: Doubles) -> Doubles:
        return np.interp(similarity, self.similarity, self.ratio)


def fit_score_map(histograms: FoldHistograms, measured_on: str) -> ScoreMap:
    """Fit both maps, choose by the cost of held-out subjects, and fit the chosen one to all.

    Args:
        histograms: Of pairs whose two subjects are of known folds.
        measured_on: The data, for people.
    """
    folds = len(histograms.mated)
    methods: tuple[Method, ...] = ("logistic", "isotonic")
    held_out = [histograms.of(fold) for fold in range(folds)]
    ratios = {
        method: [_fit(method, *histograms.without(fold)).at(CENTRES) for fold in range(folds)] for method in methods
    }
    cost = {method: _held_out_cost(ratios[method], held_out) for method in methods}
    method = min(methods, key=lambda one: cost[one])
    knots = _fit(method, *histograms.all())
    return ScoreMap(
        method=method,
        knots=tuple((float(x), float(y)) for x, y in zip(knots.similarity, knots.ratio, strict=True)),
        cost=cost[method],
        least_cost=_least_cost(*histograms.all()),
        calibration_error=_calibration_error(ratios[method], held_out),
        folds=folds,
        measured_on=measured_on,
    )


def _fit(method: Method, mated: Counts, others: Counts) -> _Knots:
    return (_fit_logistic if method == "logistic" else _fit_isotonic)(mated, others)


def _fit_logistic(mated: Counts, others: Counts) -> _Knots:
    positive, negative = _shares(mated, others)

    def loss(parameters: Doubles) -> tuple[float, Doubles]:
        slope, offset = parameters
        ratio = slope * CENTRES + offset
        value = positive @ np.logaddexp(0, -ratio) + negative @ np.logaddexp(0, ratio)
        wrong = negative * _sigmoid(ratio) - positive * _sigmoid(-ratio)
        return float(value), np.array([wrong @ CENTRES, wrong.sum()])

    slope, offset = minimize(
        loss, np.array([10.0, -3.0]), jac=True, method="L-BFGS-B", bounds=[(0, None), (None, None)]
    ).x
    low, high = _limits(mated, others)
    if slope <= 0:
        return _Knots(np.array([-1.0, 1.0]), np.zeros(2))
    ratio = np.clip(np.array([low, high]), slope * -1 + offset, slope + offset)
    if ratio[0] >= ratio[1]:  # the line lies beyond what the counts carry
        return _Knots(np.array([-1.0, 1.0]), np.full(2, np.clip(offset, low, high)))
    return _Knots((ratio - offset) / slope, ratio)


def _fit_isotonic(mated: Counts, others: Counts) -> _Knots:
    positive, negative = _shares(mated, others)
    seen = positive + negative > 0
    weight = positive[seen] + negative[seen]
    pools = isotonic_regression(positive[seen] / weight, weights=weight)
    blocks = np.asarray(pools.blocks)
    total = np.add.reduceat(weight, blocks[:-1])
    centre = np.add.reduceat(weight * CENTRES[seen], blocks[:-1]) / total
    share = np.clip(pools.x[blocks[:-1]], 1e-300, 1 - 1e-16)
    low, high = _limits(mated, others)
    ratio = np.clip(np.log(share) - np.log1p(-share), low, high)
    return _thin(_Knots(centre, ratio))


def _thin(knots: _Knots) -> _Knots:
    """Keep few knots, spread evenly over the ratios, where most pools differ by nothing that matters."""
    if len(knots.ratio) <= _MOST_KNOTS:
        return knots
    wanted = np.linspace(knots.ratio[0], knots.ratio[-1], _MOST_KNOTS)
    chosen = np.unique(np.concatenate([[0], np.searchsorted(knots.ratio, wanted), [len(knots.ratio) - 1]]))
    chosen = chosen[chosen < len(knots.ratio)]
    return _Knots(knots.similarity[chosen], knots.ratio[chosen])


def _shares(mated: Counts, others: Counts) -> tuple[Doubles, Doubles]:
    return mated / max(1, mated.sum()), others / max(1, others.sum())


def _limits(mated: Counts, others: Counts) -> tuple[float, float]:
    """Return the least and the largest ratio that the counts carry anywhere.

    Above a similarity the ratio is at most the share of mated pairs there over an upper 95 % bound of the share of
    others, which is the rule of 3 where there are none; below one likewise.
    """
    above = [own[::-1].cumsum()[::-1] for own in (mated, others)]
    below = [own.cumsum() for own in (mated, others)]
    largest = _largest(above[0], mated.sum(), above[1], others.sum())
    least = -_largest(below[1], others.sum(), below[0], mated.sum())
    return least, largest


def _largest(hits: Counts, of_hits: int, errors: Counts, of_errors: int) -> float:
    bound = gammaincinv(errors + 1.0, _CONFIDENCE) / max(1, of_errors)  # Poisson; 3 / N for no error
    seen = hits > 0
    ratios = np.log(hits[seen] / max(1, of_hits)) - np.log(np.minimum(1.0, bound[seen]))
    return float(max(0.0, ratios.max(initial=0.0)))


def _held_out_cost(ratios: Sequence[Doubles], held_out: Sequence[tuple[Counts, Counts]]) -> float:
    """Return the cost of all held-out pairs together, each under the map that never saw its subjects."""
    mated = sum(own.sum() for own, _ in held_out)
    others = sum(own.sum() for _, own in held_out)
    total = 0.0
    for ratio, (own, other) in zip(ratios, held_out, strict=True):
        total += float(own @ np.logaddexp(0, -ratio)) / mated + float(other @ np.logaddexp(0, ratio)) / others
    return total / (2 * _LOG_2)


def _least_cost(mated: Counts, others: Counts) -> float:
    positive, negative = _shares(mated, others)
    seen = positive + negative > 0
    weight = positive[seen] + negative[seen]
    share = np.clip(isotonic_regression(positive[seen] / weight, weights=weight).x, 1e-300, 1 - 1e-16)
    ratio = np.log(share) - np.log1p(-share)
    return float(positive[seen] @ np.logaddexp(0, -ratio) + negative[seen] @ np.logaddexp(0, ratio)) / (2 * _LOG_2)


def _calibration_error(ratios: Sequence[Doubles], held_out: Sequence[tuple[Counts, Counts]]) -> float:
    """Compare the probability that is said with the share that is true, in bins of equal width."""
    mated = sum(own.sum() for own, _ in held_out)
    others = sum(own.sum() for _, own in held_out)
    said, true, weight = np.zeros((3, _PROBABILITY_BINS))
    for ratio, (own, other) in zip(ratios, held_out, strict=True):
        probability = _sigmoid(ratio)
        place = np.minimum((probability * _PROBABILITY_BINS).astype(int), _PROBABILITY_BINS - 1)
        positive, negative = own / mated / 2, other / others / 2
        said += np.bincount(place, (positive + negative) * probability, minlength=_PROBABILITY_BINS)
        true += np.bincount(place, positive, minlength=_PROBABILITY_BINS)
        weight += np.bincount(place, positive + negative, minlength=_PROBABILITY_BINS)
    return float(np.abs(said - true).sum())


def _sigmoid(ratio: Doubles) -> Doubles:
    return np.exp(-np.logaddexp(0, -ratio))
