"""Operating points that the comparisons support, and the bound on the false match rate beyond them.

Rule of 30 (G. Doddington, M. Przybocki, A. Martin, D. Reynolds, "The NIST speaker recognition evaluation", Speech
Communication 31, 2000): with 30 errors, the true rate is within 30 % of the measured rate with 90 % confidence, if the
trials are independent. A rate with fewer errors gets no operating point; how far the trials are from independence, the
interval of a point shows. Rule of 3: with no error in N independent trials, the rate is below 3 / N with 95 %
confidence. Pairs that share a subject are not independent, so N is a number of disjoint pairs (see `subject_bounds`).
"""

from collections.abc import Sequence
from math import ceil

from scipy.special import betaincinv

from models.calibration import MIN_ERRORS, Bound, OperatingPoint
from models.calibration.records import bound_text
from models.errors import CalibrationUnfit, SingleClass
from models.evaluation.metrics.bootstrap import REPLICATES, PointIntervals, fnmr_by_subject, point_intervals
from models.evaluation.metrics.pair_scores import PairScores
from models.evaluation.metrics.subject_bounds import CONFIDENCE, bound_without_errors, disjoint_pairs
from models.types import Progress, no_progress

RATES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


def operating_points(
    pairs: PairScores,
    measured_on: str,
    rates: Sequence[float] = RATES,
    replicates: int = REPLICATES,
    progress: Progress = no_progress,
) -> list[OperatingPoint]:
    """Measure the operating points of all false match rates that the comparisons support.

    Args:
        pairs: Similarities of all compared pairs. Confidence intervals are computed by a bootstrap over subjects. If
            the subjects are unknown, they are exact binomial intervals, which take pairs as independent and are too
            narrow.
        measured_on: Name of the evaluation set in reports.
        rates: False match rates in [0, 1].
        replicates: Number of bootstrap replicates.
        progress: Called after each replicate.

    Returns:
        One operating point for each supported rate, highest rate first; may be empty.

    Raises:
        SingleClass: `pairs` has no mated, or no non-mated, comparisons.
    """
    require_both_classes(pairs)
    supported = [
        (rate, threshold)
        for rate in sorted(rates, reverse=True)
        if pairs.non_mated.supports(rate) and (threshold := _threshold(pairs, rate)) is not None
    ]
    if not supported:
        return []
    if pairs.subjects is None:
        intervals = [_binomial(pairs, threshold) for _, threshold in supported]
    else:
        intervals = point_intervals(pairs, supported, replicates, progress=progress)
    return [
        OperatingPoint(
            name=point_name(rate),
            rate=rate,
            threshold=threshold,
            interval=interval.fmr,
            threshold_interval=interval.threshold,
            fnmr=pairs.mated.fnmr(threshold),
            fnmr_interval=interval.fnmr,
            errors=pairs.non_mated.errors(threshold),
            measured_on=measured_on,
            gfar=pairs.non_mated.gfar(threshold),
            gfrr=pairs.mated.gfrr(threshold),
            fnmr_by_subject=fnmr_by_subject(pairs, threshold),
            fnmr_by_subject_interval=interval.fnmr_by_subject,
        )
        for (rate, threshold), interval in zip(supported, intervals, strict=True)
    ]


def _threshold(pairs: PairScores, rate: float) -> float | None:
    """Return the threshold of a rate; None if it is below the stored tail, or if ties leave fewer than 30 errors."""
    threshold = pairs.non_mated.threshold(rate)
    return None if threshold is None or pairs.non_mated.errors(threshold) < MIN_ERRORS else threshold


def unsupported_rate_notes(
    pairs: PairScores, points: Sequence[OperatingPoint], rates: Sequence[float] = RATES
) -> list[str]:
    """Return sentences that explain which rates have no operating point.

    Args:
        pairs: Similarities of all compared pairs.
        points: Operating points that `operating_points` returned.
        rates: False match rates that were requested.
    """
    count, notes = pairs.non_mated.count, []
    measured = {point.rate for point in points}
    if any(not pairs.non_mated.supports(rate) for rate in rates):
        least = (
            f"rate below {MIN_ERRORS / count:.3g} (30 errors)"
            if count > MIN_ERRORS
            else f"operating point, which needs {MIN_ERRORS} errors"
        )
        notes.append(
            f"{count:,} non-mated comparisons support no {least}. Above the highest non-mated similarity, "
            f"{pairs.non_mated.scores[0]:.3f}, FMR is at most {_rule_of_three(pairs)}."
        )
    for rate in rates:
        if pairs.non_mated.supports(rate) and rate not in measured:
            notes.append(
                f"{point_name(rate)} is left out: it has fewer than 30 errors because of equal similarities, or its "
                f"threshold is below the {len(pairs.non_mated.scores):,} most similar pairs that are stored."
            )
    return notes


def require_points(points: Sequence[OperatingPoint], pairs: PairScores) -> None:
    """Refuse a calibration without operating points.

    Raises:
        CalibrationUnfit: `points` is empty.
    """
    if not points:
        count = pairs.non_mated.count
        raise CalibrationUnfit(
            f"{count:,} non-mated comparisons support no operating point: a false match rate of {max(RATES):g} needs "
            f"{ceil(MIN_ERRORS / max(RATES)):,} comparisons (30 errors); above their highest similarity the rate is at "
            f"most {_rule_of_three(pairs)}"
        )


def bound_beyond(pairs: PairScores) -> Bound:
    """Return the bound on the false match rate above the highest non-mated similarity."""
    return Bound(float(pairs.non_mated.scores[0]), bound_without_errors(pairs))


def _rule_of_three(pairs: PairScores) -> str:
    what = "pairs of subjects" if pairs.subjects is not None else "pairs of pictures"
    return f"{bound_text(bound_without_errors(pairs))} (rule of 3 over {disjoint_pairs(pairs):,} disjoint {what})"


def require_both_classes(pairs: PairScores) -> None:
    """Refuse comparisons of one kind only.

    Raises:
        SingleClass: `pairs` has no mated, or no non-mated, comparisons.
    """
    for kind, count in (("mated", len(pairs.mated.scores)), ("non-mated", pairs.non_mated.count)):
        if not count:
            raise SingleClass(f"no error rate can be measured without completed {kind} comparisons")


def point_name(rate: float) -> str:
    """Return the name of the operating point of a false match rate, such as `fmr_1e-3`."""
    mantissa, exponent = f"{rate:.12e}".split("e")
    return f"fmr_{float(mantissa):g}e{int(exponent)}"


def binomial_interval(errors: int, trials: int) -> tuple[float, float]:
    """Return the exact 95 % confidence interval of a rate (C. Clopper, E. Pearson, Biometrika 26, 1934)."""
    tail = (1 - CONFIDENCE) / 2
    low = float(betaincinv(errors, trials - errors + 1, tail)) if errors else 0.0
    high = float(betaincinv(errors + 1, trials - errors, 1 - tail)) if errors < trials else 1.0
    return low, high


def _binomial(pairs: PairScores, threshold: float) -> PointIntervals:
    errors, trials = pairs.non_mated.errors(threshold), pairs.non_mated.count
    low, high = binomial_interval(errors, trials)
    scores = pairs.non_mated.scores
    ends = [scores[min(len(scores) - 1, max(0, int(rate * trials) - 1))] for rate in (high, low)]
    missed = int(pairs.mated.missed(threshold).sum())
    fnmr = binomial_interval(missed, len(pairs.mated.scores))
    return PointIntervals((low, high), (float(ends[0]), float(ends[1])), fnmr, None)
