"""What became of the photos of an enrolment: counts, a table of what was refused and why, and a file of the same."""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from models.errors import StorageFailed
from models.evaluation.sets.user_pictures import PictureSet
from models.photo_folders import listed as listed_names
from service.cli.measuring import refuse_input
from service.cli.output import out, say

_MAX_SHOWN = 20  # refused photos


@dataclass(frozen=True, slots=True)
class Found:
    """A photo of the directory and its subject."""

    path: Path
    subject: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A photo that was not enrolled, with the error code and the reason."""

    path: Path
    subject: str
    code: str
    reason: str


def found_in(pictures: PictureSet, directory: Path) -> list[Found]:
    """Return the photos of a set, which lies in a directory."""
    return [
        Found(directory / picture.name, subject)
        for picture, subject in zip(pictures.pictures, pictures.subjects, strict=True)
    ]


class EnrolmentReport:
    """Counts the outcomes of an enrolment, and keeps what was refused."""

    def __init__(self, pictures: PictureSet, file: Path | None, inputs: Sequence[Path]) -> None:
        """Begin a report.

        Args:
            pictures: What is enrolled.
            file: CSV file to write. An empty report is written at once, so that a path that cannot be is known now.
            inputs: Files and directories that the command reads.

        Raises:
            StorageFailed: The file cannot be written, or is an input.
        """
        self._pictures = pictures
        self._file = file
        self._counts: Counter[str] = Counter()
        self._refused: list[Refused] = []
        self._enrolled: set[str] = set()
        if file:
            refuse_input(file, inputs)
            self.write()

    @property
    def total(self) -> int:
        """Number of photos with an outcome."""
        return self._counts.total()

    @property
    def incomplete(self) -> bool:
        """Whether photos were refused, or a folder could not be read."""
        return bool(self._refused or self._pictures.unreadable)

    def store(self, photo: Found, outcome: str) -> None:
        """Count a photo that is stored, now (`enrolled`) or before (`duplicate`)."""
        self._counts[outcome] += 1
        self._enrolled.add(photo.subject)

    def refuse(self, photo: Found, code: str, reason: str) -> None:
        """Count a photo that was not enrolled."""
        self._refused.append(Refused(photo.path, photo.subject, code, reason))
        self._counts[code] += 1

    def write(self) -> None:
        """Write the file, if one was requested.

        Raises:
            StorageFailed: The file cannot be written.
        """
        if self._file is None:
            return
        try:
            with self._file.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
                writer = csv.writer(file)
                writer.writerow(["image", "subject", "code", "reason"])
                writer.writerows((photo.path, photo.subject, photo.code, photo.reason) for photo in self._refused)
        except OSError as error:
            raise StorageFailed(f"{self._file} cannot be written: {error.strerror}") from error

    def show(self) -> None:
        """Print the counts, what was refused unless it is in the file, and who gave no template."""
        table = Table("outcome", "photos")
        for outcome in ("enrolled", "duplicate", *sorted(set(self._counts) - {"enrolled", "duplicate"})):
            table.add_row(outcome, f"{self._counts[outcome]:,}")
        out.print(table)
        if self._file is None:
            for photo in self._refused[:_MAX_SHOWN]:
                say(f"{photo.path}: {photo.reason}")
            if len(self._refused) > _MAX_SHOWN:
                say(f"… {len(self._refused) - _MAX_SHOWN} more; use --report FILE.csv to list them all")
        for note in self._pictures.notes:
            say(note)
        if unused := self._pictures.without(self._enrolled):
            number = f"{len(unused):,} people" if len(unused) > 1 else "1 person"
            say(f"{number} gave no template: {listed_names(unused)}")

    def record(self) -> dict[str, Any]:
        """Return the report for JSON."""
        refused = [
            {"image": str(photo.path), "subject": photo.subject, "code": photo.code, "detail": photo.reason}
            for photo in self._refused
        ]
        without = self._pictures.without(self._enrolled)
        notes = list(self._pictures.notes)
        return {"outcomes": dict(self._counts), "refused": refused, "without_template": without, "notes": notes}
