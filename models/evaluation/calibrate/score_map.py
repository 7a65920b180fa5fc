"""Monotone maps from similarity to log-likelihood ratio, chosen by cross-validation over subjects.

Logistic: the log-likelihood ratio is linear in similarity, fitted by logistic regression with equal weight of both
classes (N. Brümmer, J. du Preez, "Application-independent evaluation of speaker detection", Computer Speech and
Language 20, 2006). Isotonic: pool adjacent violators, with each pool placed at its centre and linear interpolation
between pools (A. Oron, N. Flournoy, "Centered isotonic regression", Statistics in Biopharmaceutical Research 9, 2017).
Both maps are clipped to the ratios that the subjects support (`_limits`), as J. Vergeer et al. limit likelihood ratios
by the size of the data ("Numerical likelihood ratios outputted by LR systems are often based on extrapolation", Science
& Justice 56, 2016). Inside these limits, the cost of a map measures its error.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression, minimize

from models.calibration import ScoreMap
from models.evaluation.metrics.pair_scores import CENTRES, FoldHistograms, Histograms
from models.evaluation.metrics.subject_bounds import upper_bound

Counts = NDArray[np.int64]
Doubles = NDArray[np.float64]
Method = Literal["logistic", "isotonic"]

FOLDS = 10

_MOST_KNOTS = 64
_PROBABILITY_BINS = 15
_LOG_2 = float(np.log(2))


class _Knots(NamedTuple):
    similarity: Doubles
    ratio: Doubles

    def at(self, similarity: Doubles) -> Doubles:
        return np.interp(similarity, self.similarity, self.ratio)


def fit_score_map(histograms: FoldHistograms, measured_on: str) -> ScoreMap:
    """Fit both maps, choose the one with the lower cost on held-out subjects, and fit it to all pairs.

    Args:
        histograms: Histograms of the pairs, by the folds of their two subjects.
        measured_on: Description of the data.
    """
    folds = len(histograms.mated)
    methods: tuple[Method, ...] = ("logistic", "isotonic")
    held_out = [histograms.of(fold) for fold in range(folds)]
    ratios = {
        method: [_fit(method, histograms.without(fold)).at(CENTRES) for fold in range(folds)] for method in methods
    }
    cost = {method: _held_out_cost(ratios[method], held_out) for method in methods}
    method = min(methods, key=lambda candidate: cost[candidate])
    knots = _fit(method, histograms.all())
    return ScoreMap(
        method=method,
        knots=tuple((float(x), float(y)) for x, y in zip(knots.similarity, knots.ratio, strict=True)),
        cost=cost[method],
        least_cost=_least_cost(held_out),
        calibration_error=_calibration_error(ratios[method], held_out),
        folds=folds,
        measured_on=measured_on,
    )


def _fit(method: Method, histograms: Histograms) -> _Knots:
    return (_fit_logistic if method == "logistic" else _fit_isotonic)(histograms)


def _fit_logistic(histograms: Histograms) -> _Knots:
    positive, negative = _shares(histograms.mated, histograms.non_mated)

    def loss(parameters: Doubles) -> tuple[float, Doubles]:
        slope, offset = parameters
        ratio = slope * CENTRES + offset
        value = positive @ np.logaddexp(0, -ratio) + negative @ np.logaddexp(0, ratio)
        wrong = negative * _sigmoid(ratio) - positive * _sigmoid(-ratio)
        return float(value), np.array([wrong @ CENTRES, wrong.sum()])

    slope, offset = minimize(
        loss, np.array([10.0, -3.0]), jac=True, method="L-BFGS-B", bounds=[(0, None), (None, None)]
    ).x
    low, high = _limits(histograms)
    if slope <= 0:
        return _Knots(np.array([-1.0, 1.0]), np.zeros(2))
    ratio = np.clip(np.array([low, high]), slope * -1 + offset, slope + offset)
    if ratio[0] >= ratio[1]:  # within [-1, 1] the line stays outside the limits
        return _Knots(np.array([-1.0, 1.0]), np.full(2, np.clip(offset, low, high)))
    return _Knots((ratio - offset) / slope, ratio)


def _fit_isotonic(histograms: Histograms) -> _Knots:
    positive, negative = _shares(histograms.mated, histograms.non_mated)
    seen = positive + negative > 0
    weight = positive[seen] + negative[seen]
    pools = isotonic_regression(positive[seen] / weight, weights=weight)
    blocks = np.asarray(pools.blocks)
    total = np.add.reduceat(weight, blocks[:-1])
    centre = np.add.reduceat(weight * CENTRES[seen], blocks[:-1]) / total
    share = np.clip(pools.x[blocks[:-1]], 1e-300, 1 - 1e-16)
    low, high = _limits(histograms)
    ratio = np.clip(np.log(share) - np.log1p(-share), low, high)
    return _thin(_Knots(centre, ratio))


def _thin(knots: _Knots) -> _Knots:
    """Reduce knots to about `_MOST_KNOTS`, spread evenly over the ratios; the others add no useful detail."""
    if len(knots.ratio) <= _MOST_KNOTS:
        return knots
    targets = np.linspace(knots.ratio[0], knots.ratio[-1], _MOST_KNOTS)
    chosen = np.unique(np.concatenate([[0], np.searchsorted(knots.ratio, targets), [len(knots.ratio) - 1]]))
    chosen = chosen[chosen < len(knots.ratio)]
    return _Knots(knots.similarity[chosen], knots.ratio[chosen])


def _shares(mated: Counts, others: Counts) -> tuple[Doubles, Doubles]:
    return mated / max(1, mated.sum()), others / max(1, others.sum())


def _limits(histograms: Histograms) -> tuple[float, float]:
    """Return the lowest and the highest log-likelihood ratio that the subjects support.

    The ratio above a similarity is at most the share of mated pairs above it over the upper 95 % bound of the share of
    non-mated pairs above it, in which the subjects are counted (see `subject_bounds`). The ratio below a similarity is
    bounded in the same way with the classes exchanged.
    """
    positive, negative = _shares(histograms.mated, histograms.non_mated)
    above = [shares[::-1].cumsum()[::-1] for shares in (positive, negative)]
    below = [shares.cumsum() for shares in (positive, negative)]
    largest = _largest(above[0], above[1], histograms.subjects // 2)
    least = -_largest(below[1], below[0], histograms.mated_subjects)
    return least, largest


def _largest(hits: Doubles, errors: Doubles, trials: int) -> float:
    seen = hits > 0
    ratios = np.log(hits[seen]) - np.log(upper_bound(np.clip(errors[seen], 0, 1), trials))
    return float(max(0.0, ratios.max(initial=0.0)))


def _held_out_cost(ratios: Sequence[Doubles], held_out: Sequence[Histograms]) -> float:
    """Return the cost (Cllr, bits) of all held-out pairs, each under the map fitted without its subjects."""
    mated, others = sum(fold.mated.sum() for fold in held_out), sum(fold.non_mated.sum() for fold in held_out)
    total = 0.0
    for ratio, fold in zip(ratios, held_out, strict=True):
        cost_of_mated = float(fold.mated @ np.logaddexp(0, -ratio)) / mated
        total += cost_of_mated + float(fold.non_mated @ np.logaddexp(0, ratio)) / others
    return total / (2 * _LOG_2)


def _least_cost(held_out: Sequence[Histograms]) -> float:
    """Return the cost (Cllr, bits) of the best monotone map, fitted to the held-out pairs themselves."""
    mated = np.sum([fold.mated for fold in held_out], axis=0)
    positive, negative = _shares(mated, np.sum([fold.non_mated for fold in held_out], axis=0))
    seen = positive + negative > 0
    weight = positive[seen] + negative[seen]
    share = np.clip(isotonic_regression(positive[seen] / weight, weights=weight).x, 1e-300, 1 - 1e-16)
    ratio = np.log(share) - np.log1p(-share)
    return float(positive[seen] @ np.logaddexp(0, -ratio) + negative[seen] @ np.logaddexp(0, ratio)) / (2 * _LOG_2)


def _calibration_error(ratios: Sequence[Doubles], held_out: Sequence[Histograms]) -> float:
    """Return the expected calibration error: predicted probability against true share, in bins of equal width."""
    mated, others = sum(fold.mated.sum() for fold in held_out), sum(fold.non_mated.sum() for fold in held_out)
    predicted, true = np.zeros((2, _PROBABILITY_BINS))
    for ratio, fold in zip(ratios, held_out, strict=True):
        probability = _sigmoid(ratio)
        index = np.minimum((probability * _PROBABILITY_BINS).astype(int), _PROBABILITY_BINS - 1)
        positive, negative = fold.mated / mated / 2, fold.non_mated / others / 2
        predicted += np.bincount(index, (positive + negative) * probability, minlength=_PROBABILITY_BINS)
        true += np.bincount(index, positive, minlength=_PROBABILITY_BINS)
    return float(np.abs(predicted - true).sum())


def _sigmoid(ratio: Doubles) -> Doubles:
    return np.exp(-np.logaddexp(0, -ratio))
