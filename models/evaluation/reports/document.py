"""The document of an evaluation, in one format for the terminal, JSON and the HTML report."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from models.calibration import OperatingPoint

Cell = str | int | float | None


class NamingNote(str):
    """A sentence for users that may name people, files or places."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Figure:
    """A key number of an evaluation.

    Attributes:
        name: Machine-readable name.
        value: Measured value.
        text: Text for users, with value, unit and context; empty if the figure is not displayed.
    """

    name: str
    value: float
    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table of an evaluation.

    Attributes:
        name: Machine-readable name.
        title: Title for users.
        columns: Column heads.
        rows: Cells by row; numbers are not rounded.
        note: Explanation that a reader needs.
        detail: Whether the terminal leaves the table out.
        anonymous: Whether no row names people or files, so that the table may be kept.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]]
    note: str = ""
    detail: bool = False
    anonymous: bool = False


@dataclass(frozen=True, slots=True)
class Series:
    """One line or area of a chart; `x` and `y` have the same length."""

    label: str
    x: list[float]
    y: list[float]


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart of an evaluation.

    Attributes:
        name: Machine-readable name.
        title, x_label, y_label: Texts for users; error rates have their ISO/IEC 19795-1 names.
        series: Lines or areas.
        kind: `line`, or `area` for histograms.
        log_x, log_y: Whether the axis is logarithmic.
        marks: (x, y, label) of marked points, such as operating points.
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
    """The measurements of one run of one protocol.

    Attributes:
        protocol: Machine-readable name of the protocol.
        title: Title for users, with the name of the set.
        conditions: Conditions of the measurement: model, contract, engine, precision, detector, policy.
        figures, tables, charts: Measurements to display.
        points: Operating points.
        notes: Sentences for users that explain the numbers or limit their use.
    """

    protocol: str
    title: str
    conditions: dict[str, Any]
    figures: list[Figure] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    points: list[OperatingPoint] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def without_names(self) -> "Evaluation":
        """Return the evaluation without tables and sentences that may name people or files."""
        return replace(
            self,
            tables=[table for table in self.tables if table.anonymous],
            notes=[note for note in self.notes if not isinstance(note, NamingNote)],
        )

    def record(self) -> dict[str, Any]:
        """Return the evaluation as a dictionary of JSON-serialisable values."""
        return asdict(self)
