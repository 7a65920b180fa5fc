"""What goes out over the wire."""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, JsonValue, SkipValidation, WithJsonSchema

from models.calibration import Decision, OperatingPoint
from models.detection import Face
from models.pipeline import DetectedPhoto, EmbeddedFace, EmbeddedPhoto
from models.quality import Assessment, QualityScale, Reason
from models.serving.models import Models
from models.serving.tuning import GraphTuning, Tuning
from service.operations.acquire import JudgedFace
from service.operations.verify import Verification


class ResponseModel(BaseModel):
    """A part of a response."""

    model_config = ConfigDict(frozen=True)


_FACE_EXAMPLE: dict[str, JsonValue] = {
    "box": [178.1, 62.4, 268.2, 176.4],
    "landmarks": [[200.1, 101.8], [247.1, 102.5], [220.3, 124.7], [198.9, 143.1], [239.9, 143.9]],
    "score": 0.931,
    "quality": 47.26,
    "reasons": [],
}
_VERIFY_EXAMPLE: dict[str, JsonValue] = {
    "similarity": 0.861,
    "decision": "match",
    "operating_point": {
        "name": "fmr_1e-4",
        "rate": 0.0001,
        "threshold": 0.43,
        "interval": [0.00005, 0.00026],
        "threshold_interval": [0.416, 0.47],
        "fnmr": 0.0047,
        "fnmr_interval": [0.0024, 0.016],
        "errors": 8730,
        "measured_on": "LFW: 13,233 pictures of 5,749 subjects, 87,307,271 non-mated and 242,257 mated pairs",
    },
    "comparisons": 1,
    "false_match_rate": 0.0001,
    "log_likelihood_ratio": 13.5,
    "probability": 0.9999987,
    "prior": 0.5,
    "uncalibrated_because": None,
    "probe": _FACE_EXAMPLE,
    "reference": _FACE_EXAMPLE,
}


class FaceOut(ResponseModel):
    """A face. Coordinates are pixels of the upright photo."""

    box: Annotated[list[float], Field(min_length=4, max_length=4, description="x1, y1, x2, y2")]
    landmarks: Annotated[
        list[list[float]],
        Field(min_length=5, max_length=5, description="left eye, right eye, nose, left and right mouth corner; x, y"),
    ]
    score: Annotated[float, Field(ge=0, le=1, description="The detector's confidence; says nothing about identity.")]
    quality: Annotated[
        float | None,
        Field(
            ge=0,
            le=100,
            description="Of the feature norm, higher is better; None without an embedding, or statistics of norms. "
            "`/v1/info` says whether it was validated for this model.",
        ),
    ] = None
    reasons: Annotated[
        list[Reason],
        Field(description="In which ways the face lies outside of what the calibration saw or the request asks for."),
    ] = []

    @classmethod
    def of(cls, face: Face, assessment: Assessment) -> "FaceOut":
        """Convert a face of the inference core."""
        return cls(**_coordinates(face), **_judgement(assessment))

    @classmethod
    def of_judged(cls, judged: JudgedFace | None) -> "FaceOut | None":
        """Convert a face that was held to a gate; None stays None."""
        return None if judged is None else cls.of(judged.face.face, judged.assessment)


EmbeddingOut = Annotated[
    Any,
    SkipValidation,  # (D,) float32: what writes the answer knows the form that was asked for
    WithJsonSchema(
        {
            "anyOf": [{"type": "array", "items": {"type": "number"}}, {"type": "string", "contentEncoding": "base64"}],
            "description": "Of length 1; comparable under the same contract id only.",
        }
    ),
]


class EmbeddedFaceOut(FaceOut):
    """A face with its embedding."""

    embedding: EmbeddingOut
    norm: Annotated[float, Field(ge=0, description="Length of the embedding before it was normalised.")]

    @classmethod
    def of_embedded(cls, embedded: EmbeddedFace, assessment: Assessment) -> "EmbeddedFaceOut":
        """Convert a face of the inference core."""
        return cls(
            **_coordinates(embedded.face),
            **_judgement(assessment),
            embedding=embedded.embedding,
            norm=embedded.norm,
        )


