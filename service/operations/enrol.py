"""Enrolment: photos and embeddings become templates of a gallery.

Every entry has its own outcome. Photos that the gallery already has need no inference. `prepare` computes and `store`
waits for other writers of the store, so that a caller can give back the resources of inference between them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from models.deadline import Deadline
from models.errors import LowQuality, VultusError
from models.pipeline import EmbeddedFace
from models.quality import Assessment, Gate
from models.serving.models import Models
from service.errors import DuplicateOfAnother
from service.gallery.galleries import Galleries
from service.gallery.names import clean_name
from service.gallery.records import Gallery, Metadata, NewTemplate, StoreOutcome
from service.gallery.templates import known_sources, store_templates
from service.operations.acquire import (
    Acquired,
    Requirements,
    acquire_images,
    gate_template,
    image_source,
)
from service.operations.faces import Content, template_of


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """An image or embedding to enrol.

    Attributes:
        subject: Name of its subject.
        content: The image or embedding.
        expires: Seconds since 1970 at which the template is erased; None for that of the requirements.
        metadata: Metadata of the template.
    """

    subject: str
    content: Content
    expires: float | None = None
    metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Enrolled:
    """A template of the gallery after an enrolment.

    Attributes:
        outcome: `enrolled` if the template is new, `duplicate` if the gallery already had it.
        template: Key of the template.
        face: The enrolled face; None for an embedding or a duplicate.
        norm: Length of the embedding before normalisation; None if unknown or for a duplicate.
        assessment: Assessment of the face; None without a face.
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


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """The entries of an enrolment, ready to be stored.

    Attributes:
        gallery: The gallery.
        count: Number of all entries.
        ready: Entries to store, by position.
        outcomes: Outcomes of the other entries, by position: already enrolled, or refused.
    """

    gallery: Gallery
    count: int
    ready: dict[int, _Ready]
    outcomes: dict[int, Outcome]

    def under(self, subject: str) -> "Prepared":
        """Return the same enrolment with another name of the subject of all entries that are ready."""
        return replace(self, ready={at: replace(entry, subject=subject) for at, entry in self.ready.items()})


def require_enrolment(galleries: Galleries, models: Models, gallery: str, gate: Gate) -> Gallery:
    """Check that an enrolment is possible, before any entry is read; return the gallery.

    Raises:
        GalleryUnknown: No gallery has this name.
        ContractMismatch: The gallery has embeddings of another contract.
        CalibrationUnfit: The gate depends on a calibration, and the model is not calibrated.
        QualityUnvalidated: The gate has a minimum quality, and quality was not validated for this model.
    """
    with galleries.database.reading() as connection:
        found = galleries.find(connection, gallery)
    models.require_gate(gate.with_min_quality(found.min_quality))
    return found


def enrol(
    galleries: Galleries,
    models: Models,
    gallery: str,
    entries: Sequence[Entry],
    requirements: Requirements,
    deadline: Deadline,
) -> list[Outcome]:
    """Enrol photos and embeddings in one transaction: `prepare` and `store`.

    Raises:
        VultusError: As `prepare` and `store`; nothing was stored.
    """
    return store(galleries, prepare(galleries, models, gallery, entries, requirements, deadline), deadline)


def prepare(
    galleries: Galleries,
    models: Models,
    gallery: str | Gallery,
    entries: Sequence[Entry],
    requirements: Requirements,
    deadline: Deadline,
) -> Prepared:
    """Create the templates of an enrolment and store nothing.

    Args:
        galleries: The open galleries.
        models: Models that detect, embed and assess faces.
        gallery: Name of the gallery, or the gallery as it was read earlier.
        entries: Images and embeddings to enrol; subjects that do not exist are created.
        requirements: Conditions that the photos must meet.
        deadline: Deadline of the request; stage times are added to it.

    Raises:
        GalleryUnknown: No gallery has this name, or the gallery was erased.
        ContractMismatch: The gallery has embeddings of another contract.
        CalibrationUnfit: The gate depends on a calibration, and the model is not calibrated.
        QualityUnvalidated: The gate has a minimum quality, and quality was not validated for this model.
        InferenceFailed: The engine failed.
        RequestCancelled: The client disconnected.
        DeadlineExceeded: The deadline passed.
        StoreFailed: The store could not be read.
    """
    outcomes: dict[int, Outcome] = {}
    with galleries.database.reading() as connection:
        target = galleries.find(connection, gallery)
    pending = _new_entries(galleries, target, entries, outcomes)
    gate = requirements.gate.with_min_quality(target.min_quality)
    requirements = replace(requirements, keep_crop=target.keep_crops, gate=gate)
    models.require_gate(gate)
    ready = {
        position: replace(found, template=_described(found.template, entries[position], requirements))
        for position, found in _acquire(models, pending, requirements, deadline, outcomes).items()
    }
    return Prepared(target, len(entries), ready, outcomes)


