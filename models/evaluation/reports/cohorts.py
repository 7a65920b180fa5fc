"""Error rates within each cohort, at the overall threshold."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.calibration import OperatingPoint
from models.evaluation.acquire.pictures import FaceTable
from models.evaluation.metrics.all_pairs import compare_all
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
            row: list[Any] = [value, int(inside.sum())]
            if scores is None:
                rows.append((*row, 0, 0, None, "", None, ""))
                continue
            errors, trials = scores.non_mated.errors(point.threshold), scores.non_mated.count
            missed = int((scores.mated.scores < np.float32(point.threshold)).sum())
            row += [trials, len(scores.mated.scores)]
            row += [errors / trials if trials else None, _binomial(errors, trials)]
            row += [missed / len(scores.mated.scores) if len(scores.mated.scores) else None]
            rows.append((*row, _binomial(missed, len(scores.mated.scores))))
        columns = (attribute, "pictures", "non-mated", "mated", "FMR", "FMR 95 %", "FNMR", "FNMR 95 %")
        note = (
            f"Both pictures of a pair belong to the cohort. The threshold is {point.threshold:.3f}, at which the FMR "
            f"of all pairs is {point.rate:g}. Intervals treat pairs as independent and are too narrow."
        )
        evaluation.tables.append(Table(f"cohort_{attribute}", f"Error rates by {attribute}", columns, rows, note))


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
    )


def _binomial(errors: int, trials: int) -> str:
    if not trials:
        return ""
    low, high = binomial_interval(errors, trials)
    return f"{low:.2g}–{high:.2g}"
