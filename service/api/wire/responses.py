"""Schemas of responses on faces, problems and the service."""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, JsonValue, SkipValidation, WithJsonSchema

from models.calibration import Decision, OperatingPoint
from models.detection import Face
from models.pipeline import DetectedPhoto, EmbeddedFace, EmbeddedPhoto
from models.quality import Assessment, QualityScale, Reason
from models.serving.models import Models
from models.serving.tuning import GraphTuning, Tuning
from service.operations.faces import JudgedFace
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
        "threshold": 0.431,
        "interval": [0.00005, 0.00026],
        "threshold_interval": [0.417, 0.471],
        "fnmr": 0.0045,
        "fnmr_interval": [0.0023, 0.015],
        "errors": 8718,
        "measured_on": "LFW: 13,224 pictures of 5,749 subjects, 87,189,422 non-mated and 241,054 mated pairs",
    },
    "comparisons": 1,
    "false_match_rate": 0.0001,
    "log_likelihood_ratio": 6.8,
    "probability": 0.9989,
    "prior": 0.5,
    "uncalibrated_because": None,
    "probe": _FACE_EXAMPLE,
    "reference": _FACE_EXAMPLE,
}


class FaceOut(ResponseModel):
    """A face. Coordinates are in pixels of the upright photo."""

    box: Annotated[list[float], Field(min_length=4, max_length=4, description="Corners of the box: x1, y1, x2, y2.")]
    landmarks: Annotated[
        list[list[float]],
        Field(
            min_length=5,
            max_length=5,
            description="x, y of left eye, right eye, nose, left and right mouth corner.",
        ),
    ]
    score: Annotated[float, Field(ge=0, le=1, description="Confidence of the detector that this is a face.")]
    quality: Annotated[
        float | None,
        Field(
            ge=0,
            le=100,
            description="Quality from the norm of the embedding; higher is better. `null` without an embedding, or if "
            "the model has no statistics of norms. `/v1/info` says whether quality was validated for this model.",
        ),
    ] = None
    reasons: Annotated[
        list[Reason],
        Field(
            description="Reasons why the face lies outside the range of the calibration, or below the requested "
            "minimum quality. A face of quality 0 always has `low_quality`."
        ),
    ] = []

    @classmethod
    def of(cls, face: Face, assessment: Assessment) -> "FaceOut":
        """Convert a face of the inference core."""
        return cls(**_coordinates(face), **_judgement(assessment))

    @classmethod
    def of_judged(cls, judged: JudgedFace | None) -> "FaceOut | None":
        """Convert a face that was assessed against a gate; None stays None."""
        return None if judged is None else cls.of(judged.face.face, judged.assessment)


EmbeddingOut = Annotated[
    Any,
    SkipValidation,  # (D,) float32, which is converted when the response is written in the chosen form
    WithJsonSchema(
        {
            "anyOf": [{"type": "array", "items": {"type": "number"}}, {"type": "string", "contentEncoding": "base64"}],
            "description": "Embedding of length 1. Only embeddings with the same contract id can be compared.",
        }
    ),
]


