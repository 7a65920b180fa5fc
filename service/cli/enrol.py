"""`vultus enrol`: enrol folders of photos in a gallery. A repeated run skips enrolled photos."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import typer

from models.deadline import Deadline
from models.errors import VultusError
from models.evaluation.sets.user_pictures import read_set
from models.quality import Gate
from models.serving.models import Models
from service.audit.events import enrolment_event
from service.cli.auditing import audited
from service.cli.enrol_options import Faces, IntoGallery, Listed, MinFacePx, MinNorm, MinQuality, Photos, Report
from service.cli.enrolment_report import EnrolmentReport, Found, found_in
from service.cli.gallery import require_or_make
from service.cli.output import progress_bars
from service.cli.photo_files import read_named_photo
from service.gallery.galleries import Galleries
from service.operations.acquire import Requirements
from service.operations.enrol import Enrolled, Entry
from service.operations.enrol import enrol as enrol_photos
from service.startup import open_models_and_galleries

_BATCH = 16  # photos
_CONCURRENT_BATCHES = 2  # one is decoded while the other is embedded
_SOME_REFUSED = 1  # exit status


def enrol(
    directory: Photos,
    gallery: IntoGallery,
    listed: Listed = None,
    faces: Faces = "single",
    min_face_px: MinFacePx = 0,
    min_norm: MinNorm = 0.0,
    min_quality: MinQuality = 0.0,
    report: Report = None,
) -> None:
    """Enrol photos in a gallery.

    Photos are counted once they are stored, and a repeated run skips them. Hidden and system files, such as thumbnails
    and deleted photos, are passed over. The exit status is 1 if photos were refused or a folder could not be read.
    """
    pictures = read_set(directory, listed)
    found = found_in(pictures, directory)
    requirements = Requirements(faces, min_face_px, min_norm, Gate(min_quality))
    outcomes = EnrolmentReport(pictures, report, [directory, *([listed] if listed else [])])
    with (
        open_models_and_galleries() as (galleries, models),
        audited("vultus enrol") as record,
        progress_bars() as progress,
    ):
        require_or_make(galleries, gallery)
        try:
            for batch in _enrol_batches(galleries, models, gallery, found, requirements):
                subjects = [photo.subject for photo, _ in batch]
                record([enrolment_event(galleries, gallery, subjects, [outcome for _, outcome in batch])])
                for photo, outcome in batch:
                    if isinstance(outcome, VultusError):
                        outcomes.refuse(photo, outcome.code, str(outcome))
                    else:
                        outcomes.store(photo, outcome.outcome)
                progress("enrolling", outcomes.total, len(found))
        finally:  # also after an interrupt
            outcomes.write()
    outcomes.show()
    if outcomes.incomplete:
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
                content = read_named_photo(photo.path, models.pipeline.limits.max_bytes)
                entries[photo] = Entry(photo.subject, content)
            except VultusError as error:
                outcomes[photo] = error
        enrolled = enrol_photos(galleries, models, gallery, list(entries.values()), requirements, Deadline())
        outcomes |= dict(zip(entries, enrolled, strict=True))
        return [(photo, outcomes[photo]) for photo in batch]

    with ThreadPoolExecutor(_CONCURRENT_BATCHES, thread_name_prefix="enrol") as workers:
        waiting = [workers.submit(work, batch) for batch in islice(batches, _CONCURRENT_BATCHES + 1)]
        while waiting:
            yield waiting.pop(0).result()
            waiting += [workers.submit(work, batch) for batch in islice(batches, 1)]