class Problem(ResponseModel):
    """An error (RFC 9457). `code` is stable; `detail` is for people."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    part: Annotated[str | None, Field(description="The part or member of the request that is meant.")] = None
    request_id: str | None = None
    duplicate_of: Annotated[str | None, Field(description="The subject that has the same photo already.")] = None


class DetectItem(ResponseModel):
    """The faces of one photo, or why there are none."""

    status: Literal["ok", "error"]
    width: Annotated[int | None, Field(description="Of the upright photo, pixels.")] = None
    height: int | None = None
    faces: list[FaceOut] = []
    problem: Problem | None = None

    @classmethod
    def of(cls, photo: DetectedPhoto, models: Models) -> "DetectItem":
        """Convert a photo of the inference core."""
        faces = [FaceOut.of(face, models.assess(face, (photo.width, photo.height))) for face in photo.faces]
        return cls(status="ok", width=photo.width, height=photo.height, faces=faces)


class DetectResponse(ResponseModel):
    """One item for each photo, in order."""

    items: list[DetectItem]


class EmbedItem(ResponseModel):
    """The embedded faces of one photo, or why there are none."""

    status: Literal["ok", "error"]
    width: Annotated[int | None, Field(description="Of the upright photo, pixels.")] = None
    height: int | None = None
    faces: list[EmbeddedFaceOut] = []
    problem: Problem | None = None

    @classmethod
    def of(cls, photo: EmbeddedPhoto, models: Models) -> "EmbedItem":
        """Convert a photo of the inference core."""
        size = (photo.width, photo.height)
        faces = [EmbeddedFaceOut.of_embedded(face, models.assess(face.face, size, face.norm)) for face in photo.faces]
        return cls(status="ok", width=photo.width, height=photo.height, faces=faces)


class EmbedResponse(ResponseModel):
    """One item for each photo, in order."""

    contract_id: Annotated[str, Field(description="Embeddings of different ids must not be compared.")]
    items: list[EmbedItem]


class OperatingPointOut(ResponseModel):
    """A threshold and what it costs, as measured."""

    name: str
    rate: Annotated[float, Field(description="False match rate: share of comparisons of different people that match.")]
    threshold: Annotated[float, Field(description="Similarity from which on two faces match.")]
    interval: Annotated[list[float], Field(min_length=2, max_length=2, description="95 % interval of the rate.")]
    threshold_interval: Annotated[
        list[float], Field(min_length=2, max_length=2, description="95 % interval of the threshold for this rate.")
    ]
    fnmr: Annotated[float, Field(description="False non-match rate that the threshold cost on the same data.")]
    fnmr_interval: Annotated[list[float], Field(min_length=2, max_length=2, description="95 % interval of that.")]
    errors: Annotated[int, Field(description="False matches that were seen when it was measured.")]
    measured_on: str

    @classmethod
    def of(cls, point: OperatingPoint) -> "OperatingPointOut":
        """Convert an operating point of the inference core."""
        return cls(
            name=point.name,
            rate=point.rate,
            threshold=point.threshold,
            interval=list(point.interval),
            threshold_interval=list(point.threshold_interval),
            fnmr=point.fnmr,
            fnmr_interval=list(point.fnmr_interval),
            errors=point.errors,
            measured_on=point.measured_on,
        )


class VerifyResponse(ResponseModel):
    """A similarity, and the decision that a measured error rate allows."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"example": _VERIFY_EXAMPLE})

    similarity: Annotated[float, Field(ge=-1, le=1, description="Cosine of the two embeddings, fused over templates.")]
    decision: Decision | None
    operating_point: OperatingPointOut | None
    comparisons: Annotated[
        int, Field(ge=1, description="Pairs of faces or templates compared; the best pair of faces is reported.")
    ]
    false_match_rate: Annotated[
        float | None,
        Field(description="Measured rate x comparisons: how often photos without a common person match."),
    ]
    log_likelihood_ratio: Annotated[
        float | None,
        Field(
            description="How much likelier this similarity is for one subject than for two, natural logarithm, as "
            "calibrated on the data of the operating point; None for the best of several comparisons."
        ),
    ] = None
    probability: Annotated[
        float | None, Field(ge=0, le=1, description="Of one subject, from that ratio and `prior`.")
    ] = None
    prior: Annotated[float | None, Field(description="As the request gives it.")] = None
    uncalibrated_because: Annotated[str | None, Field(description="Why there is no decision.")] = None
    probe: Annotated[FaceOut | None, Field(description="None where an embedding or a subject was given.")]
    reference: FaceOut | None

    @classmethod
    def of(cls, verification: Verification, prior: float, uncalibrated_because: str | None) -> "VerifyResponse":
        """Convert the result of a verification."""
        point = verification.point
        return cls(
            similarity=verification.similarity,
            decision=verification.decision,
            operating_point=OperatingPointOut.of(point) if point else None,
            comparisons=verification.comparisons,
            false_match_rate=verification.false_match_rate,
            log_likelihood_ratio=verification.log_likelihood_ratio,
            probability=verification.probability,
            prior=None if verification.probability is None else prior,
            uncalibrated_because=uncalibrated_because,
            probe=FaceOut.of_judged(verification.probe),
            reference=FaceOut.of_judged(verification.reference),
        )


