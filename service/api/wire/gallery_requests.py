"""What comes in over the wire about galleries."""

import json
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, model_validator
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
from service.gallery.records import LARGEST_NORM, METADATA_MOST, IndexKind
from service.operations.acquire import Content, ReceivedEmbedding, Requirements
from service.operations.identify import Search

IndexName = Annotated[
    IndexKind,
    Field(
        description="How the gallery is searched: `flat` compares every template in float32, `flat-fp16` in half the "
        "memory, `sq8` in a quarter, `hnsw` looks at few of them; `auto` chooses `flat` or `flat-fp16` by size. All "
        "but `flat` fetch more and rank again in float32."
    ),
]


def _check_metadata(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if len(json.dumps(value)) > METADATA_MOST:
        raise PydanticCustomError("member_invalid", "metadata of more than 16 KiB")
    return value


Metadata = Annotated[
    dict[str, JsonValue], AfterValidator(_check_metadata), Field(description="Your own, up to 16 KiB.")
]


class GalleryCreate(RequestModel):
    """A gallery to be made."""

    gallery: str
    index: IndexName = "auto"
    keep_crops: Annotated[
        bool, Field(description="Keep aligned crops beside templates, for embedding them with another model later.")
    ] = False
    min_quality: MinQuality = 0.0
    metadata: Metadata = Field(default_factory=dict)


class GalleryPatch(RequestModel):
    """What of a gallery is changed."""

    gallery: Annotated[str | None, Field(description="A new name.")] = None
    index: IndexName | None = None
    min_quality: MinQuality | None = None
    metadata: Metadata | None = None


class SubjectCreate(RequestModel):
    """A subject to be made, without templates."""

    subject: str
    metadata: Metadata = Field(default_factory=dict)


class SubjectPatch(RequestModel):
    """What of a subject is changed."""

    subject: Annotated[str | None, Field(description="A new name.")] = None
    metadata: Metadata | None = None


class MergeRequest(RequestModel):
    """The subject that is merged into the one of the address, and is no more."""

    subject: str


class PageQuery(RequestModel):
    """Which part of a list."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    cursor: Annotated[str | None, Field(description="`next` of the part before.")] = None


class EnrolOptions(GateOptions):
    """What photos must keep to."""

    faces: Annotated[
        Literal["single", "largest", "central"],
        Field(description="Which face is meant when a photo has several: the `single` one there is is the default."),
    ] = "single"
    min_face_px: Annotated[int, Field(ge=0, description="Shortest side of a face's box, pixels of the photo.")] = 0
    min_norm: Annotated[
        float, Field(ge=0, allow_inf_nan=False, description="Least length of the embedding; models differ in theirs.")
    ] = 0.0

    def requirements(self) -> Requirements:
        """Return what the operation takes."""
        return Requirements(self.faces, self.min_face_px, self.min_norm, self.gate())


class EnrolRequest(EnrolOptions):
    """Photos or embeddings of one subject."""

    images: tuple[EncodedImage, ...] = ()
    embeddings: tuple[AnyEmbedding, ...] = ()

    @model_validator(mode="after")
    def _is_something(self) -> "EnrolRequest":
        _require_something(self.images, self.embeddings)
        return self


class EnrolLine(RequestModel):
    """One photo or embedding of a long enrolment."""

    subject: str
    image: EncodedImage | None = None
    embedding: Vector | None = None
    norm: Annotated[float | None, Field(ge=0, le=LARGEST_NORM)] = None
    quality: Annotated[float | None, Field(ge=0, le=100)] = None
    contract_id: str | None = None

    @model_validator(mode="after")
    def _is_one_thing(self) -> "EnrolLine":
        _require_one(self.image, self.embedding)
        return self

    def content(self) -> Content:
        """Return the image, or the embedding as the operation takes it."""
        if self.image is not None:
            return self.image
        return ReceivedEmbedding(np.asarray(self.embedding), self.norm, self.quality, self.contract_id)


def _read_galleries(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class IdentifyOptions(GateOptions):
    """How probes are looked for."""

    gallery: Annotated[
        tuple[str, ...],
        BeforeValidator(_read_galleries),
        Field(min_length=1, max_length=16, description="One or several galleries."),
    ]
    k: Annotated[int, Field(ge=1, le=1000, description="Most candidates of a face.")] = 5
    fusion: FusionName = "max"
    assign: Annotated[
        Literal["independent", "unique"], Field(description="`unique`: no subject is given to two faces of one photo.")
    ] = "independent"
    faces: FacePolicyName = "all"
    operating_point: Annotated[
        OperatingPointName,
        Field(description="Candidates reach its threshold. `none`: no decision, the nearest whatever they are."),
    ] = None

    def search(self) -> Search:
        """Return what the operation takes."""
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
    """Photos or embeddings of unknown people."""

    images: tuple[EncodedImage, ...] = ()
    embeddings: tuple[AnyEmbedding, ...] = ()

    @model_validator(mode="after")
    def _is_something(self) -> "IdentifyRequest":
        _require_something(self.images, self.embeddings)
        return self


class IdentifyLine(RequestModel):
    """One photo or embedding of a long identification."""

    id: Annotated[str | None, Field(max_length=200, description="Comes back with the answer.")] = None
    image: EncodedImage | None = None
    embedding: Vector | None = None
    contract_id: str | None = None

    @model_validator(mode="after")
    def _is_one_thing(self) -> "IdentifyLine":
        _require_one(self.image, self.embedding)
        return self

    def content(self) -> Content:
        """Return the image, or the embedding as the operation takes it."""
        if self.image is not None:
            return self.image
        return ReceivedEmbedding(np.asarray(self.embedding), contract_id=self.contract_id)


class ConsistencyRequest(RequestModel):
    """What is made sure of."""

    erasure: Annotated[
        bool, Field(description="Also write the store anew, so that nothing erased is in any file. Takes a while.")
    ] = False


def _require_something(images: tuple[bytes, ...], embeddings: tuple[Embedding, ...]) -> None:
    if not images and not embeddings:
        raise PydanticCustomError("member_invalid", "give at least one of `images` and `embeddings`")


def _require_one(image: bytes | None, embedding: Any) -> None:
    if (image is None) == (embedding is None):
        raise PydanticCustomError("member_invalid", "give either `image` or `embedding`")
