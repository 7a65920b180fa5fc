"""The report of a calibration, in the document format of evaluations."""

from typing import Any

from models.calibration import MIN_ERRORS, Calibration
from models.calibration.records import bound_text
from models.evaluation.reports.document import Chart, Evaluation, Figure, Series, Table
from models.evaluation.reports.sections import points_table, weighting_table


def describe_calibration(calibration: Calibration) -> Evaluation:
    """Return the report of a calibration: operating points, score map and quality."""
    fitted, quality, bound = calibration.score_map, calibration.quality, calibration.bound
    measured_on = calibration.points[0].measured_on
    verdict = "validated, may gate" if quality.validated else f"NOT validated, cannot gate: {quality.because}"
    statistics, strictest = quality.statistics, calibration.points[-1]
    evaluation = Evaluation("calibration", f"Calibration of {calibration.conditions.get('recognizer', 'a model')}", {})
    evaluation.conditions |= calibration.conditions
    evaluation.figures += [
        Figure("subjects", calibration.conditions.get("subjects", 0), f"measured on {measured_on}"),
        Figure(
            "bound",
            bound.fmr,
            f"above {bound.similarity:.3f}, the highest non-mated similarity, FMR is at most "
            f"{bound_text(bound.fmr)} (rule of 3 over disjoint pairs of subjects, however the errors are spread; "
            f"if these subjects are typical, {bound_text(strictest.interval[1])} by the interval of {strictest.name})",
        ),
        Figure(
            "cost",
            fitted.cost,
            f"score map: {fitted.method}, {fitted.cost:.4f} bits on held-out subjects (the best monotone map "
            f"{fitted.least_cost:.4f}), calibration error {fitted.calibration_error:.4f}",
        ),
        Figure(
            "quality",
            float(quality.validated),
            f"quality: norm {statistics.mean:.2f} ± {statistics.deviation:.2f} ({quality.source}); {verdict}",
        ),
    ]
    evaluation.points = list(calibration.points)
    evaluation.tables.append(points_table(calibration.points, "* marks the default point.", calibration.default))
    evaluation.tables.append(weighting_table(calibration.points))
    evaluation.charts.append(_score_map(calibration))
    kinds = {kind: found for kind, found in quality.evidence.items() if isinstance(found, dict)}
    if kinds:
        evaluation.charts.append(_discard(kinds))
        evaluation.tables.append(_quality(kinds))
    evaluation.notes.append(
        f"Each operating point rests on at least {MIN_ERRORS} false matches. Confidence intervals are from 1,000 "
        "bootstrap replicates over subjects. Within the confidence interval of a threshold, the data does not "
        "determine on which side of the threshold a similarity lies."
    )
    return evaluation


def _score_map(calibration: Calibration) -> Chart:
    similarities, ratios = zip(*calibration.score_map.knots, strict=True)
    first, last = min(-1.0, similarities[0]), max(1.0, similarities[-1])
    return Chart(
        "score_map",
        "Log-likelihood ratio",
        "similarity (cosine)",
        "log-likelihood ratio (natural)",
        [Series("", [first, *similarities, last], [ratios[0], *ratios, ratios[-1]])],
        marks=[
            (point.threshold, calibration.score_map.log_likelihood_ratio(point.threshold), point.name)
            for point in calibration.points
        ],
    )


def _discard(kinds: dict[str, dict[str, Any]]) -> Chart:
    series = []
    for kind, found in kinds.items():
        series.append(Series(kind, found["curve"]["discarded"], found["curve"]["fnmr"]))
    return Chart(
        "error_versus_discard",
        "Error versus discard: real faces, alone and together with each kind of degraded faces",
        "proportion of mated comparisons discarded, lowest quality first",
        "false non-match rate (FNMR)",
        series,
    )


def _quality(kinds: dict[str, dict[str, Any]]) -> Table:
    columns = ("faces", "Spearman", "lower 95 % bound", "FNMR", "FNMR, lowest fifth discarded", "false non-matches")
    members = ("spearman", "spearman_least", "fnmr", "fnmr_with_a_fifth_discarded", "errors")
    rows = [(kind, *(found[member] for member in members)) for kind, found in kinds.items()]
    note = "Each row after the first adds the same pairs with degraded probes. Each subject has one pair of each kind."
    return Table("quality", "Validation of quality", columns, [*rows], note, anonymous=True)
