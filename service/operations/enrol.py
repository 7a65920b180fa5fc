"""Enrolment: photos and embeddings become templates of a gallery.

Every entry has an outcome of its own. What the gallery holds already costs no inference.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from models.deadline import Deadline
from models.errors import LowQuality, VultusError
from models.pipeline import EmbeddedFace
from models.quality import Assessment, Gate
from models.serving.models import Models
from service.errors import DuplicateOfAnother
from service.gallery.administration import read_gallery
from service.gallery.galleries import Galleries
from service.gallery.identification import least_quality
from service.gallery.names import clean_name
from service.gallery.records import NewTemplate, Stored
from service.gallery.templates import known_sources, store_templates
from service.operations.acquire import (
    Acquired,
    Content,
    Requirements,
    acquire_images,
    gate_template,
    image_source,
    template_of,
)


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """What to enrol, and whose it is."""

    subject: str
    content: Content


@dataclass(frozen=True, slots=True, eq=False)
class Enrolled:
    """A template that the gallery holds now.

    Attributes:
        outcome: `duplicate` if the gallery held it before.
        template: Its key.
        face: The face that was enrolled, where one was detected.
        norm: Length of its embedding before normalisation.
        assessment: Of the face.
    """

    outcome: Literal["enrolled", "duplicate"]
    template: int
    face: EmbeddedFace | None = None
    norm: float | None = None
    assessment: Assessment | None = None


Outcome = Enrolled | VultusError


@dataclass(frozen=True, slots=True, eq=False)
class _Ready:
    """An entry that can be stored."""

    subject: str
    template: NewTemplate
    acquired: Acquired | None = None


def require_enrolment(galleries: Galleries, models: Models, gallery: str, gate: Gate) -> None:
    """Refuse an enrolment that cannot succeed, before any entry is read.

    Raises:
        GalleryUnknown, ContractMismatch: The gallery cannot take templates of this model.
        CalibrationUnfit, QualityUnvalidated: This model cannot gate faces.
    """
    models.require_gate(gate.at_least(least_quality(galleries, [gallery])))


def enrol(
    galleries: Galleries,
    models: Models,
    gallery: str,
    entries: Sequence[Entry],
    requirements: Requirements,
    deadline: Deadline,
) -> list[Outcome]:
    """Enrol photos and embeddings in one transaction.

    Args:
        galleries: The open galleries.
        models: What detects, embeds and assesses.
        gallery: Name of the gallery.
        entries: What to enrol; subjects that do not exist are created.
        requirements: What the photos must meet.
        deadline: Deadline of the request; stage times are added to it.

    Returns:
        For each entry, in order, the template or the error that refused it.

    Raises:
        GalleryUnknown, ContractMismatch: The gallery cannot take the templates.
        StorageFull, StoreFailed: Nothing was stored.
        CalibrationUnfit, QualityUnvalidated: This model cannot gate faces.
        InferenceFailed: The engine failed.
        RequestCancelled, DeadlineExceeded: The request ended; nothing was stored.
    """
    outcomes: dict[int, Outcome] = {}
    pending = _new_entries(galleries, gallery, entries, outcomes)
    where, _, _ = read_gallery(galleries, gallery)
    gate = requirements.gate.at_least(where.min_quality)
    requirements = replace(requirements, keep_crop=where.keep_crops, gate=gate)
    models.require_gate(gate)
    ready = _acquire(models, pending, requirements, deadline, outcomes)
    deadline.check()  # the last moment at which a client that was told 504 can rely on it
    stored = (
        store_templates(galleries, gallery, [(one.subject, one.template) for one in ready.values()]) if ready else []
    )
    for (place, one), result in zip(ready.items(), stored, strict=True):
        outcomes[place] = _outcome(one, result)
    return [outcomes[place] for place in range(len(entries))]


def _new_entries(
    galleries: Galleries, gallery: str, entries: Sequence[Entry], outcomes: dict[int, Outcome]
) -> dict[int, tuple[str, bytes | NewTemplate]]:
    """Clean the names, make templates from embeddings, and leave out what is invalid or known already."""
    contents: dict[int, tuple[str, bytes | NewTemplate]] = {}
    for place, entry in enumerate(entries):
        try:
            received = entry.content
            content = received if isinstance(received, bytes) else template_of(galleries, received)
            contents[place] = (clean_name(entry.subject, "subject"), content)
        except VultusError as error:
            outcomes[place] = error
    sources = {place: _source(content) for place, (_, content) in contents.items()}
    known = known_sources(galleries, gallery, list(sources.values()))
    for place, source in sources.items():
        if stored := known.get(source):
            outcomes[place] = _known(stored, contents.pop(place)[0])
    return contents


def _acquire(
    models: Models,
    pending: dict[int, tuple[str, bytes | NewTemplate]],
    requirements: Requirements,
    deadline: Deadline,
    outcomes: dict[int, Outcome],
) -> dict[int, _Ready]:
    """Make the templates of the photos, and hold photos and embeddings to the requirements."""
    images = {place: content for place, (_, content) in pending.items() if isinstance(content, bytes)}
    acquired = dict(zip(images, acquire_images(models, list(images.values()), requirements, deadline), strict=True))
    ready: dict[int, _Ready] = {}
    for place, (subject, content) in pending.items():
        if isinstance(content, NewTemplate):
            try:
                ready[place] = _Ready(subject, gate_template(models, content, requirements.gate))
            except LowQuality as error:
                outcomes[place] = error
        elif isinstance(found := acquired[place], VultusError):
            outcomes[place] = found
        else:
            ready[place] = _Ready(subject, found.template, found)
    return ready


def _outcome(entry: _Ready, stored: Stored) -> Outcome:
    if stored.outcome != "enrolled":
        return _known(stored, entry.subject)
    acquired = entry.acquired
    return Enrolled(
        "enrolled",
        stored.template,
        acquired.face if acquired else None,
        entry.template.norm,
        acquired.assessment if acquired else None,
    )


def _known(stored: Stored, subject: str) -> Outcome:
    if stored.subject == subject:
        return Enrolled("duplicate", stored.template)
    return DuplicateOfAnother("another subject of the gallery has the same photo or embedding", stored.subject)


def _source(content: bytes | NewTemplate) -> bytes:
    return image_source(content) if isinstance(content, bytes) else content.source
