"""The HTML report: one self-contained file without scripts or external resources, with charts as inline SVG."""

import io
from collections.abc import Sequence
from importlib import resources
from itertools import cycle
from pathlib import Path

from models.artefact.directories import write_text
from models.evaluation.reports.document import Cell, Chart, Evaluation
from models.extras import require_extra
from models.text import printable

_COLORS = ("#2563eb", "#d97706", "#059669", "#9333ea", "#dc2626", "#0891b2", "#4b5563", "#be185d")
_SIZE_INCHES = (6.4, 4.0)


def write_report(path: Path, evaluations: Sequence[Evaluation], program: str) -> None:
    """Write the report atomically.

    Args:
        path: The HTML file; an existing file is replaced, and a link is followed.
        evaluations: Evaluations to display, in order.
        program: Name and version of the program, for the footer.

    Raises:
        ExtraMissing: The packages that draw charts are not installed.
        StorageFailed: The file system refused to write the file.
    """
    require_extra("evaluate")
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"cell": cell_text, "printable": printable}
    template = environment.from_string((resources.files("models.evaluation.reports") / "report.html.jinja").read_text())
    # `Markup` is safe here: `draw` produces the SVG, and matplotlib escapes its texts.
    drawn = [{chart.name: Markup(draw(chart)) for chart in evaluation.charts} for evaluation in evaluations]
    page = template.render(evaluations=list(zip(evaluations, drawn, strict=True)), program=program)
    write_text(path, page)


def draw(chart: Chart) -> str:
    """Return a chart as an SVG element."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": chart.name, "font.family": "sans-serif"}):
        figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        for series, color in zip(chart.series, cycle(_COLORS), strict=False):
            label = series.label or None
            if chart.kind == "area":
                axes.fill_between(series.x, series.y, step="mid", alpha=0.35, color=color, label=label)
                axes.plot(series.x, series.y, drawstyle="steps-mid", color=color, linewidth=0.8)
            else:
                axes.plot(series.x, series.y, color=color, label=label)
        axes.set_xscale("log" if chart.log_x else "linear")
        axes.set_yscale("log" if chart.log_y else "linear")
        for x, y, text in chart.marks:
            axes.plot([x], [y], "o", color="#111827", markersize=4)
            axes.annotate(text, (x, y), textcoords="offset points", xytext=(6, 5), fontsize=8)
        axes.set_xlabel(chart.x_label)
        axes.set_ylabel(chart.y_label)
        axes.grid(visible=True, which="major", color="#d1d5db", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        if any(series.label for series in chart.series):
            axes.legend(frameon=False)
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None, "Title": chart.title})
    svg = written.getvalue()
    return svg[svg.index("<svg") :]


def cell_text(cell: Cell) -> str:
    """Return a table cell as text for users."""
    if cell is None:
        return "–"
    if isinstance(cell, float):
        return f"{cell:.2e}" if 0 < abs(cell) < 1e-3 else f"{cell:.4f}"
    return f"{cell:,}" if isinstance(cell, int) else printable(cell)
