"""What goes out over the wire about galleries."""

from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue

from models.errors import FaceError
from models.quality import Reason
from service.api.responses import FaceOut, OperatingPointOut, Problem, Response
from service.gallery.audit import Audit, ErasureAudit
from service.gallery.index.live import LiveIndex
from service.gallery.records import Candidate, Gallery, IndexKind, Receipt, Subject, Template


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


class GalleryOut(Response):
    """A gallery."""

    gallery: str
    contract_id: Annotated[str, Field(description="Of its embeddings; a model of another one cannot search it.")]
    dimensions: int
    index: Annotated[IndexKind, Field(description="As it was set.")]
    serving: Annotated[
        str | None, Field(description="The index that answers; while it is built, the store itself does.")
    ]
    subjects: int
    templates: int
    keep_crops: bool
    min_quality: Annotated[float, Field(description="Least quality of faces that are enrolled or looked for.")]
    metadata: dict[str, JsonValue]
    created: str

    @classmethod
    def of(cls, gallery: Gallery, subjects: int, templates: int, live: LiveIndex) -> "GalleryOut":
        """Describe a gallery."""
        return cls(
            gallery=gallery.name,
            contract_id=gallery.contract_id,
            dimensions=gallery.dimensions,
            index=gallery.index,
            serving=live.current.kind if live.current else None,
            subjects=subjects,
            templates=templates,
            keep_crops=gallery.keep_crops,
            min_quality=gallery.min_quality,
            metadata=gallery.metadata,
            created=_time(gallery.created),
        )


class GalleryPage(Response):
    """A part of the list of galleries."""

    galleries: list[GalleryOut]
    next: Annotated[str | None, Field(description="The cursor of the part behind this one.")]


class SubjectOut(Response):
    """A subject."""

    subject: str
    templates: int
    metadata: dict[str, JsonValue]
    created: str

    @classmethod
    def of(cls, subject: Subject) -> "SubjectOut":
        """Describe a subject."""
        return cls(
            subject=subject.name,
            templates=subject.templates,
            metadata=subject.metadata,
            created=_time(subject.created),
        )


class SubjectPage(Response):
    """A part of the list of subjects."""

    subjects: list[SubjectOut]
    next: Annotated[str | None, Field(description="The cursor of the part behind this one.")]


class TemplateOut(Response):
    """A template, without its embedding."""

    template: int
    norm: float | None
    quality: float | None
    contract_id: str
    source_sha256: Annotated[str, Field(description="Of the image file, or of the embedding if there was none.")]
    created: str
    crop: Annotated[bool, Field(description="Whether the aligned crop is kept.")]

    @classmethod
    def of(cls, template: Template) -> "TemplateOut":
        """Describe a template."""
        return cls(
            template=template.key,
            norm=template.norm,
            quality=template.quality,
            contract_id=template.contract_id,
            source_sha256=template.source.hex(),
            created=_time(template.created),
            crop=template.has_crop,
        )


class SubjectDetails(Response):
    """A subject and its templates."""

    subject: str
    metadata: dict[str, JsonValue]
    created: str
    templates: list[TemplateOut]


class ReceiptOut(Response):
    """Proof of an erasure; says nothing about whose it was."""

    erasure: Annotated[int, Field(description="Its number.")]
    what: Literal["gallery", "subject", "template"]
    subjects: int
    templates: int
    crops: int
    erased: str
    log_cut: Annotated[
        bool,
        Field(description="Whether the store's log was cut already; if not, that follows."),
    ]

    @classmethod
    def of(cls, receipt: Receipt) -> "ReceiptOut":
        """Convert a receipt."""
        return cls(
            erasure=receipt.erasure,
            what=receipt.what,
            subjects=receipt.subjects,
            templates=receipt.templates,
            crops=receipt.crops,
            erased=_time(receipt.erased),
            log_cut=receipt.log_cut,
        )


class EnrolItem(Response):
    """What became of one photo or embedding."""

    status: Literal["enrolled", "duplicate", "error"]
    template: Annotated[int | None, Field(description="The one that was made, or was there already.")] = None
    face: FaceOut | None = None
    norm: float | None = None
    duplicate_of: Annotated[str | None, Field(description="The subject that has the same photo already.")] = None
    problem: Problem | None = None


