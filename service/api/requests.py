"""What comes in over the wire."""

import base64
import binascii
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from models import pipeline

FacePolicy = Annotated[
    pipeline.FacePolicy,
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


def _read_number(value: Any) -> Any:
    """Take a number that came as text, as it does in a form, for what it is."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


OperatingPointName = Annotated[
    Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] | Annotated[str, Field(min_length=1)] | None,
    BeforeValidator(_read_number),
    Field(
        description="Name (`fmr_1e-3`) or false match rate of a measured operating point; the default one if absent."
    ),
]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ImageSide(_Request):
    """One side of a comparison."""

    image: EncodedImage


class DetectRequest(_Request):
    """Photos in which to find faces."""

    images: Annotated[tuple[EncodedImage, ...], Field(min_length=1)]
    faces: FacePolicy = "all"


class EmbedRequest(DetectRequest):
    """Photos whose faces are to be embedded."""


class VerifyRequest(_Request):
    """Two photos to compare."""

    probe: ImageSide
    reference: ImageSide
    faces: FacePolicy = "single"
    operating_point: OperatingPointName = None
