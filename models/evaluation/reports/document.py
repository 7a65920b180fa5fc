"""What an evaluation says, in one form for the terminal, for JSON and for the report."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from models.calibration import OperatingPoint

Cell = str | int | float | None


def printable(text: str) -> str:
    """Write a text that may hold names of files so that no terminal or page is harmed by it."""
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in text)


@dataclass(frozen=True, slots=True)
class Figure:
    """A number that matters.

    Attributes:
        name: Machine-readable.
        value: As measured.
        text: For people, with its unit and what belongs to it.
    """

    name: str
    value: float
    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under columns.

    Attributes:
        name: Machine-readable.
        title: For people.
        columns: Their heads.
        rows: Cells; numbers as measured.
        note: What must be known to read it.
        detail: Whether it is too much for a terminal.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]]
    note: str = ""
    detail: bool = False


@dataclass(frozen=True, slots=True)
class Series:
    """A line of a chart."""

    label: str
    x: list[float]
    y: list[float]


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture of numbers.

    Attributes:
        name: Machine-readable.
        title, x_label, y_label: For people; error rates have their ISO/IEC 19795-1 names.
        series: The lines.
        kind: `line`, or `area` for histograms.
        log_x, log_y: Whether an axis is logarithmic.
        marks: (x, y, label) of points on it, such as operating points.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    series: list[Series]
    kind: Literal["line", "area"] = "line"
    log_x: bool = False
    log_y: bool = False
    marks: list[tuple[float, float, str]] = field(default_factory=list)


@dataclass(slots=True)
class Evaluation:
    """All that was measured in one run of one protocol.

    Attributes:
        protocol: Machine-readable name.
        title: For people, with the name of the set.
        conditions: Model, contract, engine, precision, detector, policy.
        figures, tables, charts: What was measured.
        points: Operating points, as measured.
        notes: Sentences for people: what the numbers do not say.
    """

    protocol: str
    title: str
    conditions: dict[str, Any]
    figures: list[Figure] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    points: list[OperatingPoint] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return asdict(self)
