"""What goes out over the wire."""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from models.calibration import OperatingPoint
from models.cropping import DetectedPhoto
from models.detection import Face
from models.pipeline import EmbeddedFace, EmbeddedPhoto


class Response(BaseModel):
    """What leaves is not changed any more."""

    model_config = ConfigDict(frozen=True)


_FACE_EXAMPLE: dict[str, JsonValue] = {
    "box": [178.1, 62.4, 268.2, 176.4],
    "landmarks": [[200.1, 101.8], [247.1, 102.5], [220.3, 124.7], [198.9, 143.1], [239.9, 143.9]],
    "score": 0.931,
}
_VERIFY_EXAMPLE: dict[str, JsonValue] = {
    "similarity": 0.861,
    "decision": "match",
    "operating_point": {
        "name": "fmr_1e-3",
        "rate": 0.001,
        "threshold": 0.361,
        "interval": [0.0002, 0.0029],
        "fnmr": 0.012,
        "measured_on": "LFW View 2, 3,000 non-mated and 3,000 mated pairs",
    },
    "comparisons": 1,
    "false_match_rate": 0.001,
    "uncalibrated_because": None,
    "probe": _FACE_EXAMPLE,
    "reference": _FACE_EXAMPLE,
}


class FaceOut(Response):
    """A face. Coordinates are pixels of the upright photo."""

    box: Annotated[list[float], Field(min_length=4, max_length=4, description="x1, y1, x2, y2")]
    landmarks: Annotated[
        list[list[float]],
        Field(min_length=5, max_length=5, description="left eye, right eye, nose, left and right mouth corner; x, y"),
    ]
    score: Annotated[float, Field(ge=0, le=1, description="The detector's confidence; says nothing about identity.")]

    @classmethod
    def of(cls, face: Face) -> "FaceOut":
        """Convert a face of the inference core."""
        return cls(**_coordinates(face))


class EmbeddedFaceOut(FaceOut):
    """A face with its embedding."""

    embedding: Annotated[list[float], Field(description="Of length 1; comparable under the same contract id only.")]
    norm: Annotated[float, Field(ge=0, description="Length of the embedding before it was normalised.")]

    @classmethod
    def of_embedded(cls, embedded: EmbeddedFace) -> "EmbeddedFaceOut":
        """Convert a face of the inference core."""
        return cls(**_coordinates(embedded.face), embedding=embedded.embedding.tolist(), norm=embedded.norm)


class Problem(Response):
    """An error (RFC 9457). `code` is stable; `detail` is for people."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    part: Annotated[str | None, Field(description="The part or member of the request that is meant.")] = None
    request_id: str | None = None
    duplicate_of: Annotated[str | None, Field(description="The subject that has the same photo already.")] = None


class DetectItem(Response):
    """The faces of one photo, or why there are none."""

    status: Literal["ok", "error"]
    width: Annotated[int | None, Field(description="Of the upright photo, pixels.")] = None
    height: int | None = None
    faces: list[FaceOut] = []
    problem: Problem | None = None

    @classmethod
    def of(cls, photo: DetectedPhoto) -> "DetectItem":
        """Convert a photo of the inference core."""
        faces = [FaceOut.of(face) for face in photo.faces]
        return cls(status="ok", width=photo.width, height=photo.height, faces=faces)


class DetectResponse(Response):
    """One item for each photo, in order."""

    items: list[DetectItem]


class EmbedItem(Response):
    """The embedded faces of one photo, or why there are none."""

    status: Literal["ok", "error"]
    width: Annotated[int | None, Field(description="Of the upright photo, pixels.")] = None
    height: int | None = None
    faces: list[EmbeddedFaceOut] = []
    problem: Problem | None = None

    @classmethod
    def of(cls, photo: EmbeddedPhoto) -> "EmbedItem":
        """Convert a photo of the inference core."""
        faces = [EmbeddedFaceOut.of_embedded(face) for face in photo.faces]
        return cls(status="ok", width=photo.width, height=photo.height, faces=faces)


class EmbedResponse(Response):
    """One item for each photo, in order."""

    contract_id: Annotated[str, Field(description="Embeddings of different ids must not be compared.")]
    items: list[EmbedItem]


class OperatingPointOut(Response):
    """A threshold and what it costs, as measured."""

    name: str
    rate: Annotated[float, Field(description="False match rate: share of comparisons of different people that match.")]
    threshold: Annotated[float, Field(description="Similarity from which on two faces match.")]
    interval: Annotated[list[float], Field(min_length=2, max_length=2, description="95 % interval of the rate.")]
    fnmr: Annotated[float, Field(description="False non-match rate that the threshold cost on the same data.")]
    measured_on: str

    @classmethod
    def of(cls, point: OperatingPoint) -> "OperatingPointOut":
        """Convert an operating point of the inference core."""
        return cls(
            name=point.name,
            rate=point.rate,
            threshold=point.threshold,
            interval=list(point.interval),
            fnmr=point.fnmr,
            measured_on=point.measured_on,
        )


class VerifyResponse(Response):
    """A similarity, and the decision that a measured error rate allows."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"example": _VERIFY_EXAMPLE})

    similarity: Annotated[float, Field(ge=-1, le=1, description="Cosine of the two embeddings, fused over templates.")]
    decision: Literal["match", "no_match"] | None
    operating_point: OperatingPointOut | None
    comparisons: Annotated[
        int, Field(ge=1, description="Pairs of faces or templates compared; the best pair of faces is reported.")
    ]
    false_match_rate: Annotated[
        float | None,
        Field(description="Measured rate x comparisons: how often photos without a common person match."),
    ]
    uncalibrated_because: Annotated[str | None, Field(description="Why there is no decision.")] = None
    probe: Annotated[FaceOut | None, Field(description="None where an embedding or a subject was given.")]
    reference: FaceOut | None


class SessionOut(Response):
    """What really runs."""

    engine: str
    version: str
    provider: str
    precision: str
    threads: int


class ModelOut(Response):
    """A model in use."""

    name: str
    licence: str
    weights_sha256: str
    session: SessionOut


class InfoResponse(Response):
    """What is served."""

    version: str
    pack: str
    contract_id: str
    recognizer: ModelOut
    detector: ModelOut
    dimensions: int
    template: str
    operating_points: list[OperatingPointOut]
    default_operating_point: str | None
    calibration_conditions: dict[str, str | int | float] | None
    uncalibrated_because: str | None


class Health(Response):
    """The process is there."""

    status: Literal["alive", "ready"]


def _coordinates(face: Face) -> dict[str, Any]:
    return {
        "box": np.round(face.box.astype(float), 2).tolist(),
        "landmarks": np.round(face.landmarks.astype(float), 2).tolist(),
        "score": min(1.0, face.score),
    }
