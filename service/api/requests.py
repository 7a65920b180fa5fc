"""What comes in over the wire."""

import base64
import binascii
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from models import cropping

FacePolicy = Annotated[
    cropping.FacePolicy,
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
