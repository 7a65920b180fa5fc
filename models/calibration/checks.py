"""Check the values of a calibration for plausibility, which its digest does not prove."""

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from models.calibration.records import (
    DISTRIBUTION_BINS,
    MIN_ERRORS,
    Calibration,
    Distribution,
    OperatingPoint,
    ScoreMap,
)
from models.quality import QualityScale

_SCALAR = (bool, int, float, str)
_LARGEST_SIMILARITY = 1.01  # normalisation in bfloat16 is accurate to some thousandths
_LARGEST_RATIO = 700.0  # the exponential overflows float64 above 709


def check(calibration: Calibration) -> None:
    """Raise an error unless all values of a calibration are plausible.

    Raises:
        ValueError: A value has a wrong type or is outside its possible range.
    """
    _require(isinstance(calibration.contract_id, str))
    _require(len(calibration.points) > 0)
    for point in calibration.points:
        _check_point(point)
    for looser, stricter in pairwise(calibration.points):
        _require(looser.rate > stricter.rate and looser.threshold <= stricter.threshold)
    names = [point.name for point in calibration.points]
    _require(len(set(names)) == len(names) and calibration.default in names)
    _require(_finite((calibration.bound.similarity, calibration.bound.fmr)) and 0 < calibration.bound.fmr <= 3)
    _check_map(calibration.score_map)
    _check_quality(calibration.quality)
    if calibration.distribution is not None:
        _check_distribution(calibration.distribution)
    conditions = calibration.conditions
    _require(isinstance(conditions, dict) and all(isinstance(value, _SCALAR) for value in conditions.values()))


def _check_point(point: OperatingPoint) -> None:
    rates = [point.rate, point.fnmr, *point.interval, *point.fnmr_interval, point.gfar, point.gfrr]
    intervals = [point.interval, point.fnmr_interval, point.threshold_interval]
    _require((point.fnmr_by_subject is None) == (point.fnmr_by_subject_interval is None))
    if point.fnmr_by_subject is not None and point.fnmr_by_subject_interval is not None:
        rates += [point.fnmr_by_subject, *point.fnmr_by_subject_interval]
        intervals.append(point.fnmr_by_subject_interval)
    _require(_is_text(point.name) and isinstance(point.measured_on, str))
    _require(_finite((*rates, point.threshold, *point.threshold_interval)))
    _require(all(0 <= rate <= 1 for rate in rates) and 0 < point.rate < 1)
    for low, high in intervals:
        _require(low <= high)
    _require(abs(point.threshold) <= _LARGEST_SIMILARITY)
    _require(type(point.errors) is int and point.errors >= MIN_ERRORS)


def _check_map(score_map: ScoreMap) -> None:
    _require(score_map.method in ("logistic", "isotonic") and len(score_map.knots) > 1)
    _require(_finite(number for knot in score_map.knots for number in knot))
    _require(_finite((score_map.cost, score_map.least_cost, score_map.calibration_error)))
    for (similarity, ratio), (next_similarity, next_ratio) in pairwise(score_map.knots):
        _require(similarity < next_similarity and ratio <= next_ratio)
    _require(all(abs(ratio) <= _LARGEST_RATIO for _, ratio in score_map.knots))
    _require(type(score_map.folds) is int and isinstance(score_map.measured_on, str))


def _check_quality(quality: QualityScale) -> None:
    statistics = quality.statistics
    _require(_finite((statistics.mean, statistics.deviation, statistics.h)))
    _require(statistics.deviation >= 0 and statistics.h > 0)
    _require(type(quality.validated) is bool and isinstance(quality.evidence, dict))
    _require(quality.validated or isinstance(quality.because, str))
    _require(quality.source in ("checkpoint", "measured"))
    _require(quality.seen is None or _finite(quality.seen))


def _check_distribution(distribution: Distribution) -> None:
    for counts in (distribution.mated, distribution.non_mated):
        _require(len(counts) == DISTRIBUTION_BINS and all(type(count) is int and count >= 0 for count in counts))
        _require(sum(counts) > 0)


def _is_text(text: Any) -> bool:
    return isinstance(text, str) and text.isprintable() and text != ""


def _finite(numbers: Iterable[Any]) -> bool:
    return all(type(number) in (int, float) and math.isfinite(number) for number in numbers)


def _require(condition: bool) -> None:
    if not condition:
        raise ValueError("the calibration holds an invalid value")
