"""What became of the photos of an enrolment, and who of its people has no template."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.evaluation.sets.user_pictures import PictureSet
from models.photo_folders import listed as listed_names
from service.cli.outcome_report import OutcomeReport
from service.cli.output import say


@dataclass(frozen=True, slots=True)
class Found:
    """A photo of the directory and its subject."""

    path: Path
    subject: str


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
        self._outcomes = OutcomeReport(file, inputs)
        self._enrolled: set[str] = set()

    @property
    def total(self) -> int:
        """Number of photos with an outcome."""
        return self._outcomes.total

    @property
    def incomplete(self) -> bool:
        """Whether photos were refused, or a folder could not be read."""
        return bool(self._outcomes.refused or self._pictures.unreadable)

    def store(self, photo: Found, outcome: str) -> None:
        """Count a photo that is stored, now (`enrolled`) or before (`duplicate`)."""
        self._outcomes.store(outcome)
        self._enrolled.add(photo.subject)

    def refuse(self, photo: Found, code: str, reason: str) -> None:
        """Count a photo that was not enrolled."""
        self._outcomes.refuse(str(photo.path), photo.subject, code, reason)

    def write(self) -> None:
        """Write the file, if one was requested.

        Raises:
            StorageFailed: The file cannot be written.
        """
        self._outcomes.write()

    def show(self) -> None:
        """Print the counts, what was refused unless it is in the file, and who gave no template."""
        self._outcomes.show()
        for note in self._pictures.notes:
            say(note)
        if unused := self._pictures.without(self._enrolled):
            number = f"{len(unused):,} people" if len(unused) > 1 else "1 person"
            say(f"{number} gave no template: {listed_names(unused)}")

    def record(self) -> dict[str, Any]:
        """Return the report for JSON."""
        without = self._pictures.without(self._enrolled)
        return {**self._outcomes.record(), "without_template": without, "notes": list(self._pictures.notes)}
