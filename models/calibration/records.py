"""Operating points, the score map and the quality scale of one embedding contract.

Words follow ISO/IEC 19795-1. The false match rate (FMR) of a threshold is the share of non-mated comparisons whose
similarity reaches it. How the numbers are measured is in `models.evaluation`.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from models.errors import OperatingPointUnknown
from models.quality import QualityScale

LEAST_ERRORS = 30  # fewer, and a rate gets no point: see `models.evaluation.metrics.operating_points`

Decision = Literal["match", "no_match", "inconclusive"]


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A threshold and what it costs.

    Attributes:
        name: Such as `fmr_1e-3`.
        rate: False match rate, a share of non-mated comparisons in [0, 1].
        threshold: Similarity (cosine in [-1, 1]) from which on two faces match.
        interval: 95 % confidence interval of the rate at this threshold.
        threshold_interval: 95 % confidence interval of the threshold for this rate: between its ends the data does
            not tell on which side a similarity lies.
        fnmr: False non-match rate that this threshold cost on the same data.
        fnmr_interval: 95 % confidence interval of that.
        errors: False matches that were seen; there are at least 30.
        measured_on: The data.
    """

    name: str
    rate: float
    threshold: float
    interval: tuple[float, float]
    threshold_interval: tuple[float, float]
    fnmr: float
    fnmr_interval: tuple[float, float]
    errors: int
    measured_on: str

    def decide(self, similarity: float, may_be_inconclusive: bool = False) -> Decision:
        """Say whether a similarity reaches the threshold, or that the data does not tell."""
        low, high = self.threshold_interval
        if may_be_inconclusive and low <= similarity < high:
            return "inconclusive"
        return "match" if similarity >= self.threshold else "no_match"


@dataclass(frozen=True, slots=True)
class ScoreMap:
    """A monotone map from similarity to log-likelihood ratio (natural logarithm; mated over non-mated).

    Attributes:
        method: `logistic` or `isotonic`, whichever had the lower cross-validated cost.
        knots: (similarity, log-likelihood ratio), ascending in both; straight between them, constant beyond.
        cost: Cllr of held-out subjects in bits (N. Brümmer, J. du Preez, Computer Speech and Language 20, 2006):
            0 is perfect, 1 says nothing.
        least_cost: The same of the best monotone map, found on the held-out subjects themselves.
        calibration_error: Expected calibration error of the probability on held-out subjects, both classes weighing
            alike.
        folds: Subjects were dealt into so many for that.
        measured_on: The data.
    """

    method: Literal["logistic", "isotonic"]
    knots: tuple[tuple[float, float], ...]
    cost: float
    least_cost: float
    calibration_error: float
    folds: int
    measured_on: str

    def log_likelihood_ratio(self, similarity: float) -> float:
        """Return how many times likelier the similarity is for one subject than for two, as natural logarithm."""
        similarities, ratios = zip(*self.knots, strict=True)
        return float(np.interp(similarity, similarities, ratios))

    def probability(self, similarity: float, prior: float) -> float:
        """Return the probability of one subject.

        Args:
            similarity: Cosine in [-1, 1].
            prior: Probability of one subject before anything was compared, in (0, 1).
        """
        logit = self.log_likelihood_ratio(similarity) + math.log(prior / (1 - prior))
        return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))


@dataclass(frozen=True, slots=True)
class Bound:
    """What can be said beyond the strictest operating point.

    Attributes:
        similarity: Highest that two subjects had.
        fmr: Upper 95 % bound of the false match rate above it, by the rule of 3: no error in N comparisons.
    """

    similarity: float
    fmr: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was measured for one embedding contract.

    Attributes:
        contract_id: The embeddings that were compared; the numbers mean nothing for others.
        default: Name of the point that is used when a request names none.
        points: Loosest first.
        bound: Beyond the last of them.
        score_map: From similarity to log-likelihood ratio.
        quality: From norm to quality.
        conditions: Detector, engine, precision and policy with which it was measured, and how much data there was.
    """

    contract_id: str
    default: str
    points: tuple[OperatingPoint, ...]
    bound: Bound
    score_map: ScoreMap
    quality: QualityScale
    conditions: dict[str, Any]

    def point(self, wanted: str | float | None = None) -> OperatingPoint:
        """Find an operating point by name or by rate; the default one if none is wanted.

        Raises:
            OperatingPointUnknown: There is none of that name or rate.
        """
        wanted = self.default if wanted is None else wanted
        for point in self.points:
            if wanted == point.name or (isinstance(wanted, float) and np.isclose(wanted, point.rate, rtol=1e-6)):
                return point
        names = ", ".join(point.name for point in self.points)
        raise OperatingPointUnknown(f"there is no operating point {wanted!r}; measured ones are {names}")


def bound_text(bound: float) -> str:
    """Write an upper bound with one digit, rounded up; 0 is 0."""
    if bound <= 0:
        return "0"
    exponent = math.floor(math.log10(bound))
    return f"{math.ceil(round(bound / 10**exponent, 9)) * 10**exponent:.1g}"
