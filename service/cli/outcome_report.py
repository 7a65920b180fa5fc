"""What became of photos: counts, a table of what was refused and why, and a CSV file of the same."""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from models.errors import StorageFailed
from service.cli.measuring import refuse_input
from service.cli.output import out, say

_MAX_SHOWN = 20  # refused photos
_STORED = ("enrolled", "duplicate")


@dataclass(frozen=True, slots=True)
class Refused:
    """A photo that was not enrolled: its path or id, its subject, the error code and the reason."""

    image: str
    subject: str
    code: str
    reason: str


class OutcomeReport:
    """Counts the outcomes of photos, and keeps what was refused."""

    def __init__(self, file: Path | None, inputs: Sequence[Path] = ()) -> None:
        """Begin a report.

        Args:
            file: CSV file to write. An empty report is written at once, so that a path that cannot be is known now.
            inputs: Files and directories that the command reads.

        Raises:
            StorageFailed: The file cannot be written, or is an input.
        """
        self._file = file
        self.counts: Counter[str] = Counter()
        self.refused: list[Refused] = []
        if file:
            refuse_input(file, inputs)
            self.write()

    @property
    def total(self) -> int:
        """Number of photos with an outcome."""
        return self.counts.total()

    def store(self, outcome: str) -> None:
        """Count a photo that is stored, now (`enrolled`) or before (`duplicate`)."""
        self.counts[outcome] += 1

    def refuse(self, image: str, subject: str, code: str, reason: str) -> None:
        """Count a photo that was not enrolled."""
        self.refused.append(Refused(image, subject, code, reason))
        self.counts[code] += 1

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
                writer.writerows((photo.image, photo.subject, photo.code, photo.reason) for photo in self.refused)
        except OSError as error:
            raise StorageFailed(f"{self._file} cannot be written: {error.strerror}") from error

    def show(self) -> None:
        """Print the counts, and what was refused unless it is in the file."""
        table = Table("outcome", "photos")
        for outcome in (*_STORED, *sorted(set(self.counts) - set(_STORED))):
            table.add_row(outcome, f"{self.counts[outcome]:,}")
        out.print(table)
        if self._file is None:
            for photo in self.refused[:_MAX_SHOWN]:
                say(f"{photo.image}: {photo.reason}")
            if len(self.refused) > _MAX_SHOWN:
                say(f"… {len(self.refused) - _MAX_SHOWN} more; use --report FILE.csv to list them all")

    def record(self) -> dict[str, Any]:
        """Return the report for JSON."""
        refused = [
            {"image": photo.image, "subject": photo.subject, "code": photo.code, "detail": photo.reason}
            for photo in self.refused
        ]
        return {"outcomes": dict(self.counts), "refused": refused}