class SessionOut(ResponseModel):
    """What really runs."""

    engine: str
    version: str
    provider: str
    precision: str
    threads: Annotated[int, Field(description="Of all streams together; 0 where the device has none to count.")]
    streams: Annotated[int, Field(description="Runs side by side, which share the threads.")]


class ModelOut(ResponseModel):
    """A model in use."""

    name: str
    licence: str
    weights_sha256: str
    session: SessionOut


class BoundOut(ResponseModel):
    """By the rule of 3: no error was seen above a similarity."""

    similarity: Annotated[float, Field(description="Highest that two subjects had.")]
    fmr: Annotated[float, Field(description="Upper 95 % bound of the false match rate above it.")]


class ScoreMapOut(ResponseModel):
    """How similarity becomes a log-likelihood ratio, and how well, on held-out subjects."""

    method: Literal["logistic", "isotonic"]
    cost: Annotated[float, Field(description="Cllr in bits: 0 is perfect, 1 says nothing.")]
    least_cost: Annotated[float, Field(description="The same of the best monotone map there could be.")]
    calibration_error: Annotated[float, Field(description="Expected calibration error of the probability.")]
    folds: int


class QualityOut(ResponseModel):
    """How norms become quality, and whether it may gate."""

    validated: bool
    because: Annotated[str | None, Field(description="Why it may not gate.")]
    norm_mean: float
    norm_deviation: float
    norm_source: Literal["checkpoint", "measured"]
    min_side_px: Annotated[
        float | None, Field(description="Smallest face that was measured, but for one in a thousand.")
    ] = None
    max_pose: Annotated[float | None, Field(description="Largest distance of landmarks from the template.")] = None
    max_cut_off: Annotated[float | None, Field(description="Largest share of a crop beyond its photo.")] = None

    @classmethod
    def of(cls, scale: QualityScale) -> "QualityOut":
        """Convert a scale of the inference core."""
        return cls(
            validated=scale.validated,
            because=scale.because,
            norm_mean=scale.statistics.mean,
            norm_deviation=scale.statistics.deviation,
            norm_source=scale.source,
            **(scale.seen._asdict() if scale.seen else {}),
        )


class TunedGraphOut(ResponseModel):
    """How a graph runs fastest on this machine, as measured."""

    engine: str
    precision: str
    streams: int
    largest: Annotated[int, Field(description="Most pictures of one run; more do not pay.")]
    rate: Annotated[float, Field(description="Pictures a second that were measured, all streams busy.")]

    @classmethod
    def of(cls, tuned: GraphTuning) -> "TunedGraphOut":
        """Convert what the inference core measured."""
        chosen = tuned.chosen
        choice = chosen.choice
        return cls(
            engine=choice.engine,
            precision=choice.precision,
            streams=choice.streams,
            largest=chosen.batch,
            rate=chosen.rate,
        )


class TuningOut(ResponseModel):
    """What `vultus tune` chose on this machine."""

    measured_at: str
    machine: dict[str, str]
    recognizer: TunedGraphOut
    detector: TunedGraphOut

    @classmethod
    def of(cls, tuning: Tuning) -> "TuningOut":
        """Convert what the inference core measured."""
        return cls(
            measured_at=tuning.measured_at,
            machine=tuning.key.machine,
            recognizer=TunedGraphOut.of(tuning.recognizer),
            detector=TunedGraphOut.of(tuning.detector),
        )


class InfoResponse(ResponseModel):
    """What is served."""

    version: str
    pack: str
    contract_id: str
    recognizer: ModelOut
    detector: ModelOut
    dimensions: int
    alignment_template: str
    operating_points: list[OperatingPointOut]
    default_operating_point: str | None
    calibration_conditions: dict[str, bool | int | float | str] | None
    calibration_mismatch: Annotated[
        str | None, Field(description="In what the calibration was measured otherwise than it is served.")
    ]
    bound: Annotated[BoundOut | None, Field(description="What can be said beyond the strictest operating point.")]
    score_map: Annotated[ScoreMapOut | None, Field(description="Where log-likelihood ratios come from.")]
    quality: Annotated[QualityOut | None, Field(description="What is known of quality with this model.")]
    uncalibrated_because: str | None
    tuning: Annotated[TuningOut | None, Field(description="Why engine, precision and streams are what they are.")]
    untuned_because: str | None


class Health(ResponseModel):
    """The process is there."""

    status: Literal["alive", "ready"]


def _judgement(assessment: Assessment) -> dict[str, Any]:
    quality = None if assessment.quality is None else round(assessment.quality, 2)
    return {"quality": quality, "reasons": list(assessment.reasons)}


def _coordinates(face: Face) -> dict[str, Any]:
    return {
        "box": np.round(face.box.astype(float), 2).tolist(),
        "landmarks": np.round(face.landmarks.astype(float), 2).tolist(),
        "score": min(1.0, face.score),
    }