class EmbeddedFaceOut(FaceOut):
    """A face with its embedding."""

    embedding: EmbeddingOut
    norm: Annotated[float, Field(ge=0, description="Length of the embedding before normalisation.")]

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
    """An error (RFC 9457). `code` is stable; the wording of `title` and `detail` may change."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    part: Annotated[str | None, Field(description="Part or member of the request that caused the error.")] = None
    request_id: str | None = None
    duplicate_of: Annotated[str | None, Field(description="Other subject that has the same photo or embedding.")] = None


OmittedFaceCount = Annotated[
    int,
    Field(description="Number of faces that were found but left out, because the photo has more than the limit."),
]


class DetectItem(ResponseModel):
    """The faces of one photo, or the problem with it."""

    status: Literal["ok", "error"]
    width: Annotated[int | None, Field(description="Width of the upright photo in pixels.")] = None
    height: int | None = None
    faces: list[FaceOut] = []
    omitted_face_count: OmittedFaceCount = 0
    problem: Problem | None = None

    @classmethod
    def of(cls, photo: DetectedPhoto, models: Models) -> "DetectItem":
        """Convert a photo of the inference core."""
        faces = [FaceOut.of(face, models.assess(face, (photo.width, photo.height))) for face in photo.faces]
        return cls(status="ok", width=photo.width, height=photo.height, faces=faces, omitted_face_count=photo.omitted)


class DetectResponse(ResponseModel):
    """One item for each photo, in order."""

    items: list[DetectItem]


class EmbedItem(ResponseModel):
    """The embedded faces of one photo, or the problem with it."""

    status: Literal["ok", "error"]
    width: Annotated[int | None, Field(description="Width of the upright photo in pixels.")] = None
    height: int | None = None
    faces: list[EmbeddedFaceOut] = []
    omitted_face_count: OmittedFaceCount = 0
    problem: Problem | None = None

    @classmethod
    def of(cls, photo: EmbeddedPhoto, models: Models) -> "EmbedItem":
        """Convert a photo of the inference core."""
        size = (photo.width, photo.height)
        faces = [EmbeddedFaceOut.of_embedded(face, models.assess(face.face, size, face.norm)) for face in photo.faces]
        return cls(status="ok", width=photo.width, height=photo.height, faces=faces, omitted_face_count=photo.omitted)


class EmbedResponse(ResponseModel):
    """One item for each photo, in order."""

    contract_id: Annotated[
        str, Field(description="Embedding contract. Only embeddings with the same id can be compared.")
    ]
    items: list[EmbedItem]


class OperatingPointOut(ResponseModel):
    """A threshold and the error rates that were measured at it."""

    name: str
    rate: Annotated[
        float, Field(description="False match rate: proportion of comparisons of different people that match.")
    ]
    threshold: Annotated[float, Field(description="Minimum similarity of a match.")]
    interval: Annotated[
        list[float], Field(min_length=2, max_length=2, description="95 % confidence interval of the rate.")
    ]
    threshold_interval: Annotated[
        list[float],
        Field(min_length=2, max_length=2, description="95 % confidence interval of the threshold for this rate."),
    ]
    fnmr: Annotated[float, Field(description="False non-match rate at the threshold on the same data.")]
    fnmr_interval: Annotated[
        list[float], Field(min_length=2, max_length=2, description="95 % confidence interval of `fnmr`.")
    ]
    errors: Annotated[int, Field(description="Number of false matches in the measurement.")]
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
    """The similarity of two sides, and the decision at an operating point."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"example": _VERIFY_EXAMPLE})

    similarity: Annotated[float, Field(ge=-1, le=1, description="Cosine of the two embeddings, fused over templates.")]
    decision: Decision | None
    operating_point: OperatingPointOut | None
    comparisons: Annotated[
        int,
        Field(
            ge=1,
            description="Compared pairs of faces or templates; the fused templates of a subject are one. "
            "The best pair of faces is reported.",
        ),
    ]
    false_match_rate: Annotated[
        float | None,
        Field(
            description="Measured rate x comparisons, at most 1; bounds the false match rate of the decision. `null` "
            "if a face of the best pair has the reason `low_quality`, or a template of it the quality 0, because "
            "strangers of such quality match far more often."
        ),
    ]
    log_likelihood_ratio: Annotated[
        float | None,
        Field(
            description="Natural logarithm of the likelihood ratio of this similarity, same subject over "
            "different subjects, as calibrated. `null` for the best of several comparisons, for fused templates, "
            "and where `false_match_rate` is `null`."
        ),
    ] = None
    probability: Annotated[
        float | None,
        Field(ge=0, le=1, description="Probability of the same subject, from the ratio and `prior`."),
    ] = None
    prior: Annotated[float | None, Field(description="`prior` of the request.")] = None
    uncalibrated_because: Annotated[str | None, Field(description="Why there is no decision.")] = None
    probe: Annotated[
        FaceOut | None, Field(description="Face of the best pair; `null` if the side is an embedding or a subject.")
    ]
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
    """The configuration that a model runs with, as reported by the engine."""

    engine: str
    version: str
    provider: str
    precision: str
    threads: Annotated[
        int, Field(description="Total number of CPU threads of all streams; 0 on a device without them.")
    ]
    streams: Annotated[int, Field(description="Number of concurrent runs, which share the threads.")]


