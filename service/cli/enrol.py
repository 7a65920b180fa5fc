"""`vultus enrol`: enrol folders of photos in a gallery. A repeated run skips enrolled photos."""

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
from models.errors import ImageTooManyBytes, ImageUnreadable, StorageFailed, VultusError
from models.evaluation.sets.user_pictures import PictureSet, read_set
from models.photo_folders import listed as listed_names
from models.photo_folders import read_photo
from models.quality import Gate
from models.serving.models import Models
from service.audit.events import enrolment_event
from service.cli.auditing import audited
from service.cli.gallery import require_or_make
from service.cli.measuring import refuse_input
from service.cli.output import out, progress_bars, say
from service.gallery.galleries import Galleries
from service.operations.acquire import Requirements
from service.operations.enrol import Enrolled, Entry
from service.operations.enrol import enrol as enrol_photos
from service.startup import open_models_and_galleries

_BATCH = 16  # photos
_CONCURRENT_BATCHES = 2  # one is decoded while the other is embedded
_SOME_REFUSED = 1  # exit status
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


def enrol(
    directory: Annotated[
        Path, typer.Argument(help="Directory with a folder of photos for each subject.", exists=True, file_okay=False)
    ],
    gallery: Annotated[str, typer.Option(help="Name of the gallery; created if it does not exist.")],
    listed: Annotated[
        Path | None,
        typer.Option(
            "--csv",
            help="CSV file with the columns `image` and `subject`, instead of folders; paths relative to DIRECTORY.",
        ),
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
        Path | None, typer.Option(help="CSV file to write, with each refused photo and the reason.")
    ] = None,
) -> None:
    """Enrol photos in a gallery.

    Photos are counted once they are stored, and a repeated run skips them. Hidden and system files, such as thumbnails
    and deleted photos, are passed over. The exit status is 1 if photos were refused or a folder could not be read.
    """
    pictures = read_set(directory, listed)
    found = [
        Found(directory / picture.name, subject)
        for picture, subject in zip(pictures.pictures, pictures.subjects, strict=True)
    ]
    requirements = Requirements(faces, min_face_px, min_norm, Gate(min_quality))
    counts: Counter[str] = Counter()
    refused: list[Refused] = []
    enrolled: set[str] = set()
    if report:
        refuse_input(report, [directory, *([listed] if listed else [])])
        _write(report, ())  # before the enrolment: an unwritable path is reported now
    with (
        open_models_and_galleries() as (galleries, models),
        audited("vultus enrol") as record,
        progress_bars() as progress,
    ):
        require_or_make(galleries, gallery)
        try:
            for batch in _enrol_batches(galleries, models, gallery, found, requirements):
                subjects, outcomes = [photo.subject for photo, _ in batch], [outcome for _, outcome in batch]
                record([enrolment_event(galleries, gallery, subjects, outcomes)])
                for photo, outcome in batch:
                    if isinstance(outcome, VultusError):
                        refused.append(Refused(photo.path, photo.subject, outcome.code, str(outcome)))
                        counts[outcome.code] += 1
                    else:
                        counts[outcome.outcome] += 1
                        enrolled.add(photo.subject)
                progress("enrolling", counts.total(), len(found))
        finally:  # also after an interrupt
            if report:
                _write(report, refused)
    _show(counts, refused, in_report=report is not None)
    _show_unused(pictures, enrolled)
    if refused or pictures.unreadable:
        raise typer.Exit(_SOME_REFUSED)


def _enrol_batches(
    galleries: Galleries, models: Models, gallery: str, found: Sequence[Found], requirements: Requirements
) -> Iterator[list[tuple[Found, Enrolled | VultusError]]]:
    """Enrol the photos in concurrent batches, and yield the outcomes of each batch in order."""
    batches = iter([found[start : start + _BATCH] for start in range(0, len(found), _BATCH)])

    def work(batch: Sequence[Found]) -> list[tuple[Found, Enrolled | VultusError]]:
        outcomes: dict[Found, Enrolled | VultusError] = {}
        entries: dict[Found, Entry] = {}
        for photo in batch:
            try:
                entries[photo] = Entry(photo.subject, read_photo(photo.path, models.pipeline.limits.max_bytes))
            except ImageTooManyBytes as error:
                outcomes[photo] = error
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                outcomes[photo] = ImageUnreadable(f"the file cannot be read: {reason}")
        enrolled = enrol_photos(galleries, models, gallery, list(entries.values()), requirements, Deadline())
        outcomes |= dict(zip(entries, enrolled, strict=True))
        return [(photo, outcomes[photo]) for photo in batch]

    with ThreadPoolExecutor(_CONCURRENT_BATCHES, thread_name_prefix="enrol") as workers:
        waiting = [workers.submit(work, batch) for batch in islice(batches, _CONCURRENT_BATCHES + 1)]
        while waiting:
            yield waiting.pop(0).result()
            waiting += [workers.submit(work, batch) for batch in islice(batches, 1)]


def _show(counts: Counter[str], refused: Sequence[Refused], in_report: bool) -> None:
    table = Table("outcome", "photos")
    for outcome in ("enrolled", "duplicate", *sorted(set(counts) - {"enrolled", "duplicate"})):
        table.add_row(outcome, f"{counts[outcome]:,}")
    out.print(table)
    for photo in refused[: 0 if in_report else _MAX_SHOWN]:
        say(f"{photo.path}: {photo.reason}")
    if len(refused) > _MAX_SHOWN and not in_report:
        say(f"… {len(refused) - _MAX_SHOWN} more; use --report FILE.csv to list them all")


def _show_unused(pictures: PictureSet, enrolled: set[str]) -> None:
    for note in pictures.notes:
        say(note)
    if unused := pictures.without(enrolled):
        number = f"{len(unused):,} people" if len(unused) > 1 else "1 person"
        say(f"{number} gave no template: {listed_names(unused)}")


def _write(report: Path, refused: Sequence[Refused]) -> None:
    try:
        with report.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "subject", "code", "reason"])
            writer.writerows((photo.path, photo.subject, photo.code, photo.reason) for photo in refused)
    except OSError as error:
        raise StorageFailed(f"{report} cannot be written: {error.strerror}") from error
