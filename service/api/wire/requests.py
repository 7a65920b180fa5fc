"""What comes in over the wire."""

import base64
import binascii
import math
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from models.detection.policy import FacePolicy
from models.quality import Gate, Rejectable
from service.gallery.records import LARGEST_NORM, Fusion
from service.operations import verify
from service.operations.acquire import ReceivedEmbedding

FacePolicyName = Annotated[
    FacePolicy,
    Field(
        description="Which face is meant when a photo has several: the `largest`, the most `central`, the `single` one "
        "there is (several are an error), or `all`."
    ),
]


def _decode(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise PydanticCustomError("base64_malformed", "this is not base64: {reason}", {"reason": str(error)}) from error


EncodedImage = Annotated[
    bytes,
    BeforeValidator(_decode),
    WithJsonSchema({"type": "string", "contentEncoding": "base64", "description": "The image file, base64."}),
]


def _read_point(value: Any) -> str | float | None:
    """Take a rate that came as text, as it does in a form, for what it is."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        raise PydanticCustomError("member_invalid", "give a name or a rate")
    try:
        rate = float(value)
    except OverflowError:
        rate = math.inf
    except ValueError:
        return str(value)
    if not 0 < rate < 1:  # refuses NaN too
        raise PydanticCustomError("member_invalid", "a rate lies between 0 and 1")
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
            "description": "Name (`fmr_1e-3`) or false match rate of a measured operating point; absent: the default.",
        }
    ),
]


FusionName = Annotated[
    Fusion,
    Field(
        description="How similarities to the templates of one subject become one: the largest (`max`), their `mean`, "
        "or the similarity to the template that AdaFace's way makes of all (`quality-weighted`)."
    ),
]


def _refuse_truth(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("member_invalid", "give a number")
    return value


MinQuality = Annotated[
    float,
    BeforeValidator(_refuse_truth),
    Field(
        ge=0,
        le=100,
        description="Least quality of a face of a photo; refused where quality was not validated for this model.",
    ),
]


def _read_reasons(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


REPEATED = ("reject",)  # members that a form or a query may give several times

Rejected = Annotated[
    tuple[Rejectable, ...],
    BeforeValidator(_read_reasons),
    Field(
        description="Reasons for which a face is refused: it is smaller, turned further or cut off more than any face "
        "that the calibration saw, so no error rate was measured for it."
    ),
]


class RequestModel(BaseModel):
    """A part of a request; unknown members are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _read_embedding(value: Any) -> Any:
    """Take a list of numbers, or base64 of float32 numbers, as it stands or as the member of an object."""
    return {"embedding": value} if isinstance(value, list | str) else value


def _read_vector(value: Any) -> NDArray[np.float32]:
    if isinstance(value, str):
        try:
            return np.frombuffer(base64.b64decode(value, validate=True), "<f4").astype(np.float32, copy=False)
        except ValueError as error:
            raise PydanticCustomError("base64_malformed", "this is not base64 of float32 numbers") from error
    numbers = isinstance(value, list) and all(type(number) in (int, float) for number in value)
    if not numbers:
        raise PydanticCustomError("member_invalid", "give a list of numbers, or base64 of float32 numbers")
    try:
        with np.errstate(over="ignore"):  # refused as infinite
            return np.array(value, np.float64).astype(np.float32)
    except OverflowError as error:
        raise PydanticCustomError("member_invalid", "a number is too large") from error


Vector = Annotated[
    Any,
    PlainValidator(_read_vector),
    WithJsonSchema(
        {
            "anyOf": [{"type": "array", "items": {"type": "number"}}, {"type": "string", "contentEncoding": "base64"}],
            "description": "Numbers, or base64 of them as little-endian float32. Made of length 1 if it is not.",
        }
    ),
]


class Embedding(RequestModel):
    """An embedding that was made before."""

    embedding: Vector
    norm: Annotated[
        float | None,
        Field(ge=0, le=LARGEST_NORM, description="Length before it was normalised; by default its own, unless 1."),
    ] = None
    quality: Annotated[float | None, Field(ge=0, le=100, description="0 to 100, higher is better.")] = None
    contract_id: Annotated[str | None, Field(description="Refused if it is not the one that is served.")] = None

    def received(self) -> ReceivedEmbedding:
        """Return it as the operations take it."""
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
    def _is_one_thing(self) -> "Side":
        given = [self.image is not None, self.embedding is not None, self.gallery is not None]
        if sum(given) != 1 or (self.gallery is None) != (self.subject is None):
            raise PydanticCustomError(
                "member_invalid", "give an image, or an embedding, or a gallery and one of its subjects"
            )
        if self.contract_id is not None and self.embedding is None:
            raise PydanticCustomError("member_invalid", "only an embedding has a contract id")
        return self

    def side(self) -> verify.Side:
        """Return it as the operation takes it."""
        if self.image is not None:
            return self.image
        if self.gallery is not None and self.subject is not None:
            return verify.EnrolledSubject(self.gallery, self.subject)
        return ReceivedEmbedding(np.asarray(self.embedding), contract_id=self.contract_id)


class DetectRequest(RequestModel):
    """Photos in which to find faces."""

    images: Annotated[tuple[EncodedImage, ...], Field(min_length=1)]
    faces: FacePolicyName = "all"


class EmbedRequest(DetectRequest):
    """Photos whose faces are to be embedded."""


class GateOptions(RequestModel):
    """What faces of photos must keep to."""

    min_quality: MinQuality = 0.0
    reject: Rejected = ()

    def gate(self) -> Gate:
        """Return what the inference core takes."""
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
        Field(description="Whether to answer `inconclusive` between the ends of the threshold's 95 % interval."),
    ] = False
    prior: Annotated[
        float, Field(gt=0, lt=1, description="Probability of one subject before comparing, for `probability`.")
    ] = 0.5

    def comparison(self) -> verify.Comparison:
        """Return it as the operation takes it."""
        return verify.Comparison(
            probe=self.probe.side(),
            reference=self.reference.side(),
            faces=self.faces,
            fusion=self.fusion,
            operating_point=self.operating_point,
            may_be_inconclusive=self.inconclusive,
            prior=self.prior,
            gate=self.gate(),
        )