class ModelOut(ResponseModel):
    """A model in use."""

    name: str
    pack: Annotated[str | None, Field(description="Pack that it comes from; `null` for an exported artefact.")]
    licence: Annotated[str, Field(description="Licence of the weights, which says nothing about their training data.")]
    training_data: Annotated[
        str,
        Field(
            description="Faces on which the weights were trained, or that the authors do not document them; "
            "`not stated` for an exported model."
        ),
    ]
    weights_sha256: str
    session: SessionOut


class BoundOut(ResponseModel):
    """A bound of the false match rate above the highest similarity of different subjects, by the rule of 3."""

    similarity: Annotated[float, Field(description="Highest similarity of different subjects in the measurement.")]
    fmr: Annotated[float, Field(description="Upper 95 % bound of the false match rate above that similarity.")]


class ScoreMapOut(ResponseModel):
    """The map from similarity to log-likelihood ratio, and its quality on held-out subjects."""

    method: Literal["logistic", "isotonic"]
    cost: Annotated[float, Field(description="Cllr in bits: 0 is perfect, 1 is uninformative.")]
    least_cost: Annotated[float, Field(description="Cllr in bits of the best possible monotone map.")]
    calibration_error: Annotated[float, Field(description="Expected calibration error of the probability.")]
    folds: int


class QualityOut(ResponseModel):
    """The map from norm to quality, whether quality may refuse faces, and the range of faces in the calibration."""

    validated: bool
    because: Annotated[str | None, Field(description="Why quality was not validated.")]
    norm_mean: float
    norm_deviation: float
    norm_source: Literal["checkpoint", "measured"]
    min_side_px: Annotated[
        float | None, Field(description="Minimum face size in pixels, without the smallest 0.1 %.")
    ] = None
    max_pose: Annotated[
        float | None,
        Field(
            description="Maximum distance of landmarks from the alignment template, in eye distances, without the "
            "largest 0.1 %."
        ),
    ] = None
    max_cut_off: Annotated[
        float | None, Field(description="Maximum share of a crop outside its photo, without the largest 0.1 %.")
    ] = None

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
    """The fastest configuration that was measured for a graph on this machine."""

    engine: str
    precision: str
    streams: int
    largest: Annotated[int, Field(description="Maximum batch size; larger batches are not faster.")]
    rate: Annotated[float, Field(description="Measured images per second with all streams busy.")]

    @classmethod
    def of(cls, tuned: GraphTuning) -> "TunedGraphOut":
        """Convert the tuning of a graph."""
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
    """The configurations that were the fastest on this machine."""

    thorough: Annotated[
        bool, Field(description="measured by `vultus tune` in several rounds; otherwise once, within 5 s")
    ]
    measured_at: str
    machine: dict[str, str]
    recognizer: TunedGraphOut
    detector: TunedGraphOut

    @classmethod
    def of(cls, tuning: Tuning) -> "TuningOut":
        """Convert a tuning of the inference core."""
        return cls(
            thorough=tuning.thorough,
            measured_at=tuning.measured_at,
            machine=tuning.key.machine,
            recognizer=TunedGraphOut.of(tuning.recognizer),
            detector=TunedGraphOut.of(tuning.detector),
        )


class InfoResponse(ResponseModel):
    """The served models and their calibration."""

    version: str
    pack: Annotated[
        str, Field(description="Configured pack; recognizer and detector name the pack that each comes from.")
    ]
    contract_id: str
    recognizer: ModelOut
    detector: ModelOut
    dimensions: int
    alignment_template: str
    operating_points: list[OperatingPointOut]
    default_operating_point: str | None
    calibration_conditions: dict[str, bool | int | float | str] | None
    calibration_mismatch: Annotated[
        str | None,
        Field(description="How the conditions of the calibration differ from what runs, or `null`."),
    ]
    bound: Annotated[
        BoundOut | None, Field(description="Bound of the false match rate beyond the strictest operating point.")
    ]
    score_map: Annotated[ScoreMapOut | None, Field(description="Map from similarity to log-likelihood ratio.")]
    quality: Annotated[QualityOut | None, Field(description="Map from norm to quality for this model.")]
    uncalibrated_because: str | None
    tuning: Annotated[
        TuningOut | None, Field(description="Tuning from which engine, precision and streams were chosen.")
    ]
    untuned_because: str | None


class Health(ResponseModel):
    """The state of the service."""

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
