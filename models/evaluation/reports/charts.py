"""Charts of pair comparisons: similarity histogram, DET and ROC."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.calibration import OperatingPoint
from models.evaluation.metrics.pair_scores import BINS, EDGES, PairScores, bins_of
from models.evaluation.reports.document import Chart, Series

_BARS = 200
_CURVE = 240


def histogram_chart(pairs: PairScores) -> Chart:
    """Return the histogram of mated and of non-mated similarities."""
    width = BINS // _BARS + 1
    begin = np.arange(0, BINS, width)
    middle = ((EDGES[begin] + EDGES[np.minimum(begin + width, BINS)]) / 2).tolist()
    counts = (
        ("non-mated", pairs.non_mated.histogram),
        ("mated", np.bincount(bins_of(pairs.mated.scores), minlength=BINS)),
    )
    series = [
        Series(label, middle, (np.add.reduceat(count, begin) / max(1, count.sum())).tolist()) for label, count in counts
    ]
    title, y_label = "Similarity distributions", "proportion of comparisons"
    return Chart("histogram", title, "similarity (cosine)", y_label, series, kind="area")


def error_charts(pairs: PairScores, points: Sequence[OperatingPoint]) -> list[Chart]:
    """Return the DET and ROC charts with marks at the operating points; a chart without a point is left out."""
    thresholds = _thresholds(pairs)
    ascending = np.sort(pairs.mated.scores)
    fmr = np.array([pairs.non_mated.fmr(threshold) for threshold in thresholds])
    fnmr = np.searchsorted(ascending, thresholds.astype(np.float32), side="left") / len(ascending)
    drawn = (fmr > 0) & (fnmr > 0)
    det = Series("", fmr[drawn].tolist(), fnmr[drawn].tolist())
    roc = Series("", fmr[fmr > 0].tolist(), (1 - fnmr[fmr > 0]).tolist())
    named = [(point.rate, point.fnmr, point.name) for point in points]
    charts = [
        Chart(
            "det",
            "Detection error trade-off (DET)",
            "false match rate (FMR)",
            "false non-match rate (FNMR)",
            [det],
            log_x=True,
            log_y=True,
            marks=[mark for mark in named if mark[1] > 0],
        ),
        Chart(
            "roc",
            "Receiver operating characteristic (ROC)",
            "false match rate (FMR)",
            "true match rate (1 - FNMR)",
            [roc],
            log_x=True,
            marks=[(rate, 1 - missed, name) for rate, missed, name in named],
        ),
    ]
    return [chart for chart in charts if any(series.x for series in chart.series)]


def _thresholds(pairs: PairScores) -> NDArray[np.float64]:
    """Return the thresholds of a curve.

    They are spread evenly over the decades of FMR in the stored tail of non-mated similarities, evenly over similarity,
    and evenly over the quantiles of the mated similarities.
    """
    scores = pairs.non_mated.scores
    ranks = np.unique(np.geomspace(1, len(scores), _CURVE).astype(int)) - 1
    even = EDGES[:: BINS // _CURVE]
    mated = np.quantile(pairs.mated.scores, np.linspace(0, 1, _CURVE))
    return np.unique(np.concatenate([scores[ranks].astype(np.float64), even, mated]))
