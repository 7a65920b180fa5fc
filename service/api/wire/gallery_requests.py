"""Schemas of requests on galleries."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    AfterValidator,
    BeforeValidator,
    FailFast,
    Field,
    JsonValue,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from service.api.wire.requests import (
    AnyEmbedding,
    Embedding,
    EncodedImage,
    FacePolicyName,
    FusionName,
    GateOptions,
    MinQuality,
    OperatingPointName,
    RequestModel,
    Vector,
)
from service.gallery.names import MAX_NAME_CHARACTERS
from service.gallery.records import (
    MAX_METADATA_CHARACTERS,
    MAX_METADATA_DEPTH,
    MAX_NORM,
    MAX_RETAIN_DAYS,
    NEVER,
    Expiry,
    IndexKind,
    is_deep,
)
from service.operations.acquire import Requirements
from service.operations.faces import Content, ReceivedEmbedding
from service.operations.identify import MAX_CANDIDATES, Search

IndexName = Annotated[
    IndexKind,
    Field(
        description="How the gallery is searched. `flat` compares every template in float32, `flat-fp16` in half the "
        "memory, `sq8` in a quarter of it; `hnsw` compares a few of them. `auto` chooses `flat` or `flat-fp16` by the "
        "number of templates. All kinds but `flat` fetch more candidates and rank them again in float32."
    ),
]


def _check_metadata(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if is_deep(value):
        raise PydanticCustomError("member_invalid", f"the metadata are nested deeper than {MAX_METADATA_DEPTH} levels")
    if len(json.dumps(value)) > MAX_METADATA_CHARACTERS:
        raise PydanticCustomError("member_invalid", "the metadata exceeds 16 KiB")
    return value


Metadata = Annotated[
    dict[str, JsonValue],
    AfterValidator(_check_metadata),
    Field(description="Any JSON object of your own, at most 16 KiB."),
]


def _read_expiry(value: Any) -> Any:
    """Return a time, or `never`, as seconds since 1970; None leaves it as it is."""
    if value is None or value == NEVER:
        return value
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise PydanticCustomError(
            "member_invalid", "give a time with its offset, as 2027-01-31T12:00:00Z or 2027-01-31T13:00:00+01:00"
        )
    if time <= datetime.now(UTC):
        raise PydanticCustomError("member_invalid", "the time is in the past")
    if time.year > _LAST_YEAR:
        raise PydanticCustomError("member_invalid", f"the time is after the year {_LAST_YEAR}")
    return time.timestamp()


_LAST_YEAR = 9000  # calendars end soon after
_TIME = {"type": "string", "format": "date-time"}

Expires = Annotated[
    float | None,
    PlainValidator(lambda value: None if value == NEVER else _read_expiry(value)),
    WithJsonSchema({"anyOf": [_TIME, {"type": "null"}], "default": None}),
    Field(description="Time with its offset at which it is erased by itself, within a minute."),
]
ChangedExpires = Annotated[
    Expiry,
    PlainValidator(_read_expiry),
    WithJsonSchema({"anyOf": [_TIME, {"const": NEVER}, {"type": "null"}], "default": None}),
    Field(description="Time with its offset at which it is erased by itself, or `never`."),
]
RetainDays = Annotated[
    float,
    Field(
        ge=0,
        le=MAX_RETAIN_DAYS,
        allow_inf_nan=False,
        description="Days after which a template is erased by itself, and a subject with its last template; 0 for no "
        "limit.",
    ),
]


class GalleryCreate(RequestModel):
    """The gallery to create."""

    gallery: str
    index: IndexName = "auto"
    keep_crops: Annotated[
        bool,
        Field(
            description="Store aligned crops with templates. An export has them, so that another model can embed them "
            "later."
        ),
    ] = False
    min_quality: MinQuality = 0.0
    retain_days: RetainDays = 0.0
    metadata: Metadata = Field(default_factory=dict)


class GalleryPatch(RequestModel):
    """Changes of a gallery; members without a value stay unchanged."""

    gallery: Annotated[str | None, Field(description="A new name.")] = None
    index: IndexName | None = None
    min_quality: MinQuality | None = None
    retain_days: RetainDays | None = None
    metadata: Metadata | None = None


class SubjectCreate(RequestModel):
    """The subject to create, without templates."""

    subject: str
    metadata: Metadata = Field(default_factory=dict)
    expires: Expires = None


class SubjectPatch(RequestModel):
    """Changes of a subject; members without a value stay unchanged."""

    subject: Annotated[str | None, Field(description="A new name.")] = None
    metadata: Metadata | None = None
    expires: ChangedExpires = None


class MergeRequest(RequestModel):
    """The subject whose templates move to the subject in the path, and which is then removed."""

    subject: str


class PageQuery(RequestModel):
    """The page of a list to return."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    cursor: Annotated[str | None, Field(description="`next` of the previous page. Without it, the first page.")] = None


class SubjectPageQuery(PageQuery):
    """The page of a gallery's subjects to return."""

    name: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=MAX_NAME_CHARACTERS,
            description="A part of the names to return, in any case. A request compares at most 20,000 names, so a "
            "page may have fewer subjects than `limit`, or none, and still a `next`.",
        ),
    ] = None


