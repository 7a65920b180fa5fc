"""Operating points that the data supports, and what can be said beyond them.

Rule of 30 (G. Doddington, M. Przybocki, A. Martin, D. Reynolds, "The NIST speaker recognition evaluation", Speech
Communication 31, 2000): with 30 errors the true rate is within 30 % of the measured one with 90 % confidence, if the
trials are independent. A rate that would rest on fewer gets no name here. Rule of 3: where no error was seen in N
trials, the rate is below 3 / N with 95 % confidence.
"""

from collections.abc import Sequence
from math import ceil

import numpy as np
from scipy.special import betaincinv

from models.calibration import LEAST_ERRORS, Bound, OperatingPoint
from models.calibration.records import bound_text
from models.errors import CalibrationUnfit, OneClassOnly
from models.evaluation.metrics.bootstrap import CONFIDENCE, REPLICATES, PointIntervals, point_intervals
from models.evaluation.metrics.pair_scores import PairScores
from models.types import Progress, no_progress

RATES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


def operating_points(
    pairs: PairScores,
    measured_on: str,
    rates: Sequence[float] = RATES,
    replicates: int = REPLICATES,
    progress: Progress = no_progress,
) -> list[OperatingPoint]:
    """Measure every rate of a list that the comparisons support, loosest first; there may be none.

    Args:
        pairs: What was compared. Intervals are by bootstrap over subjects where those are known, else the exact
            binomial ones, which take pairs as independent and are too narrow.
        measured_on: The data, for people.
        rates: False match rates, as shares.
        replicates: Of the bootstrap.
        progress: Called as work gets done.

    Raises:
        OneClassOnly: There are no mated, or no non-mated, comparisons.
    """
    require_both_classes(pairs)
    found = [
        (rate, threshold)
        for rate in sorted(rates, reverse=True)
        if supports(pairs, rate) and (threshold := _supported(pairs, rate)) is not None
    ]
    if not found:
        return []
    if pairs.subjects is None:
        intervals = [_binomial(pairs, threshold) for _, threshold in found]
    else:
        intervals = point_intervals(pairs, found, replicates, progress=progress)
    return [
        OperatingPoint(
            name=point_name(rate),
            rate=rate,
            threshold=threshold,
            interval=own.fmr,
            threshold_interval=own.threshold,
            fnmr=pairs.mated.fnmr(threshold),
            fnmr_interval=own.fnmr,
            errors=pairs.non_mated.errors(threshold),
            measured_on=measured_on,
        )
        for (rate, threshold), own in zip(found, intervals, strict=True)
    ]


def supports(pairs: PairScores, rate: float) -> bool:
    """Tell whether there are so many non-mated comparisons that the rate means 30 errors."""
    return rate * pairs.non_mated.count + 1e-9 >= LEAST_ERRORS


def _supported(pairs: PairScores, rate: float) -> float | None:
    """Find the threshold of a rate; None where equal similarities leave fewer errors, or the kept tail is shorter."""
    threshold = pairs.non_mated.threshold(rate)
    return None if threshold is None or pairs.non_mated.errors(threshold) < LEAST_ERRORS else threshold


def left_out(pairs: PairScores, points: Sequence[OperatingPoint], rates: Sequence[float] = RATES) -> list[str]:
    """Say which rates got no point, and why."""
    count, notes = pairs.non_mated.count, []
    named = {point.rate for point in points}
    if any(not supports(pairs, rate) for rate in rates):
        notes.append(
            f"{count:,} non-mated comparisons carry no rate below {LEAST_ERRORS / count:.3g} (30 errors). Above the "
            f"highest non-mated similarity, {pairs.non_mated.scores[0]:.3f}, FMR is at most "
            f"{bound_text(3 / count)} (rule of 3)."
        )
    for rate in rates:
        if supports(pairs, rate) and rate not in named:
            notes.append(
                f"{point_name(rate)} is left out: equal similarities leave it fewer than 30 errors, or it lies below "
                f"the {len(pairs.non_mated.scores):,} most similar pairs that were kept."
            )
    return notes


def require_points(points: Sequence[OperatingPoint], pairs: PairScores) -> None:
    """Refuse to calibrate where not one operating point is supported.

    Raises:
        CalibrationUnfit: There is none.
    """
    if not points:
        count = pairs.non_mated.count
        raise CalibrationUnfit(
            f"{count:,} non-mated comparisons support no operating point: a false match rate of {max(RATES):g} needs "
            f"{ceil(LEAST_ERRORS / max(RATES)):,} (30 errors); at most it can be said that with no error among them "
            f"the rate is at most {bound_text(min(1.0, 3 / max(count, 1)))}"
        )


def bound_beyond(pairs: PairScores) -> Bound:
    """State what the rule of 3 says above the highest non-mated similarity."""
    return Bound(float(pairs.non_mated.scores[0]), 3 / pairs.non_mated.count)


def require_both_classes(pairs: PairScores) -> None:
    """Refuse what has comparisons of one kind only.

    Raises:
        OneClassOnly: There are no mated, or no non-mated, comparisons.
    """
    for kind, count in (("mated", len(pairs.mated.scores)), ("non-mated", pairs.non_mated.count)):
        if not count:
            raise OneClassOnly(f"there are no {kind} comparisons, so no error rate can be measured")


def point_name(rate: float) -> str:
    """Return the name of the operating point of a rate, such as `fmr_1e-3`."""
    mantissa, exponent = f"{rate:.12e}".split("e")
    return f"fmr_{float(mantissa):g}e{int(exponent)}"


def binomial_interval(errors: int, trials: int) -> tuple[float, float]:
    """Return the exact 95 % interval of a rate (C. Clopper, E. Pearson, Biometrika 26, 1934)."""
    tail = (1 - CONFIDENCE) / 2
    low = float(betaincinv(errors, trials - errors + 1, tail)) if errors else 0.0
    high = float(betaincinv(errors + 1, trials - errors, 1 - tail)) if errors < trials else 1.0
    return low, high


def _binomial(pairs: PairScores, threshold: float) -> PointIntervals:
    errors, trials = pairs.non_mated.errors(threshold), pairs.non_mated.count
    low, high = binomial_interval(errors, trials)
    scores = pairs.non_mated.scores
    ends = [scores[min(len(scores) - 1, max(0, int(rate * trials) - 1))] for rate in (high, low)]
    missed = int((pairs.mated.scores < np.float32(threshold)).sum())
    return PointIntervals(
        (low, high), (float(ends[0]), float(ends[1])), binomial_interval(missed, len(pairs.mated.scores))
    )
