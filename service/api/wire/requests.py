"""Schemas of requests on faces."""

import math
from functools import cache
from typing import Annotated, Any, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from models.detection.policy import FacePolicy
from models.quality import Gate, Rejectable
from service.base64_text import decode_base64
from service.errors import Base64Malformed
from service.gallery.records import MAX_NORM, Fusion
from service.operations import verify
from service.operations.faces import ReceivedEmbedding

FacePolicyName = Annotated[
    FacePolicy,
    Field(
        description="Which face of a photo to use: the `largest`, the most `central`, the `single` face (several are "
        "an error), or `all` faces."
    ),
]


def _decode_image(value: Any) -> Any:
    if isinstance(value, bytes):  # from a form or a raw body
        return value
    if not isinstance(value, str):
        raise PydanticCustomError("member_invalid", "give the file of the image as base64 text")
    return _decode(value)


def _decode(text: str) -> bytes:
    try:
        return decode_base64(text)
    except Base64Malformed as error:
        raise PydanticCustomError("base64_malformed", "{reason}", {"reason": str(error)}) from error


EncodedImage = Annotated[
    bytes,
    BeforeValidator(_decode_image),
    WithJsonSchema(
        {
            "type": "string",
            "contentEncoding": "base64",
            "description": "Image file as base64: plain, with lines, URL-safe, without padding, or as a data URI.",
        }
    ),
]


def _read_point(value: Any) -> str | float | None:
    """Return a rate as a number, even if it is sent as text, as in a form; return other text as a name."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        raise PydanticCustomError("member_invalid", "give the name or the rate of an operating point")
    try:
        rate = float(value)
    except OverflowError:
        rate = math.inf
    except ValueError:
        return str(value)
    if not 0 < rate < 1:  # also refuses NaN
        raise PydanticCustomError("member_invalid", "the rate must be greater than 0 and less than 1")
    return rate


OperatingPointName = Annotated[
    str | float | None,
    PlainValidator(_read_point),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
                {"type": "string", "minLength": 1},
                {"type": "null"},
            ],
            "default": None,
            "description": "Name (`fmr_1e-3`) or false match rate of a measured operating point. Without it, the "
            "default operating point is used.",
        }
    ),
]


FusionName = Annotated[
    Fusion,
    Field(
        description="How the similarities to the templates of one subject become one: their maximum (`max`), their "
        "`mean`, or the similarity to one template that is the weighted sum of all (`quality-weighted`, as in AdaFace)."
    ),
]


MinQuality = Annotated[
    float,
    Field(
        ge=0,
        le=100,
        description="Minimum quality of a face. Refused if quality was not validated for this model.",
    ),
]


def _read_reasons(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


REPEATABLE = ("reject",)  # members that a form or a query may repeat

Rejected = Annotated[
    tuple[Rejectable, ...],
    FailFast(),
    BeforeValidator(_read_reasons),
    Field(
        max_length=16,
        description="Reasons for which a face is refused: it is smaller (`face_too_small`), turned further "
        "(`extreme_pose`) or more cut off (`cut_off`) than the faces of the calibration, so no error rate was measured "
        "for such faces.",
    ),
]


class RequestModel(BaseModel):
    """A part of a request; unknown members are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_boolean(cls, value: Any, field: ValidationInfo) -> Any:
        if isinstance(value, bool) and _is_number(cls, str(field.field_name)):
            raise PydanticCustomError("member_invalid", "the value must be a number")
        return value


@cache
def _is_number(schema: type[BaseModel], name: str) -> bool:
    annotation = schema.model_fields[name].annotation
    return bool({int, float} & {annotation, *get_args(annotation)})


def _read_embedding(value: Any) -> Any:
    """Accept an embedding either on its own or as the member `embedding` of an object."""
    return {"embedding": value} if isinstance(value, list | str) else value


def _read_vector(value: Any) -> NDArray[np.float32]:
    if isinstance(value, str):
        try:
            return np.frombuffer(_decode(value), "<f4").astype(np.float32, copy=False)
        except ValueError as error:  # a number has four bytes
            raise PydanticCustomError("base64_malformed", "not valid base64 of float32 numbers") from error
    numbers = isinstance(value, list) and all(type(number) in (int, float) for number in value)
    if not numbers:
        raise PydanticCustomError("member_invalid", "give a list of numbers, or base64 of float32 numbers")
    try:
        with np.errstate(over="ignore"):  # an overflow becomes infinity, which is refused later
            return np.array(value, np.float64).astype(np.float32)
    except OverflowError as error:
        raise PydanticCustomError("member_invalid", "a number is too large") from error