class TemplatePageQuery(PageQuery):
    """The page of a subject's templates to return."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 1000


class EnrolOptions(GateOptions):
    """Requirements of photos and embeddings that are enrolled."""

    faces: Annotated[
        Literal["single", "largest", "central"],
        Field(
            description="Which face of a photo to enrol: the `single` face (several are an error), the `largest`, or "
            "the most `central`."
        ),
    ] = "single"
    min_face_px: Annotated[
        int, Field(ge=0, description="Minimum of the shorter side of a face's box, in pixels of the upright photo.")
    ] = 0
    min_norm: Annotated[
        float,
        Field(
            ge=0,
            allow_inf_nan=False,
            description="Minimum length of the embedding before normalisation; its range differs between models.",
        ),
    ] = 0.0
    expires: Expires = None

    def requirements(self) -> Requirements:
        """Return the requirements as the operation expects them."""
        return Requirements(self.faces, self.min_face_px, self.min_norm, self.gate(), expires=self.expires)


class EnrolRequest(EnrolOptions):
    """Photos or embeddings of one subject to enrol."""

    images: Annotated[tuple[EncodedImage, ...], FailFast()] = ()
    embeddings: Annotated[tuple[AnyEmbedding, ...], FailFast()] = ()

    @model_validator(mode="after")
    def _has_content(self) -> "EnrolRequest":
        _require_content(self.images, self.embeddings)
        return self


MAX_ID_CHARACTERS = 200


class EnrolLine(RequestModel):
    """One line of an NDJSON enrolment: a photo or an embedding."""

    subject: str
    image: EncodedImage | None = None
    embedding: Vector | None = None
    norm: Annotated[float | None, Field(ge=0, le=MAX_NORM)] = None
    quality: Annotated[float | None, Field(ge=0, le=100)] = None
    contract_id: str | None = None
    expires: Expires = None

    @model_validator(mode="after")
    def _has_one_content(self) -> "EnrolLine":
        _require_one_content(self.image, self.embedding)
        return self

    def content(self) -> Content:
        """Return the image, or the embedding as the operation expects it."""
        if self.image is not None:
            return self.image
        return ReceivedEmbedding(np.asarray(self.embedding), self.norm, self.quality, self.contract_id)


def _read_galleries(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class IdentifyOptions(GateOptions):
    """How probes are searched for."""

    gallery: Annotated[
        tuple[str, ...],
        FailFast(),
        BeforeValidator(_read_galleries),
        Field(min_length=1, max_length=16, description="Names of the galleries to search."),
    ]
    k: Annotated[
        int,
        Field(
            ge=1,
            le=1000,
            description="Maximum number of candidates of a face. All faces and embeddings of a request together have "
            f"at most {MAX_CANDIDATES:,}.",
        ),
    ] = 5
    fusion: FusionName = "max"
    assign: Annotated[
        Literal["independent", "unique"],
        Field(
            description="`independent` searches for each face on its own; `unique` assigns no subject to two faces of "
            "one photo."
        ),
    ] = "independent"
    faces: FacePolicyName = "all"
    operating_point: Annotated[
        OperatingPointName,
        Field(
            description="Name or false match rate of the operating point whose threshold candidates must reach. "
            "Without it, the default operating point is used; `none` returns the nearest subjects without a decision."
        ),
    ] = None

    def search(self) -> Search:
        """Return the search as the operation expects it."""
        return Search(
            galleries=self.gallery,
            k=self.k,
            fusion=self.fusion,
            unique=self.assign == "unique",
            faces=self.faces,
            operating_point=self.operating_point,
            gate=self.gate(),
        )


class IdentifyRequest(IdentifyOptions):
    """Photos or embeddings to search for."""

    images: Annotated[tuple[EncodedImage, ...], FailFast()] = ()
    embeddings: Annotated[tuple[AnyEmbedding, ...], FailFast()] = ()

    @model_validator(mode="after")
    def _has_content(self) -> "IdentifyRequest":
        _require_content(self.images, self.embeddings)
        return self


class IdentifyLine(RequestModel):
    """One line of an NDJSON identification: a photo or an embedding."""

    id: Annotated[str | None, Field(max_length=MAX_ID_CHARACTERS, description="Returned in the response line.")] = None
    image: EncodedImage | None = None
    embedding: Vector | None = None
    contract_id: str | None = None

    @model_validator(mode="after")
    def _has_one_content(self) -> "IdentifyLine":
        _require_one_content(self.image, self.embedding)
        return self

    def content(self) -> Content:
        """Return the image, or the embedding as the operation expects it."""
        if self.image is not None:
            return self.image
        return ReceivedEmbedding(np.asarray(self.embedding), contract_id=self.contract_id)


class ConsistencyRequest(RequestModel):
    """The scope of a consistency check."""

    erasure: Annotated[
        bool,
        Field(
            description="Also rewrite the store, and check that no file contains erased data. This can take a while "
            "for a large store."
        ),
    ] = False


def _require_content(images: tuple[bytes, ...], embeddings: tuple[Embedding, ...]) -> None:
    if not images and not embeddings:
        raise PydanticCustomError("member_invalid", "give at least one of `images` and `embeddings`")


def _require_one_content(image: bytes | None, embedding: Any) -> None:
    if (image is None) == (embedding is None):
        raise PydanticCustomError("member_invalid", "give either `image` or `embedding`, not both")