class EnrolResponse(Response):
    """One item for each photo, then one for each embedding, in order."""

    gallery: str
    subject: str
    items: list[EnrolItem]


class CandidateOut(Response):
    """A subject that a face resembles."""

    gallery: str
    subject: str
    similarity: Annotated[float, Field(ge=-1, le=1, description="Cosine, fused over the subject's templates.")]

    @classmethod
    def of(cls, candidate: Candidate) -> "CandidateOut":
        """Convert a candidate."""
        return cls(gallery=candidate.gallery, subject=candidate.subject, similarity=candidate.similarity)


class IdentifiedFaceOut(Response):
    """A face and whom it resembles; an embedding has no box."""

    box: Annotated[list[float] | None, Field(description="x1, y1, x2, y2, pixels of the upright photo.")] = None
    landmarks: list[list[float]] | None = None
    score: float | None = None
    quality: Annotated[float | None, Field(description="0 to 100, higher is better.")] = None
    reasons: list[Reason] = Field(default_factory=list)
    norm: float | None = None
    decision: Annotated[
        Literal["candidates", "unknown", "rejected"] | None,
        Field(description="`rejected`: not looked for, `refusal` says why. None where no operating point decides."),
    ]
    refusal: Annotated[Reason | None, Field(description="What of the gate the face does not keep to.")] = None
    candidates: Annotated[list[CandidateOut], Field(description="Best first; all reach the operating point.")]

    @classmethod
    def of(cls, face: FaceOut | None, norm: float | None, candidates: list[Candidate], decides: bool) -> Self:
        """Describe what was found for a face."""
        found = [CandidateOut.of(one) for one in candidates]
        decision: Literal["candidates", "unknown"] | None = None
        if decides:
            decision = "candidates" if found else "unknown"
        return cls(**(face.model_dump() if face else {}), norm=norm, decision=decision, candidates=found)

    @classmethod
    def rejected(cls, face: FaceOut, norm: float, refusal: FaceError) -> Self:
        """Describe a face that was not looked for."""
        return cls(**face.model_dump(), norm=norm, decision="rejected", refusal=refusal.code, candidates=[])


class IdentifyItem(Response):
    """The faces of one photo, or why there are none."""

    status: Literal["ok", "error"]
    width: Annotated[int | None, Field(description="Of the upright photo, pixels.")] = None
    height: int | None = None
    faces: list[IdentifiedFaceOut] = Field(default_factory=list)
    problem: Problem | None = None


class IdentifyLineItem(IdentifyItem):
    """What was found for one line."""

    id: Annotated[str | None, Field(description="The line's own.")] = None


class IdentifyResponse(Response):
    """One item for each photo, then one for each embedding, in order."""

    items: list[IdentifyItem]
    operating_point: OperatingPointOut | None
    comparisons: Annotated[int, Field(description="What each face was compared with: templates, or fused subjects.")]
    fpir_bound: Annotated[
        float | None,
        Field(
            description="Measured rate x comparisons, at most 1: how often the face of somebody who is not enrolled "
            "gets a candidate at this operating point. Choose one that keeps it small."
        ),
    ]
    uncalibrated_because: Annotated[str | None, Field(description="Why there is no decision.")] = None


class ImportResponse(Response):
    """What became of the lines."""

    templates: Annotated[int, Field(description="New ones; all are on the disk.")]
    duplicates: Annotated[int, Field(description="Were there already.")]
    refused: Annotated[int, Field(description="Another subject has the same source.")]


class AuditResponse(Response):
    """Whether index and store agree, and, if asked for, whether what was erased is in no file."""

    good: bool
    templates: int
    index: str | None
    erasure: Literal["complete", "incomplete"] | None
    faults: list[str]

    @classmethod
    def of(cls, audit: Audit, erasure: ErasureAudit | None) -> "AuditResponse":
        """Convert what was found."""
        faults = audit.faults + (erasure.faults if erasure else [])
        return cls(
            good=not faults,
            templates=audit.templates,
            index=audit.index,
            erasure=("incomplete" if erasure.faults else "complete") if erasure else None,
            faults=faults,
        )
