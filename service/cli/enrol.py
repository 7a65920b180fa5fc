"""`vultus enrol`: enrol folders of photos in a gallery. A repeated run skips what is enrolled."""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from models.deadline import Deadline
from models.errors import ImageUnreadable, StorageFailed, VultusError
from models.evaluation.sets.user_pictures import read_set
from models.quality import Gate
from models.serving.models import Models
from service.cli.gallery import require_or_make
from service.cli.output import out, progress_bars, say
from service.gallery.galleries import Galleries
from service.operations.acquire import Requirements
from service.operations.enrol import Enrolled, Entry
from service.operations.enrol import enrol as enrol_photos
from service.startup import open_models_and_galleries

_BATCH = 16
_SIDE_BY_SIDE = 2  # batches; while one is embedded the other is decoded
_SOME_REFUSED = 1
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Found:
    """A photo and its subject."""

    path: Path
    subject: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A photo that was not enrolled, and why."""

    path: Path
    subject: str
    code: str
    reason: str


def enrol(
    directory: Annotated[
        Path, typer.Argument(help="A folder for each subject, with photos in it.", exists=True, file_okay=False)
    ],
    gallery: Annotated[str, typer.Option(help="Name of the gallery; created if it does not exist.")],
    listed: Annotated[
        Path | None,
        typer.Option("--csv", help="Columns `image` and `subject` instead of folders; paths relative to DIRECTORY."),
    ] = None,
    faces: Annotated[
        Literal["single", "largest", "central"], typer.Option(help="Which face to enrol if a photo has several.")
    ] = "single",
    min_face_px: Annotated[
        int, typer.Option(min=0, help="Minimum length of the shorter side of a face box in pixels.")
    ] = 0,
    min_norm: Annotated[float, typer.Option(min=0, help="Minimum norm of an embedding.")] = 0.0,
    min_quality: Annotated[
        float, typer.Option(min=0, max=100, help="Minimum quality; requires a validated quality map.")
    ] = 0.0,
    report: Annotated[
        Path | None, typer.Option(help="CSV file to write, with the refused photos and the reasons.")
    ] = None,
) -> None:
    """Enrol photos in a gallery. Each batch is stored before it is counted. Status 1 if photos were refused."""
    pictures = read_set(directory, listed)
    found = [
        Found(directory / one.name, subject) for one, subject in zip(pictures.pictures, pictures.subjects, strict=True)
    ]
    requirements = Requirements(faces, min_face_px, min_norm, Gate(min_quality))
    counts: Counter[str] = Counter()
    refused: list[Refused] = []
    if report:
        _write(report, ())  # before the work: an unwritable path is reported now
    with open_models_and_galleries() as (galleries, models), progress_bars() as progress:
        require_or_make(galleries, gallery)
        try:
            for batch in _dealt_with(galleries, models, gallery, found, requirements):
                for one, outcome in batch:
                    if isinstance(outcome, VultusError):
                        refused.append(Refused(one.path, one.subject, outcome.code, str(outcome)))
                        counts[outcome.code] += 1
                    else:
                        counts[outcome.outcome] += 1
                progress("enrolling", counts.total(), len(found))
        finally:  # also after an interrupt
            if report:
                _write(report, refused)
    _show(counts, refused, listed_elsewhere=report is not None)
    if refused:
        raise typer.Exit(_SOME_REFUSED)


def _dealt_with(
    galleries: Galleries, models: Models, gallery: str, found: Sequence[Found], requirements: Requirements
) -> Iterator[list[tuple[Found, Enrolled | VultusError]]]:
    """Enrol batch by batch, some side by side."""
    batches = iter([found[start : start + _BATCH] for start in range(0, len(found), _BATCH)])

    def work(batch: Sequence[Found]) -> list[tuple[Found, Enrolled | VultusError]]:
        outcomes: dict[Found, Enrolled | VultusError] = {}
        entries: dict[Found, Entry] = {}
        for one in batch:
            try:
                entries[one] = Entry(one.subject, one.path.read_bytes())
            except (OSError, ValueError) as error:  # the latter of a name that no file can have
                why = getattr(error, "strerror", None) or error
                outcomes[one] = ImageUnreadable(f"the file cannot be read: {why}")
        enrolled = enrol_photos(galleries, models, gallery, list(entries.values()), requirements, Deadline())
        outcomes |= dict(zip(entries, enrolled, strict=True))
        return [(one, outcomes[one]) for one in batch]

    with ThreadPoolExecutor(_SIDE_BY_SIDE, thread_name_prefix="enrol") as workers:
        waiting = [workers.submit(work, batch) for batch in islice(batches, _SIDE_BY_SIDE + 1)]
        while waiting:
            yield waiting.pop(0).result()
            waiting += [workers.submit(work, batch) for batch in islice(batches, 1)]


def _show(counts: Counter[str], refused: Sequence[Refused], listed_elsewhere: bool) -> None:
    table = Table("outcome", "photos")
    for outcome in ("enrolled", "duplicate", *sorted(set(counts) - {"enrolled", "duplicate"})):
        table.add_row(outcome, f"{counts[outcome]:,}")
    out.print(table)
    for one in refused[: 0 if listed_elsewhere else _SHOWN]:
        say(f"{one.path}: {one.reason}")
    if len(refused) > _SHOWN and not listed_elsewhere:
        say(f"… {len(refused) - _SHOWN} more; --report FILE.csv has them all")


def _write(report: Path, refused: Sequence[Refused]) -> None:
    try:
        with report.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "subject", "code", "reason"])
            writer.writerows((one.path, one.subject, one.code, one.reason) for one in refused)
    except OSError as error:
        raise StorageFailed(f"{report} cannot be written: {error.strerror}") from error
