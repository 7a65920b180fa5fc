"""Error rates within each cohort, at the overall threshold."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.calibration import OperatingPoint
from models.evaluation.acquire.pictures import FaceTable
from models.evaluation.metrics.all_pairs import compare_all
from models.evaluation.metrics.bootstrap import Interval, rate_intervals
from models.evaluation.metrics.operating_points import binomial_interval
from models.evaluation.metrics.pair_scores import PairScores, listed_pairs
from models.evaluation.reports.document import Evaluation, Table
from models.evaluation.sets.user_pictures import Cohorts


def add_cohorts(
    evaluation: Evaluation, pairs: PairScores, faces: FaceTable, cohorts: Cohorts, points: Sequence[OperatingPoint]
) -> None:
    """Add tables of error rates within each cohort, at the threshold of the strictest operating point."""
    if not points:
        evaluation.notes.append("Cohorts were not compared: the comparisons support no operating point.")
        return
    point = points[-1]
    for attribute, values in cohorts.items():
        rows = []
        for value in sorted({cohort for cohort in values if cohort is not None}):
            inside = np.array([cohort == value for cohort in values])
            scores = _within(pairs, faces, inside)
            counts: list[Any] = [0, 0, None, "", None, ""] if scores is None else _rates(scores, point.threshold)
            rows.append((value, int(inside.sum()), *counts, _failures(faces, inside)))
        columns = (attribute, "pictures", "non-mated", "mated", "FMR", "FMR 95 %", "FNMR", "FNMR 95 %", "FTA")
        how = (
            "Intervals are from a bootstrap over the subjects of the cohort."
            if pairs.subjects is not None
            else "Intervals treat pairs as independent, because subjects are unknown, and are too narrow."
        )
        note = (
            f"Both pictures of a pair belong to the cohort. The threshold is {point.threshold:.3f}, at which the FMR "
            f"of all pairs is {point.rate:g}. FMR and FNMR are over completed comparisons; FTA is the rate of "
            f"failures to acquire a face. {how}"
        )
        evaluation.tables.append(
            Table(f"cohort_{attribute}", f"Error rates by {attribute}", columns, rows, note, anonymous=True)
        )


def _within(pairs: PairScores, faces: FaceTable, inside: NDArray[np.bool_]) -> PairScores | None:
    """Return the scores of the pairs with both pictures inside a cohort, or None without such a pair."""
    if pairs.all_pairs and pairs.subjects is not None:
        chosen = inside & faces.found
        if chosen.sum() < 2:
            return None
        return compare_all(faces.embedding[chosen], pairs.subjects[chosen], both_classes=False)
    mated, others = pairs.mated, pairs.non_mated
    same = inside[mated.first] & inside[mated.second]
    different = inside[others.first] & inside[others.second]
    if not same.any() and not different.any():
        return None
    return listed_pairs(
        np.concatenate([mated.scores[same], others.scores[different]]),
        np.concatenate([np.ones(same.sum(), np.bool_), np.zeros(different.sum(), np.bool_)]),
        np.concatenate([mated.first[same], others.first[different]]),
        np.concatenate([mated.second[same], others.second[different]]),
        pairs.subjects,
    )


def _rates(scores: PairScores, threshold: float) -> list[Any]:
    """Return the cells of one cohort: both numbers of pairs, and both rates with their intervals."""
    errors, trials, mated = scores.non_mated.errors(threshold), scores.non_mated.count, len(scores.mated.scores)
    missed = int(scores.mated.missed(threshold).sum())
    if scores.subjects is not None:
        of_errors, of_missed = rate_intervals(scores, threshold)
    else:
        of_errors = binomial_interval(errors, trials) if trials else None
        of_missed = binomial_interval(missed, mated) if mated else None
    fmr, fnmr = errors / trials if trials else None, missed / mated if mated else None
    return [trials, mated, fmr, _text(of_errors), fnmr, _text(of_missed)]


def _failures(faces: FaceTable, inside: NDArray[np.bool_]) -> float | None:
    """Return the failure-to-acquire rate within a cohort; None without a picture."""
    present = inside & faces.present
    return float((~faces.found[present]).mean()) if present.any() else None


def _text(interval: Interval | None) -> str:
    return "" if interval is None else f"{interval[0]:.2g}–{interval[1]:.2g}"
