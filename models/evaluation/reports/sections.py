"""Report sections that several protocols share."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.calibration import MIN_ERRORS, OperatingPoint
from models.errors import ImageMissing
from models.evaluation.acquire.pictures import Failure, duplicate_files
from models.evaluation.metrics.discard import discard_curve, rank_correlation
from models.evaluation.metrics.operating_points import operating_points, unsupported_rate_notes
from models.evaluation.metrics.pair_scores import PairScores
from models.evaluation.metrics.verification import FoldAccuracy
from models.evaluation.reports.charts import error_charts, histogram_chart
from models.evaluation.reports.document import Chart, Evaluation, Figure, NamingNote, Series, Table
from models.evaluation.sets.user_pictures import PictureSet
from models.photo_folders import listed

_WORST = 20
_NOTABLE = 5  # times the share of a subject if all had equally many mated comparisons

Names = Sequence[str]


def add_acquisition(evaluation: Evaluation, names: Names, failures: Sequence[Failure]) -> None:
    """Add the failure-to-acquire rate, and the pictures that failed or are missing."""
    missing = sum(failure.code == ImageMissing.code for failure in failures)
    present = len(names) - missing
    failed = len(failures) - missing
    rate = failed / present if present else 0.0
    evaluation.figures += [
        Figure("pictures", present, f"{present:,} pictures"),
        Figure("failure_to_acquire", rate, f"failure to acquire: {failed:,} of {present:,} pictures (FTA {rate:.2%})"),
    ]
    if missing:
        evaluation.figures.append(Figure("missing", missing, f"{missing:,} pictures of the set are missing"))
    if failures:
        rows: list[tuple[str, str, str]] = [(failure.name, failure.code, failure.reason) for failure in failures]
        title = "Failures to acquire and missing pictures"
        evaluation.tables.append(Table("failures", title, ("picture", "code", "reason"), [*rows]))


def add_duplicates(
    evaluation: Evaluation, names: Names, contents: Sequence[bytes | None], subjects: Sequence[str] | None
) -> None:
    """Add the files that occur under several names, because their mated pairs have similarities of 1."""
    groups = duplicate_files(contents)
    if not groups:
        return
    across = sum(subjects is not None and len({subjects[index] for index in group}) > 1 for group in groups)
    repeated = sum(len(group) - 1 for group in groups)
    rows = [(names[group[0]], ", ".join(names[index] for index in group[1:])) for group in groups]
    evaluation.figures.append(Figure("duplicates", repeated, f"{repeated:,} duplicate pictures"))
    evaluation.tables.append(Table("duplicates", "Duplicate pictures", ("picture", "duplicates"), [*rows]))
    evaluation.notes.append(
        f"Duplicate pictures: {repeated:,}. Mated pairs of duplicates have similarities of 1.0, which lowers FNMR."
        + (f" Files under several subjects, which count as false matches: {across:,}." if across else "")
    )


def add_reading(evaluation: Evaluation, pictures: PictureSet, found: NDArray[np.bool_]) -> None:
    """Add what was passed over while the pictures were read, and the subjects without a face.

    Args:
        evaluation: The evaluation to extend.
        pictures: The pictures as read.
        found: (N,) bool, whether a picture has a face.
    """
    evaluation.notes += map(NamingNote, pictures.notes)
    if unused := pictures.without(pictures.where(found).subjects):
        number = f"{len(unused):,} subjects" if len(unused) > 1 else "1 subject"
        evaluation.notes.append(NamingNote(f"{number} gave no face: {listed(unused)}"))


def add_accuracy(evaluation: Evaluation, accuracy: FoldAccuracy) -> None:
    """Add 10-fold accuracy."""
    text = f"10-fold accuracy {accuracy.mean:.2%} ± {accuracy.deviation:.2%}"
    evaluation.figures += [
        Figure("accuracy", accuracy.mean, text),
        Figure("accuracy_deviation", accuracy.deviation, ""),
    ]
    rows = [
        (fold, share, threshold)
        for fold, (share, threshold) in enumerate(zip(accuracy.folds, accuracy.thresholds, strict=True), start=1)
    ]
    columns = ("fold", "accuracy", "best squared distance on the other folds")
    evaluation.tables.append(Table("folds", "Accuracy by fold", columns, [*rows], detail=True, anonymous=True))


def add_error_rates(evaluation: Evaluation, pairs: PairScores, measured_on: str) -> list[OperatingPoint]:
    """Add counts, operating points, histogram, DET and ROC."""
    mated, others = len(pairs.mated.scores), pairs.non_mated.count
    evaluation.figures += [
        Figure("mated", mated, f"{mated:,} mated comparisons"),
        Figure("non_mated", others, f"{others:,} non-mated comparisons"),
        *_incomplete_figures(pairs),
        *_share_figures(pairs),
    ]
    points = operating_points(pairs, measured_on)
    evaluation.points = points
    how = "bootstrap over subjects" if pairs.subjects is not None else "exact binomial, because subjects are unknown"
    evaluation.tables += [points_table(points, f"95 % confidence intervals: {how}."), weighting_table(points)]
    evaluation.notes += unsupported_rate_notes(pairs, points)
    evaluation.charts += [histogram_chart(pairs), *error_charts(pairs, points)]
    return points


def points_table(points: Sequence[OperatingPoint], note: str, default: str | None = None) -> Table:
    """Return the table of operating points, with a mark at the default one."""
    rows = [
        (
            point.name + (" *" if point.name == default else ""),
            point.threshold,
            _interval(point.threshold_interval, ".3f"),
            point.errors,
            _interval(point.interval, ".2g"),
            point.fnmr,
            _interval(point.fnmr_interval, ".4f"),
        )
        for point in points
    ]
    columns = ("point", "threshold", "threshold 95 %", "false matches", "FMR 95 %", "FNMR", "FNMR 95 %")
    note = f"{note} FMR and FNMR are over completed comparisons."
    return Table("points", "Operating points", columns, [*rows], note, anonymous=True)


def weighting_table(points: Sequence[OperatingPoint]) -> Table:
    """Return the table of FNMR by weight of the subjects, and of the rates that include failures to acquire."""
    rows = [
        (
            point.name,
            point.fnmr,
            point.fnmr_by_subject,
            _interval(point.fnmr_by_subject_interval, ".4f") if point.fnmr_by_subject_interval else "",
            point.gfar,
            point.gfrr,
        )
        for point in points
    ]
    columns = ("point", "FNMR", "FNMR by subject", "FNMR by subject 95 %", "GFAR", "GFRR")
    note = (
        "In FNMR each mated pair counts the same, so a subject with many pictures dominates; by subject, each subject "
        "counts the same. GFAR and GFRR are over attempted comparisons: one with a face that was not acquired is "
        "rejected."
    )
    return Table("weighting", "Weight of the subjects, and failures to acquire", columns, [*rows], note, anonymous=True)


def _incomplete_figures(pairs: PairScores) -> list[Figure]:
    counts = {"mated": pairs.mated.incomplete, "non_mated": pairs.non_mated.incomplete}
    return [
        Figure(
            f"incomplete_{kind}",
            count,
            f"{count:,} {kind.replace('_', '-')} comparisons not completed, because a face was not acquired",
        )
        for kind, count in counts.items()
        if count
    ]


def _share_figures(pairs: PairScores) -> list[Figure]:
    """Return the share of the mated pairs that the subject with the most of them supplies."""
    if pairs.subjects is None or not len(pairs.mated.first):
        return []
    counts = np.unique(pairs.subjects[pairs.mated.first], return_counts=True)[1]
    share = float(counts.max() / counts.sum())
    text = f"one of {len(counts):,} subjects supplies {share:.0%} of the mated comparisons; see FNMR by subject"
    return [Figure("largest_share", share, text if share > _NOTABLE / len(counts) else "")]


def add_mistakes(evaluation: Evaluation, pairs: PairScores, names: Names) -> None:
    """Add the most similar non-mated and the least similar mated pairs, by file name only."""
    lowest = np.argsort(pairs.mated.scores, kind="stable")[:_WORST]
    mated, others = pairs.mated, pairs.non_mated
    columns = ("similarity", "first", "second")
    evaluation.tables += [
        Table(
            "closest_non_mated",
            "Most similar non-mated pairs",
            columns,
            [
                (float(score), names[first], names[second])
                for score, first, second in zip(
                    others.scores[:_WORST], others.first[:_WORST], others.second[:_WORST], strict=True
                )
            ],
            "Check these pairs first: one person under two subject names counts as a false match.",
        ),
        Table(
            "farthest_mated",
            "Least similar mated pairs",
            columns,
            [(float(mated.scores[index]), names[mated.first[index]], names[mated.second[index]]) for index in lowest],
        ),
    ]


def add_discard(
    evaluation: Evaluation, pairs: PairScores, norms: NDArray[np.float32], points: Sequence[OperatingPoint]
) -> None:
    """Add the error-versus-discard chart of the norm, and the correlation of norm and mated similarity."""
    quality = np.minimum(norms[pairs.mated.first], norms[pairs.mated.second])
    known = np.isfinite(quality)
    if known.sum() < MIN_ERRORS or not points:
        return
    quality, scores = quality[known], pairs.mated.scores[known]
    spearman = rank_correlation(quality, scores)
    evaluation.figures.append(
        Figure("norm_spearman", spearman, f"Spearman's correlation of norm and mated similarity: {spearman:.3f}")
    )
    series = []
    for point in points:
        if (scores < np.float32(point.threshold)).any():
            curve = discard_curve(quality, scores, point.threshold)
            series.append(Series(point.name, curve.discarded, curve.fnmr))
    if not series:  # without an error every curve is 0
        return
    evaluation.charts.append(
        Chart(
            "error_versus_discard",
            "Error versus discard, lowest norm first",
            "proportion of mated comparisons discarded",
            "false non-match rate (FNMR)",
            series,
        )
    )


def _interval(ends: tuple[float, float], form: str) -> str:
    return f"{ends[0]:{form}}–{ends[1]:{form}}"
