"""`vultus remote enrol`: enrol folders of photos through a running service. A repeated run skips enrolled photos."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from models.errors import VultusError
from models.evaluation.sets.user_pictures import read_set
from service.cli.enrol_options import Faces, IntoGallery, Listed, MinFacePx, MinNorm, MinQuality, Photos, Report
from service.cli.enrolment_report import EnrolmentReport, Found, found_in
from service.cli.output import out, progress_bars
from service.cli.photo_files import read_named_photo
from service.cli.remote_service import MAX_PHOTO_BYTES, KeyFile, Url, connected
from service.client import Client, Content, VultusProblem
from service.client.schemas import EnrolOptions

_SOME_REFUSED = 1  # exit status
_EXISTS = "gallery_exists"


def enrol(
    directory: Photos,
    gallery: IntoGallery,
    listed: Listed = None,
    faces: Faces = "single",
    min_face_px: MinFacePx = 0,
    min_norm: MinNorm = 0.0,
    min_quality: MinQuality = 0.0,
    report: Report = None,
    at_once: Annotated[int, typer.Option(min=1, max=64, help="Maximum number of photos on their way.")] = 4,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """Enrol photos in a gallery of a running service.

    Photos are counted once they are stored, and a repeated run skips them. Hidden and system files, such as thumbnails
    and deleted photos, are passed over. The exit status is 1 if photos were refused or a folder could not be read.
    """
    pictures = read_set(directory, listed)
    found = found_in(pictures, directory)
    options: EnrolOptions = {
        "faces": faces,
        "min_face_px": min_face_px,
        "min_norm": min_norm,
        "min_quality": min_quality,
    }
    outcomes = EnrolmentReport(pictures, report, [directory, *([listed] if listed else [])])
    with connected(url, key_file) as client, progress_bars() as progress:
        _require_gallery(client, gallery)
        try:
            for _ in _enrol_all(client, gallery, found, options, at_once, outcomes):
                progress("enrolling", outcomes.total, len(found))
        finally:  # also after an interrupt, or if the service ends
            outcomes.write()
    if as_json:
        out.print_json(data=outcomes.record())
    else:
        outcomes.show()
    if outcomes.incomplete:
        raise typer.Exit(_SOME_REFUSED)


def _require_gallery(client: Client, gallery: str) -> None:
    """Create a gallery unless it exists."""
    try:
        client.create_gallery(gallery)
    except VultusProblem as error:
        if error.code != _EXISTS:
            raise


def _enrol_all(
    client: Client,
    gallery: str,
    found: Sequence[Found],
    options: EnrolOptions,
    at_once: int,
    outcomes: EnrolmentReport,
) -> Iterator[None]:
    """Enrol photos, report their outcomes, and yield after each answer."""
    sent: deque[Found] = deque()

    def entries() -> Iterator[tuple[str, Content]]:
        for photo in found:
            try:
                content = read_named_photo(photo.path, MAX_PHOTO_BYTES)
            except VultusError as error:
                outcomes.refuse(photo, error.code, str(error))
                continue
            sent.append(photo)
            yield photo.subject, content

    for _, item in client.enrol_many(gallery, entries(), at_once=at_once, **options):
        photo = sent.popleft()  # answers have the order of the entries
        if item.problem is not None:
            outcomes.refuse(photo, item.problem.code, item.problem.detail)
        else:
            outcomes.store(photo, item.status)
        yield