def store(galleries: Galleries, prepared: Prepared, deadline: Deadline) -> list[Outcome]:
    """Store the templates of an enrolment in one transaction; create missing subjects.

    Args:
        galleries: The open galleries.
        prepared: What `prepare` returned.
        deadline: Deadline of the request; the duration of the stage `store` is added to it.

    Returns:
        For each entry, in order, its template or the error with which it was refused.

    Raises:
        GalleryUnknown: The gallery was erased meanwhile.
        RequestCancelled: The client disconnected before other writers were done; nothing was stored.
        DeadlineExceeded: The deadline passed before other writers were done; nothing was stored.
        StorageFull: The disk is full; nothing was stored.
        StoreFailed: The store could not be written; nothing was stored.
    """
    entries = [(entry.subject, entry.template) for entry in prepared.ready.values()]
    stored: list[StoreOutcome] = []
    if entries:
        with deadline.stage("store"):
            stored = store_templates(galleries, prepared.gallery, entries, deadline=deadline)
    outcomes = dict(prepared.outcomes)
    for (position, entry), result in zip(prepared.ready.items(), stored, strict=True):
        outcomes[position] = galleries.subject_full() if result.outcome == "full" else _outcome(entry, result)
    return [outcomes[position] for position in range(prepared.count)]


def _described(template: NewTemplate, entry: Entry, requirements: Requirements) -> NewTemplate:
    """Return a template with what its entry states."""
    expires = requirements.expires if entry.expires is None else entry.expires
    return replace(template, expires=expires, metadata=entry.metadata)


def _new_entries(
    galleries: Galleries, gallery: Gallery, entries: Sequence[Entry], outcomes: dict[int, Outcome]
) -> dict[int, tuple[str, bytes | NewTemplate]]:
    """Clean the names, create templates from embeddings, and skip entries that are invalid or already enrolled.

    Returns:
        The remaining entries by position, as cleaned name and content. The outcomes of the others are in `outcomes`.
    """
    contents: dict[int, tuple[str, bytes | NewTemplate]] = {}
    for position, entry in enumerate(entries):
        try:
            received = entry.content
            content = received if isinstance(received, bytes) else template_of(galleries, received)
            contents[position] = (clean_name(entry.subject, "subject"), content)
        except VultusError as error:
            outcomes[position] = error
    sources = {position: _source(content) for position, (_, content) in contents.items()}
    known = known_sources(galleries, gallery, list(sources.values()))
    for position, source in sources.items():
        if stored := known.get(source):
            outcomes[position] = _known(stored, contents.pop(position)[0])
    return contents


def _acquire(
    models: Models,
    pending: dict[int, tuple[str, bytes | NewTemplate]],
    requirements: Requirements,
    deadline: Deadline,
    outcomes: dict[int, Outcome],
) -> dict[int, _Ready]:
    """Create the templates of the photos, and check photos and embeddings against the requirements.

    Returns:
        The entries to store, by position. The errors of the others are in `outcomes`.
    """
    images = {position: content for position, (_, content) in pending.items() if isinstance(content, bytes)}
    acquired = dict(zip(images, acquire_images(models, list(images.values()), requirements, deadline), strict=True))
    ready: dict[int, _Ready] = {}
    for position, (subject, content) in pending.items():
        if isinstance(content, NewTemplate):
            try:
                ready[position] = _Ready(subject, gate_template(models, content, requirements.gate))
            except LowQuality as error:
                outcomes[position] = error
        elif isinstance(found := acquired[position], VultusError):
            outcomes[position] = found
        else:
            ready[position] = _Ready(subject, found.template, found)
    return ready


def _outcome(entry: _Ready, stored: StoreOutcome) -> Outcome:
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


def _known(stored: StoreOutcome, subject: str) -> Outcome:
    if stored.subject == subject:
        return Enrolled("duplicate", stored.template)
    return DuplicateOfAnother("another subject of the gallery has the same photo or embedding", stored.subject)


def _source(content: bytes | NewTemplate) -> bytes:
    return image_source(content) if isinstance(content, bytes) else content.source
