"""Photos and embeddings into a gallery: each has an outcome, and what is there already costs no inference."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from models.assembly import Models
from models.errors import LowQuality, VultusError
from models.job import Job
from models.pipeline import EmbeddedFace
from models.quality import Assessment
from service.acquisition import Acquired, Requirements, acquire, image_source, judged
from service.errors import DuplicateOfAnother
from service.gallery.administration import read_gallery
from service.gallery.enrolment import enrol, known_sources
from service.gallery.galleries import Galleries
from service.gallery.names import clean_name
from service.gallery.records import NewTemplate, Stored


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """What is to be enrolled: an image file, or a template that was made before."""

    subject: str
    content: bytes | NewTemplate


@dataclass(frozen=True, slots=True, eq=False)
class Enrolled:
    """What is in the gallery now, or was before.

    Attributes:
        outcome: `duplicate` if it was.
        template: Its key.
        face: That was found, where one was looked for.
        norm: Of its embedding.
        assessment: Of the face.
    """

    outcome: Literal["enrolled", "duplicate"]
    template: int
    face: EmbeddedFace | None = None
    norm: float | None = None
    assessment: Assessment | None = None


def enrol_entries(
    galleries: Galleries,
    models: Models,
    gallery: str,
    entries: Sequence[Entry],
    requirements: Requirements,
    job: Job,
) -> list[Enrolled | VultusError]:
    """Enrol photos and templates in one transaction.

    Args:
        galleries: Where.
        models: What detects, embeds and judges.
        gallery: Its name.
        entries: What; subjects that are not there are made.
        requirements: What photos must keep to.
        job: Whose work it is; told what was spent.

    Returns:
        What became of each, in order: enrolled, there already, or why not.

    Raises:
        GalleryUnknown, ContractMismatch: The gallery cannot take them.
        StorageFull, StoreFailed: Nothing was stored.
        CalibrationUnfit, QualityUnvalidated: Faces cannot be gated with this model.
        InferenceFailed: The engine failed.
        JobAbandoned, DeadlineExceeded: Nobody waits for the answer any more; nothing was stored.
    """
    known = known_sources(galleries, gallery, [_source(entry) for entry in entries])
    where, _, _ = read_gallery(galleries, gallery)
    gate = requirements.gate.at_least(where.min_quality)
    requirements = replace(requirements, keep_crop=where.keep_crops, gate=gate)
    models.require_gate(gate)
    outcomes: dict[int, Enrolled | VultusError] = {}
    names: dict[int, str] = {}
    for place, entry in enumerate(entries):
        try:
            names[place] = clean_name(entry.subject, "subject")
        except VultusError as error:
            outcomes[place] = error
            continue
        if there := known.get(_source(entry)):
            outcomes[place] = _present(there, names[place])
    pending = [place for place in range(len(entries)) if place not in outcomes]
    photos = [place for place in pending if isinstance(entries[place].content, bytes)]
    acquired = dict(zip(photos, acquire(models, _images(entries, photos), requirements, job), strict=True))
    ready: list[tuple[int, NewTemplate]] = []
    for place in pending:
        content = entries[place].content
        if isinstance(content, NewTemplate):
            try:
                ready.append((place, judged(models, content, gate)))
            except LowQuality as error:
                outcomes[place] = error
        elif isinstance(found := acquired[place], VultusError):
            outcomes[place] = found
        else:
            ready.append((place, found.template))
    job.require_wanted()  # the last moment at which whoever was told that it is too late can be right
    stored = enrol(galleries, gallery, [(names[place], template) for place, template in ready]) if ready else []
    for (place, template), one in zip(ready, stored, strict=True):
        if one.outcome != "enrolled":
            outcomes[place] = _present(one, names[place])
            continue
        photo = acquired.get(place)
        face, assessment = (photo.face, photo.assessment) if isinstance(photo, Acquired) else (None, None)
        outcomes[place] = Enrolled("enrolled", one.template, face, template.norm, assessment)
    return [outcomes[place] for place in range(len(entries))]


def _source(entry: Entry) -> bytes:
    return image_source(entry.content) if isinstance(entry.content, bytes) else entry.content.source


def _images(entries: Sequence[Entry], places: Sequence[int]) -> list[bytes]:
    contents = (entries[place].content for place in places)
    return [content for content in contents if isinstance(content, bytes)]


def _present(stored: Stored, subject: str) -> Enrolled | DuplicateOfAnother:
    if stored.subject == subject:
        return Enrolled("duplicate", stored.template)
    return DuplicateOfAnother("another subject of the gallery has the same photo or embedding", stored.subject)
