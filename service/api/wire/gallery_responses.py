"""Schemas of responses on galleries."""

from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue

from models.quality import Reason
from service.api.wire.responses import FaceOut, OperatingPointOut, Problem, ResponseModel
from service.gallery.consistency import ConsistencyReport, ErasureReport
from service.gallery.index.live import LiveIndex
from service.gallery.records import Candidate, Gallery, IndexKind, Receipt, Subject, Template
from service.operations.enrol import Enrolled
from service.operations.identify import Identification, IdentifiedFace, IdentifiedProbe
from service.times import written_time


class GalleryOut(ResponseModel):
    """A gallery."""

    gallery: str
    contract_id: Annotated[
        str, Field(description="Contract of its embeddings. Only a model with this contract can search it.")
    ]
    dimensions: int
    index: Annotated[IndexKind, Field(description="Requested kind of index.")]
    serving: Annotated[
        str | None,
        Field(
            description="Kind of index that answers; `null` while it is built and the store answers, and for a gallery "
            "of another contract, which is not searched."
        ),
    ]
    subject_count: int
    template_count: int
    keep_crops: bool
    min_quality: Annotated[float, Field(description="Minimum quality of faces that are enrolled or searched for.")]
    retain_days: Annotated[float, Field(description="Days after which a template is erased by itself; 0 for no limit.")]
    metadata: dict[str, JsonValue]
    created: str

    @classmethod
    def of(cls, gallery: Gallery, subject_count: int, template_count: int, live: LiveIndex) -> "GalleryOut":
        """Describe a gallery."""
        return cls(
            gallery=gallery.name,
            contract_id=gallery.contract_id,
            dimensions=gallery.dimensions,
            index=gallery.index,
            serving=live.current.kind if live.current else None,
            subject_count=subject_count,
            template_count=template_count,
            keep_crops=gallery.keep_crops,
            min_quality=gallery.min_quality,
            retain_days=gallery.retain_days,
            metadata=gallery.metadata,
            created=written_time(gallery.created),
        )


class GalleryPage(ResponseModel):
    """A page of the list of galleries."""

    galleries: list[GalleryOut]
    next: Annotated[str | None, Field(description="Cursor of the next page; `null` on the last page.")]


class SubjectOut(ResponseModel):
    """A subject."""

    subject: str
    template_count: int
    metadata: dict[str, JsonValue]
    created: str
    expires: Annotated[str | None, Field(description="When it is erased by itself; `null` for never.")]

    @classmethod
    def of(cls, subject: Subject) -> "SubjectOut":
        """Describe a subject."""
        return cls(
            subject=subject.name,
            template_count=subject.template_count,
            metadata=subject.metadata,
            created=written_time(subject.created),
            expires=None if subject.expires is None else written_time(subject.expires),
        )


class SubjectPage(ResponseModel):
    """A page of the list of subjects."""

    subjects: list[SubjectOut]
    next: Annotated[str | None, Field(description="Cursor of the next page; `null` on the last page.")]


class TemplateOut(ResponseModel):
    """A template, without its embedding."""

    template: int
    norm: float | None
    quality: float | None
    contract_id: str
    source_sha256: Annotated[
        str, Field(description="SHA-256 of the image file, or of the embedding if no image was sent.")
    ]
    created: str
    crop: Annotated[bool, Field(description="Whether the aligned crop is stored.")]
    expires: Annotated[
        str | None,
        Field(description="When it is erased by itself; `null` for never, or by the `retain_days` of its gallery."),
    ]

    @classmethod
    def of(cls, template: Template) -> "TemplateOut":
        """Describe a template."""
        return cls(
            template=template.key,
            norm=template.norm,
            quality=template.quality,
            contract_id=template.contract_id,
            source_sha256=template.source.hex(),
            created=written_time(template.created),
            crop=template.has_crop,
            expires=None if template.expires is None else written_time(template.expires),
        )


class SubjectDetails(SubjectOut):
    """A subject and a page of its templates."""

    templates: Annotated[list[TemplateOut], Field(description="Oldest first.")]
    next: Annotated[str | None, Field(description="Cursor of the next page; `null` on the last page.")]


class ReceiptOut(ResponseModel):
    """Proof of an erasure that does not identify the subject."""

    erasure: Annotated[int, Field(description="Number of the erasure.")]
    what: Literal["gallery", "subject", "template"]
    subject_count: int
    template_count: int
    crop_count: int
    erased: str
    log_cut: Annotated[
        bool,
        Field(description="Whether the store's write-ahead log is already truncated; if not, it is truncated later."),
    ]

    @classmethod
    def of(cls, receipt: Receipt) -> "ReceiptOut":
        """Convert a receipt."""
        return cls(
            erasure=receipt.erasure,
            what=receipt.what,
            subject_count=receipt.subject_count,
            template_count=receipt.template_count,
            crop_count=receipt.crop_count,
            erased=written_time(receipt.erased),
            log_cut=receipt.log_cut,
        )


class EnrolItem(ResponseModel):
    """The outcome of enrolling one photo or embedding."""

    status: Literal["enrolled", "duplicate", "error"]
    template: Annotated[
        int | None, Field(description="Number of the template that was created or already existed.")
    ] = None
    face: FaceOut | None = None
    norm: float | None = None
    duplicate_of: Annotated[str | None, Field(description="Other subject that has the same photo or embedding.")] = None
    problem: Problem | None = None

    @classmethod
    def of(cls, enrolled: Enrolled) -> Self:
        """Convert an enrolled template."""
        face = None
        if enrolled.face is not None and enrolled.assessment is not None:
            face = FaceOut.of(enrolled.face.face, enrolled.assessment)
        return cls(status=enrolled.outcome, template=enrolled.template, face=face, norm=enrolled.norm)