Vector = Annotated[
    Any,
    PlainValidator(_read_vector),
    WithJsonSchema(
        {
            "anyOf": [{"type": "array", "items": {"type": "number"}}, {"type": "string", "contentEncoding": "base64"}],
            "description": "Embedding as a list of numbers, or as base64 of little-endian float32. It is normalised to "
            "length 1.",
        }
    ),
]


class Embedding(RequestModel):
    """An embedding that was computed earlier."""

    embedding: Vector
    norm: Annotated[
        float | None,
        Field(
            ge=0,
            le=MAX_NORM,
            description="Length before normalisation. Default: the length of `embedding`, unless it is 1.",
        ),
    ] = None
    quality: Annotated[float | None, Field(ge=0, le=100, description="Quality from 0 to 100; higher is better.")] = None
    contract_id: Annotated[
        str | None,
        Field(description="Embedding contract; refused if the served model has another one."),
    ] = None

    def received(self) -> ReceivedEmbedding:
        """Return the embedding as the operations expect it."""
        return ReceivedEmbedding(self.embedding, self.norm, self.quality, self.contract_id)


AnyEmbedding = Annotated[Embedding, BeforeValidator(_read_embedding)]


class Side(RequestModel):
    """One side of a comparison: a photo, an embedding, or a subject with all its templates."""

    image: EncodedImage | None = None
    embedding: Vector | None = None
    contract_id: str | None = None
    gallery: str | None = None
    subject: str | None = None

    @model_validator(mode="after")
    def _has_one_content(self) -> "Side":
        given = [self.image is not None, self.embedding is not None, self.gallery is not None]
        if sum(given) != 1 or (self.gallery is None) != (self.subject is None):
            raise PydanticCustomError(
                "member_invalid", "give either an image, or an embedding, or a gallery and one of its subjects"
            )
        if self.contract_id is not None and self.embedding is None:
            raise PydanticCustomError("member_invalid", "`contract_id` is only valid with an embedding")
        return self

    def side(self) -> verify.Side:
        """Return the side as the operation expects it."""
        if self.image is not None:
            return self.image
        if self.gallery is not None and self.subject is not None:
            return verify.EnrolledSubject(self.gallery, self.subject)
        return ReceivedEmbedding(np.asarray(self.embedding), contract_id=self.contract_id)


class DetectRequest(RequestModel):
    """Photos in which faces are detected."""

    images: Annotated[tuple[EncodedImage, ...], FailFast(), Field(min_length=1)]
    faces: FacePolicyName = "all"


class EmbedRequest(DetectRequest):
    """Photos whose faces are embedded."""


class GateOptions(RequestModel):
    """Requirements of the faces in photos."""

    min_quality: MinQuality = 0.0
    reject: Rejected = ()

    def gate(self) -> Gate:
        """Return the gate of the inference core."""
        return Gate(self.min_quality, self.reject)


class VerifyRequest(GateOptions):
    """Two sides to compare."""

    probe: Side
    reference: Side
    faces: FacePolicyName = "single"
    fusion: FusionName = "max"
    operating_point: OperatingPointName = None
    inconclusive: Annotated[
        bool,
        Field(
            description="Whether the decision is `inconclusive` if the similarity is within the 95 % confidence "
            "interval of the threshold, or if a face or template of the best pair has the quality 0."
        ),
    ] = False
    prior: Annotated[
        float,
        Field(
            gt=0,
            lt=1,
            description="Prior probability that both sides show the same subject; used for `probability`.",
        ),
    ] = 0.5

    def comparison(self) -> verify.Comparison:
        """Return the comparison as the operation expects it."""
        return verify.Comparison(
            probe=self.probe.side(),
            reference=self.reference.side(),
            faces=self.faces,
            fusion=self.fusion,
            operating_point=self.operating_point,
            allow_inconclusive=self.inconclusive,
            prior=self.prior,
            gate=self.gate(),
        )
