"""The table of the faces that were searched for, and the sentence on the operating point."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from rich.markup import escape
from rich.table import Table

from models.calibration.records import bound_text
from models.text import printable
from service.cli.output import out


class Candidate(Protocol):
    """A subject that a face resembles."""

    @property
    def gallery(self) -> str:
        """Name of the gallery."""

    @property
    def subject(self) -> str:
        """Name of the subject."""

    @property
    def similarity(self) -> float:
        """Similarity of the face and the subject."""


class FaceTable:
    """A table with a row for each face."""

    def __init__(self) -> None:
        """Begin an empty table."""
        self._table = Table("photo", "face: x1 y1 x2 y2", "subject", "similarity")
        for column in self._table.columns:
            column.overflow = "fold"  # names must not be truncated

    def add_failure(self, photo: Path, reason: str) -> None:
        """Add a photo that could not be used."""
        self._table.add_row(escape(printable(photo.name)), "", escape(printable(reason)), "")

    def add_photo_without_face(self, photo: Path) -> None:
        """Add a photo in which no face was found."""
        self._table.add_row(escape(printable(photo.name)), "no face", "", "")

    def add_face(
        self, photo: Path, box: Sequence[float] | None, refusal: str | None, candidates: Sequence[Candidate]
    ) -> None:
        """Add a face.

        Args:
            photo: Path of its photo.
            box: Corners x1, y1, x2, y2 in pixels, if it has any.
            refusal: Code of the reason for which the face was not searched for, if there is one.
            candidates: Subjects that it resembles.
        """
        self._table.add_row(
            escape(printable(photo.name)),
            " ".join(f"{edge:4.0f}" for edge in box or ()),
            escape(
                "\n".join(f"{candidate.gallery}/{candidate.subject}" for candidate in candidates)
                or (f"rejected: {refusal}" if refusal else "unknown")
            ),
            "\n".join(f"{candidate.similarity:.3f}" for candidate in candidates),
        )

    def show(self) -> None:
        """Print the table."""
        out.print(self._table)


def show_operating_point(name: str, threshold: float, measured_on: str, comparisons: int, bound: float) -> None:
    """Print what a candidate requires, and how often a stranger has one.

    Args:
        name: Name of the operating point.
        threshold: Its minimum similarity.
        measured_on: The data on which it was measured.
        comparisons: Number of comparisons for each face.
        bound: Upper bound of the false positive identification rate.
    """
    out.print(
        f"A candidate requires a similarity of at least {threshold:.3f} (operating point {name}). "
        f"Comparisons for each face: {comparisons:,}. A person who is not enrolled has a candidate in "
        f"up to {_percent(bound)} of cases (measured on {measured_on}).",
        highlight=False,
        soft_wrap=True,
    )


def _percent(bound: float) -> str:
    """Format an upper bound as a percentage; a bound above 0 is never formatted as 0."""
    percent = 100 * bound
    return f"{percent:.1f}%" if percent >= 1 else f"{bound_text(percent)}%"