class EnrolResponse(ResponseModel):
    """One item for each photo, then one for each embedding, in order."""

    gallery: str
    subject: str
    items: list[EnrolItem]


class CandidateOut(ResponseModel):
    """A subject that a face resembles."""

    gallery: str
    subject: str
    similarity: Annotated[float, Field(ge=-1, le=1, description="Cosine, fused over the subject's templates.")]

    @classmethod
    def of(cls, candidate: Candidate) -> "CandidateOut":
        """Convert a candidate."""
        return cls(gallery=candidate.gallery, subject=candidate.subject, similarity=candidate.similarity)


class IdentifiedFaceOut(ResponseModel):
    """A face and the subjects that it resembles. The result of an embedding has no box."""

    box: Annotated[
        list[float] | None, Field(description="Corners of the box in pixels of the upright photo: x1, y1, x2, y2.")
    ] = None
    landmarks: list[list[float]] | None = None
    score: float | None = None
    quality: Annotated[float | None, Field(description="Quality from 0 to 100; higher is better.")] = None
    reasons: list[Reason] = Field(default_factory=list)
    norm: float | None = None
    decision: Annotated[
        Literal["candidates", "unknown", "rejected"] | None,
        Field(
            description="`candidates` or `unknown`, at the operating point; `rejected` if the face was not searched "
            "for, with the reason in `refusal`. `null` if there is no operating point."
        ),
    ]
    refusal: Annotated[Reason | None, Field(description="Reason why the face was rejected.")] = None
    candidates: Annotated[
        list[CandidateOut], Field(description="Best first. All reach the operating point if there is one.")
    ]

    @classmethod
    def of(cls, face: IdentifiedFace) -> Self:
        """Convert a face that was searched for, or that the gate refused."""
        judged = face.judged
        described = FaceOut.of_judged(judged)
        return cls(
            **(described.model_dump() if described else {}),
            norm=judged.face.norm if judged else None,
            decision=face.decision,
            refusal=judged.refusal.code if judged and judged.refusal else None,
            candidates=[CandidateOut.of(candidate) for candidate in face.candidates],
        )


class IdentifyItem(ResponseModel):
    """The faces of one photo, or the problem with it."""

    status: Literal["ok", "error"]
    width: Annotated[int | None, Field(description="Width of the upright photo in pixels.")] = None
    height: int | None = None
    faces: list[IdentifiedFaceOut] = Field(default_factory=list)
    problem: Problem | None = None

    @classmethod
    def of(cls, probe: IdentifiedProbe) -> Self:
        """Convert a probe that was searched for."""
        return cls(
            status="ok",
            width=probe.photo.width if probe.photo else None,
            height=probe.photo.height if probe.photo else None,
            faces=[IdentifiedFaceOut.of(face) for face in probe.faces],
        )


class IdentifyLineItem(IdentifyItem):
    """The response line of one request line."""

    id: Annotated[str | None, Field(description="`id` of the request line.")] = None


class IdentifyResponse(ResponseModel):
    """One item for each photo, then one for each embedding, in order."""

    items: list[IdentifyItem]
    operating_point: OperatingPointOut | None
    comparisons: Annotated[
        int, Field(description="Number of templates, or fused subjects, that each face was compared with.")
    ]
    fpir_bound: Annotated[
        float | None,
        Field(
            description="Measured rate x comparisons, at most 1: an upper bound of how often a face of a person who "
            "is not enrolled has a candidate at this operating point. Choose an operating point that keeps it small. "
            "It holds neither for a face with the reason `low_quality` nor for candidates by a template of quality 0."
        ),
    ]
    uncalibrated_because: Annotated[str | None, Field(description="Why there is no decision.")] = None

    @classmethod
    def of(cls, found: Identification, items: list[IdentifyItem], uncalibrated_because: str | None) -> Self:
        """Convert the result of an identification, whose probes were converted to `items`."""
        return cls(
            items=items,
            operating_point=OperatingPointOut.of(found.point) if found.point else None,
            comparisons=found.comparisons,
            fpir_bound=found.fpir_bound,
            uncalibrated_because=uncalibrated_because,
        )


class ImportResponse(ResponseModel):
    """The outcomes of an import."""

    enrolled: Annotated[int, Field(description="Number of new templates. All are stored on disk.")]
    duplicates: Annotated[int, Field(description="Number of templates that were already stored.")]
    refused: Annotated[int, Field(description="Number of templates whose photo or embedding another subject has.")]


class ConsistencyResponse(ResponseModel):
    """Whether index and store agree, and on request whether no file contains erased data."""

    good: bool
    template_count: int
    index: str | None
    erasure: Literal["complete", "incomplete"] | None
    faults: list[str]

    @classmethod
    def of(cls, report: ConsistencyReport, erasure: ErasureReport | None) -> "ConsistencyResponse":
        """Convert the reports of the checks."""
        faults = report.faults + (erasure.faults if erasure else [])
        return cls(
            good=not faults,
            template_count=report.template_count,
            index=report.index,
            erasure=("incomplete" if erasure.faults else "complete") if erasure else None,
            faults=faults,
        )
