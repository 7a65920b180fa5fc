"""A calibration in the form of an evaluation, so that it is shown as one."""

from typing import Any

from models.calibration import LEAST_ERRORS, Calibration
from models.calibration.records import bound_text
from models.evaluation.reports.document import Chart, Evaluation, Figure, Series, Table
from models.evaluation.reports.sections import points_table


def describe_calibration(calibration: Calibration) -> Evaluation:
    """Say what was calibrated, and how well."""
    fitted, quality, bound = calibration.score_map, calibration.quality, calibration.bound
    measured_on = calibration.points[0].measured_on
    verdict = "validated, it may gate" if quality.validated else f"NOT validated, it cannot gate: {quality.because}"
    statistics = quality.statistics
    evaluation = Evaluation("calibration", f"Calibration of {calibration.conditions.get('recognizer', 'a model')}", {})
    evaluation.conditions |= calibration.conditions
    evaluation.figures += [
        Figure("subjects", calibration.conditions.get("subjects", 0), f"measured on {measured_on}"),
        Figure(
            "bound",
            bound.fmr,
            f"above {bound.similarity:.3f}, the highest of two subjects, FMR is at most "
            f"{bound_text(bound.fmr)} (rule of 3)",
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
    evaluation.tables.append(points_table(calibration.points, "* is the default.", calibration.default))
    evaluation.charts.append(_score_map(calibration))
    kinds = {kind: found for kind, found in quality.evidence.items() if isinstance(found, dict)}
    if kinds:
        evaluation.charts.append(_discard(kinds))
        evaluation.tables.append(_kinds(kinds))
    evaluation.notes.append(
        f"Operating points rest on at least {LEAST_ERRORS} errors each. Intervals are by drawing subjects a thousand "
        "times. Between the ends of a threshold's interval the data does not tell on which side a similarity lies."
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
        "Error versus discard: real faces, and real ones with those made worse in one way",
        "share of mated comparisons discarded, lowest quality first",
        "false non-match rate (FNMR)",
        series,
    )


def _kinds(kinds: dict[str, dict[str, Any]]) -> Table:
    columns = ("faces", "Spearman", "least, 95 %", "FNMR", "with a fifth discarded", "errors")
    members = ("spearman", "spearman_least", "fnmr", "fnmr_with_a_fifth_discarded", "errors")
    rows = [(kind, *(found[member] for member in members)) for kind, found in kinds.items()]
    note = "Every kind but the first is the real faces and the same ones made worse. One pair for each subject."
    return Table("quality", "Does quality order errors?", columns, [*rows], note)
