"""Operating points, the score map and the quality scale of one embedding contract.

Terms follow ISO/IEC 19795-1. The false match rate (FMR) of a threshold is the share of non-mated comparisons whose
similarity is at or above the threshold. The measurements are implemented in `models.evaluation`.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from models.errors import OperatingPointUnknown
from models.quality import QualityScale

MIN_ERRORS = 30  # minimum for each point; see `models.evaluation.metrics.operating_points`

DEFAULT_RATE = 1e-4  # of the default point, if the data supports it; that of every shipped calibration

Decision = Literal["match", "no_match", "inconclusive"]


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A threshold and its error rates.

    Attributes:
        name: Name of the point, such as `fmr_1e-3`.
        rate: False match rate, in (0, 1).
        threshold: Minimum similarity (cosine in [-1, 1]) of a match.
        interval: 95 % confidence interval of the false match rate at this threshold.
        threshold_interval: 95 % confidence interval of the threshold for this rate. The data does not determine on
            which side of the threshold a similarity within it lies.
        fnmr: False non-match rate at this threshold on the same data, in [0, 1], over completed comparisons.
        fnmr_interval: 95 % confidence interval of `fnmr`.
        errors: Number of observed false matches, at least 30.
        measured_on: Name of the evaluation set.
        gfar: Generalized false accept rate: the false match rate over all attempted comparisons, of which those with a
            face that was not acquired are not accepted.
        gfrr: Generalized false reject rate: the share of all attempted comparisons that are not accepted.
        fnmr_by_subject: False non-match rate with equal weight for each subject, however many pictures it has; None if
            the subjects are unknown.
        fnmr_by_subject_interval: 95 % confidence interval of `fnmr_by_subject`.
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
    gfar: float
    gfrr: float
    fnmr_by_subject: float | None = None
    fnmr_by_subject_interval: tuple[float, float] | None = None

    def decide(self, similarity: float, allow_inconclusive: bool = False) -> Decision:
        """Compare a similarity with the threshold.

        Args:
            similarity: Cosine in [-1, 1].
            allow_inconclusive: Whether a similarity within `threshold_interval` is `inconclusive`.

        Returns:
            `match`, `no_match` or `inconclusive`.
        """
        low, high = self.threshold_interval
        if allow_inconclusive and low <= similarity < high:
            return "inconclusive"
        return "match" if similarity >= self.threshold else "no_match"


@dataclass(frozen=True, slots=True)
class ScoreMap:
    """A monotone map from similarity to log-likelihood ratio (natural logarithm; mated over non-mated).

    Attributes:
        method: `logistic` or `isotonic`; the method with the lower cross-validated cost is used.
        knots: (similarity, log-likelihood ratio), ascending in both; the map is linear between the knots and constant
            beyond them.
        cost: Cllr on held-out subjects in bits (N. Brümmer, J. du Preez, Computer Speech and Language 20, 2006); 0 is
            perfect, 1 is uninformative.
        least_cost: Cllr of the best monotone map on the same pairs, to which it is fitted itself.
        calibration_error: Expected calibration error of the probability on held-out subjects, with equal weight for
            both classes.
        folds: Number of folds of the cross-validation by subject.
        measured_on: Name of the evaluation set.
    """

    method: Literal["logistic", "isotonic"]
    knots: tuple[tuple[float, float], ...]
    cost: float
    least_cost: float
    calibration_error: float
    folds: int
    measured_on: str

    def log_likelihood_ratio(self, similarity: float) -> float:
        """Return the natural logarithm of the likelihood ratio of mated over non-mated for a similarity."""
        similarities, ratios = zip(*self.knots, strict=True)
        return float(np.interp(similarity, similarities, ratios))

    def probability(self, similarity: float, prior: float) -> float:
        """Return the probability that two faces show the same subject.

        Args:
            similarity: Cosine in [-1, 1].
            prior: Probability of the same subject before the comparison, in (0, 1).
        """
        logit = self.log_likelihood_ratio(similarity) + math.log(prior / (1 - prior))
        return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))


@dataclass(frozen=True, slots=True)
class Bound:
    """The bound of the false match rate beyond the strictest operating point.

    Attributes:
        similarity: Highest similarity of a non-mated comparison.
        fmr: Upper 95 % bound of the false match rate above `similarity`, by the rule of 3 for as many comparisons
            without an error as share no subject. It holds however the errors are spread over subjects; the intervals
            of the operating points, which are lower, take the compared subjects as typical.
    """

    similarity: float
    fmr: float


DISTRIBUTION_BINS = 200


@dataclass(frozen=True, slots=True)
class Distribution:
    """How the similarities of a calibration are distributed, for charts; rates come from the operating points.

    Attributes:
        mated, non_mated: Number of comparisons in each of `DISTRIBUTION_BINS` bins of equal width over [-1, 1].
    """

    mated: tuple[int, ...]
    non_mated: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Calibration:
    """The calibration of one embedding contract.

    Attributes:
        contract_id: Embedding contract of the compared embeddings; the calibration is valid for no other contract.
        default: Name of the operating point for requests that name none.
        points: Operating points by descending false match rate.
        bound: Bound of the false match rate beyond the last point.
        score_map: Map from similarity to log-likelihood ratio.
        quality: Map from norm to quality.
        conditions: Detector, engine, precision and policy of the measurement, and the amount of data.
        distribution: Distribution of the similarities; None in files of earlier versions of the program.
    """

    contract_id: str
    default: str
    points: tuple[OperatingPoint, ...]
    bound: Bound
    score_map: ScoreMap
    quality: QualityScale
    conditions: dict[str, Any]
    distribution: Distribution | None = None

    @property
    def lenient_default(self) -> str | None:
        """Return that the default point admits more false matches than the usual one, as a sentence, or None."""
        point = self.point()
        if point.rate <= DEFAULT_RATE:
            return None
        return (
            f"Requests that name no operating point are decided at {point.name}, not at fmr_1e-4, the default of the "
            f"shipped calibrations: they get {point.rate / DEFAULT_RATE:.3g} times as many false matches"
        )

    def point(self, wanted: str | float | None = None) -> OperatingPoint:
        """Return an operating point by name or by rate.

        Args:
            wanted: Name or false match rate of the point; None for the default point.

        Raises:
            OperatingPointUnknown: No point has this name or rate.
        """
        wanted = self.default if wanted is None else wanted
        for point in self.points:
            if wanted == point.name or (isinstance(wanted, float) and np.isclose(wanted, point.rate, rtol=1e-6)):
                return point
        names = ", ".join(point.name for point in self.points)
        raise OperatingPointUnknown(f"unknown operating point {wanted!r}; available operating points: {names}")


def bound_text(bound: float) -> str:
    """Format an upper bound with one significant digit, rounded up; 0 is formatted as `0`."""
    if bound <= 0:
        return "0"
    exponent = math.floor(math.log10(bound))
    return f"{math.ceil(round(bound / 10**exponent, 9)) * 10**exponent:.1g}"
