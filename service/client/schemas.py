"""The answers of the service and the options of calls, generated from its OpenAPI document.

Do not edit: `REVIEW_OPENAPI=1 .venv/bin/python -m pytest -k reviewed` writes this file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The configuration that a model runs with, as reported by the engine.

    Attributes:
        threads: Total number of CPU threads of all streams; 0 on a device without them.
        streams: Number of concurrent runs, which share the threads.
    """

    engine: str
    version: str
    provider: str
    precision: str
    threads: int
    streams: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model in use.

    Attributes:
        pack: Pack that it comes from; `None` for an exported artefact.
        licence: Licence of the weights, which says nothing about their training data.
        training_data: Faces on which the weights were trained, or that the authors do not document them; `not stated`
            for an exported model.
    """

    name: str
    pack: str | None = None
    licence: str
    training_data: str
    weights_sha256: str
    session: Session


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """A threshold and the error rates that were measured at it.

    Attributes:
        rate: False match rate: proportion of comparisons of different people that match.
        threshold: Minimum similarity of a match.
        interval: 95 % confidence interval of the rate.
        threshold_interval: 95 % confidence interval of the threshold for this rate.
        fnmr: False non-match rate at the threshold on the same data.
        fnmr_interval: 95 % confidence interval of `fnmr`.
        errors: Number of false matches in the measurement.
    """

    name: str
    rate: float
    threshold: float
    interval: tuple[float, ...]
    threshold_interval: tuple[float, ...]
    fnmr: float
    fnmr_interval: tuple[float, ...]
    errors: int
    measured_on: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A bound of the false match rate above the highest similarity of different subjects, by the rule of 3.

    Attributes:
        similarity: Highest similarity of different subjects in the measurement.
        fmr: Upper 95 % bound of the false match rate above that similarity.
    """

    similarity: float
    fmr: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreMap:
    """The map from similarity to log-likelihood ratio, and its quality on held-out subjects.

    Attributes:
        cost: Cllr in bits: 0 is perfect, 1 is uninformative.
        least_cost: Cllr in bits of the best possible monotone map.
        calibration_error: Expected calibration error of the probability.
    """

    method: Literal["logistic", "isotonic"]
    cost: float
    least_cost: float
    calibration_error: float
    folds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """The map from norm to quality, whether quality may refuse faces, and the range of faces in the calibration.

    Attributes:
        because: Why quality was not validated.
        min_side_px: Minimum face size in pixels, without the smallest 0.1 %.
        max_pose: Maximum distance of landmarks from the alignment template, in eye distances, without the largest 0.1
            %.
        max_cut_off: Maximum share of a crop outside its photo, without the largest 0.1 %.
    """

    validated: bool
    because: str | None = None
    norm_mean: float
    norm_deviation: float
    norm_source: Literal["checkpoint", "measured"]
    min_side_px: float | None = None
    max_pose: float | None = None
    max_cut_off: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedGraph:
    """The fastest configuration that was measured for a graph on this machine.

    Attributes:
        largest: Maximum batch size; larger batches are not faster.
        rate: Measured images per second with all streams busy.
    """

    engine: str
    precision: str
    streams: int
    largest: int
    rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """The configurations that were the fastest on this machine.

    Attributes:
        thorough: measured by `vultus tune` in several rounds; otherwise once, within 5 s
    """

    thorough: bool
    measured_at: str
    machine: dict[str, str]
    recognizer: TunedGraph
    detector: TunedGraph


@dataclass(frozen=True, slots=True, kw_only=True)
class InfoResponse:
    """The served models and their calibration.

    Attributes:
        pack: Configured pack; recognizer and detector name the pack that each comes from.
        calibration_mismatch: How the conditions of the calibration differ from what runs, or `None`.
        bound: Bound of the false match rate beyond the strictest operating point.
        score_map: Map from similarity to log-likelihood ratio.
        quality: Map from norm to quality for this model.
        tuning: Tuning from which engine, precision and streams were chosen.
    """

    version: str
    pack: str
    contract_id: str
    recognizer: Model
    detector: Model
    dimensions: int
    alignment_template: str
    operating_points: tuple[OperatingPoint, ...]
    default_operating_point: str | None = None
    calibration_conditions: dict[str, Any] | None = None
    calibration_mismatch: str | None = None
    bound: Bound | None = None
    score_map: ScoreMap | None = None
    quality: Quality | None = None
    uncalibrated_because: str | None = None
    tuning: Tuning | None = None
    untuned_because: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Face:
    """A face. Coordinates are in pixels of the upright photo.

    Attributes:
        box: Corners of the box: x1, y1, x2, y2.
        landmarks: x, y of left eye, right eye, nose, left and right mouth corner.
        score: Confidence of the detector that this is a face.
        quality: Quality from the norm of the embedding; higher is better. `None` without an embedding, or if the model
            has no statistics of norms. `/v1/info` says whether quality was validated for this model.
        reasons: Reasons why the face lies outside the range of the calibration, or below the requested minimum quality.
            A face of quality 0 always has `low_quality`.
    """

    box: tuple[float, ...]
    landmarks: tuple[tuple[float, ...], ...]
    score: float
    quality: float | None = None
    reasons: tuple[Literal["face_too_small", "low_quality", "extreme_pose", "cut_off"], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An error (RFC 9457). `code` is stable; the wording of `title` and `detail` may change.

    Attributes:
        part: Part or member of the request that caused the error.
        duplicate_of: Other subject that has the same photo or embedding.
    """

    type: str
    title: str
    status: int
    code: str
    detail: str
    part: str | None = None
    request_id: str | None = None
    duplicate_of: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectItem:
    """The faces of one photo, or the problem with it.

    Attributes:
        width: Width of the upright photo in pixels.
        omitted_face_count: Number of faces that were found but left out, because the photo has more than the limit.
    """

    status: Literal["ok", "error"]
    width: int | None = None
    height: int | None = None
    faces: tuple[Face, ...] = ()
    omitted_face_count: int = 0
    problem: Problem | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectResponse:
    """One item for each photo, in order."""

    items: tuple[DetectItem, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EmbeddedFace:
    """A face with its embedding.

    Attributes:
        box: Corners of the box: x1, y1, x2, y2.
        landmarks: x, y of left eye, right eye, nose, left and right mouth corner.
        score: Confidence of the detector that this is a face.
        quality: Quality from the norm of the embedding; higher is better. `None` without an embedding, or if the model
            has no statistics of norms. `/v1/info` says whether quality was validated for this model.
        reasons: Reasons why the face lies outside the range of the calibration, or below the requested minimum quality.
            A face of quality 0 always has `low_quality`.
        embedding: Embedding of length 1. Only embeddings with the same contract id can be compared.
        norm: Length of the embedding before normalisation.
    """

    box: tuple[float, ...]
    landmarks: tuple[tuple[float, ...], ...]
    score: float
    quality: float | None = None
    reasons: tuple[Literal["face_too_small", "low_quality", "extreme_pose", "cut_off"], ...] = ()
    embedding: NDArray[np.float32]
    norm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedItem:
    """The embedded faces of one photo, or the problem with it.

    Attributes:
        width: Width of the upright photo in pixels.
        omitted_face_count: Number of faces that were found but left out, because the photo has more than the limit.
    """

    status: Literal["ok", "error"]
    width: int | None = None
    height: int | None = None
    faces: tuple[EmbeddedFace, ...] = ()
    omitted_face_count: int = 0
    problem: Problem | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedResponse:
    """One item for each photo, in order.

    Attributes:
        contract_id: Embedding contract. Only embeddings with the same id can be compared.
    """

    contract_id: str
    items: tuple[EmbedItem, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyResponse:
    """The similarity of two sides, and the decision at an operating point.

    Attributes:
        similarity: Cosine of the two embeddings, fused over templates.
        comparisons: Compared pairs of faces or templates; the fused templates of a subject are one. The best pair of
            faces is reported.
        false_match_rate: Measured rate x comparisons, at most 1; bounds the false match rate of the decision. `None` if
            a face of the best pair has the reason `low_quality`, or a template of it the quality 0, because strangers
            of such quality match far more often.
        log_likelihood_ratio: Natural logarithm of the likelihood ratio of this similarity, same subject over different
            subjects, as calibrated. `None` for the best of several comparisons, for fused templates, and where
            `false_match_rate` is `None`.
        probability: Probability of the same subject, from the ratio and `prior`.
        prior: `prior` of the request.
        uncalibrated_because: Why there is no decision.
        probe: Face of the best pair; `None` if the side is an embedding or a subject.
    """

    similarity: float
    decision: Literal["match", "no_match", "inconclusive"] | None = None
    operating_point: OperatingPoint | None = None
    comparisons: int
    false_match_rate: float | None = None
    log_likelihood_ratio: float | None = None
    probability: float | None = None
    prior: float | None = None
    uncalibrated_because: str | None = None
    probe: Face | None = None
    reference: Face | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A subject that a face resembles.

    Attributes:
        similarity: Cosine, fused over the subject's templates.
    """

    gallery: str
    subject: str
    similarity: float


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentifiedFace:
    """A face and the subjects that it resembles. The result of an embedding has no box.

    Attributes:
        box: Corners of the box in pixels of the upright photo: x1, y1, x2, y2.
        quality: Quality from 0 to 100; higher is better.
        decision: `candidates` or `unknown`, at the operating point; `rejected` if the face was not searched for, with
            the reason in `refusal`. `None` if there is no operating point.
        refusal: Reason why the face was rejected.
        candidates: Best first. All reach the operating point if there is one.
    """

    box: tuple[float, ...] | None = None
    landmarks: tuple[tuple[float, ...], ...] | None = None
    score: float | None = None
    quality: float | None = None
    reasons: tuple[Literal["face_too_small", "low_quality", "extreme_pose", "cut_off"], ...] = ()
    norm: float | None = None
    decision: Literal["candidates", "unknown", "rejected"] | None = None
    refusal: Literal["face_too_small", "low_quality", "extreme_pose", "cut_off"] | None = None
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentifyItem:
    """The faces of one photo, or the problem with it.

    Attributes:
        width: Width of the upright photo in pixels.
    """

    status: Literal["ok", "error"]
    width: int | None = None
    height: int | None = None
    faces: tuple[IdentifiedFace, ...] = ()
    problem: Problem | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentifyResponse:
    """One item for each photo, then one for each embedding, in order.

    Attributes:
        comparisons: Number of templates, or fused subjects, that each face was compared with.
        fpir_bound: Measured rate x comparisons, at most 1: an upper bound of how often a face of a person who is not
            enrolled has a candidate at this operating point. Choose an operating point that keeps it small. It holds
            neither for a face with the reason `low_quality` nor for candidates by a template of quality 0.
        uncalibrated_because: Why there is no decision.
    """

    items: tuple[IdentifyItem, ...]
    operating_point: OperatingPoint | None = None
    comparisons: int
    fpir_bound: float | None = None
    uncalibrated_because: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolItem:
    """The outcome of enrolling one photo or embedding.

    Attributes:
        template: Number of the template that was created or already existed.
        duplicate_of: Other subject that has the same photo or embedding.
    """

    status: Literal["enrolled", "duplicate", "error"]
    template: int | None = None
    face: Face | None = None
    norm: float | None = None
    duplicate_of: str | None = None
    problem: Problem | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolResponse:
    """One item for each photo, then one for each embedding, in order."""

    gallery: str
    subject: str
    items: tuple[EnrolItem, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """A gallery.

    Attributes:
        contract_id: Contract of its embeddings. Only a model with this contract can search it.
        index: Requested kind of index.
        serving: Kind of index that answers; `None` while it is built and the store answers, and for a gallery of
            another contract, which is not searched.
        min_quality: Minimum quality of faces that are enrolled or searched for.
        retain_days: Days after which a template is erased by itself; 0 for no limit.
    """

    gallery: str
    contract_id: str
    dimensions: int
    index: Literal["auto", "flat", "flat-fp16", "sq8", "hnsw"]
    serving: str | None = None
    subject_count: int
    template_count: int
    keep_crops: bool
    min_quality: float
    retain_days: float
    metadata: dict[str, Any]
    created: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GalleryPage:
    """A page of the list of galleries.

    Attributes:
        next: Cursor of the next page; `None` on the last page.
    """

    galleries: tuple[Gallery, ...]
    next: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Proof of an erasure that does not identify the subject.

    Attributes:
        erasure: Number of the erasure.
        log_cut: Whether the store's write-ahead log is already truncated; if not, it is truncated later.
    """

    erasure: int
    what: Literal["gallery", "subject", "template"]
    subject_count: int
    template_count: int
    crop_count: int
    erased: str
    log_cut: bool


class DetectOptions(TypedDict, total=False):
    """Options of `POST /v1/detect`; the service has a default for each.

    Attributes:
        faces: Which face of a photo to use: the `largest`, the most `central`, the `single` face (several are an
            error), or `all` faces.
    """

    faces: Literal["largest", "central", "single", "all"]


class VerifyOptions(TypedDict, total=False):
    """Options of `POST /v1/verify`; the service has a default for each.

    Attributes:
        min_quality: Minimum quality of a face. Refused if quality was not validated for this model.
        reject: Reasons for which a face is refused: it is smaller (`face_too_small`), turned further (`extreme_pose`)
            or more cut off (`cut_off`) than the faces of the calibration, so no error rate was measured for such faces.
        faces: Which face of a photo to use: the `largest`, the most `central`, the `single` face (several are an
            error), or `all` faces.
        fusion: How the similarities to the templates of one subject become one: their maximum (`max`), their `mean`, or
            the similarity to one template that is the weighted sum of all (`quality-weighted`, as in AdaFace).
        operating_point: Name (`fmr_1e-3`) or false match rate of a measured operating point. Without it, the default
            operating point is used.
        inconclusive: Whether the decision is `inconclusive` if the similarity is within the 95 % confidence interval of
            the threshold, or if a face or template of the best pair has the quality 0.
        prior: Prior probability that both sides show the same subject; used for `probability`.
    """

    min_quality: float
    reject: Sequence[Literal["face_too_small", "extreme_pose", "cut_off"]]
    faces: Literal["largest", "central", "single", "all"]
    fusion: Literal["max", "mean", "quality-weighted"]
    operating_point: float | str | None
    inconclusive: bool
    prior: float


class IdentifyOptions(TypedDict, total=False):
    """Options of `POST /v1/identify`; the service has a default for each.

    Attributes:
        min_quality: Minimum quality of a face. Refused if quality was not validated for this model.
        reject: Reasons for which a face is refused: it is smaller (`face_too_small`), turned further (`extreme_pose`)
            or more cut off (`cut_off`) than the faces of the calibration, so no error rate was measured for such faces.
        k: Maximum number of candidates of a face. All faces and embeddings of a request together have at most 100,000.
        fusion: How the similarities to the templates of one subject become one: their maximum (`max`), their `mean`, or
            the similarity to one template that is the weighted sum of all (`quality-weighted`, as in AdaFace).
        assign: `independent` searches for each face on its own; `unique` assigns no subject to two faces of one photo.
        faces: Which face of a photo to use: the `largest`, the most `central`, the `single` face (several are an
            error), or `all` faces.
        operating_point: Name or false match rate of the operating point whose threshold candidates must reach. Without
            it, the default operating point is used; `none` returns the nearest subjects without a decision.
    """

    min_quality: float
    reject: Sequence[Literal["face_too_small", "extreme_pose", "cut_off"]]
    k: int
    fusion: Literal["max", "mean", "quality-weighted"]
    assign: Literal["independent", "unique"]
    faces: Literal["largest", "central", "single", "all"]
    operating_point: float | str | None


class EnrolOptions(TypedDict, total=False):
    """Options of `POST /v1/galleries/{gallery}/subjects/{subject}/templates`; the service has a default for each.

    Attributes:
        min_quality: Minimum quality of a face. Refused if quality was not validated for this model.
        reject: Reasons for which a face is refused: it is smaller (`face_too_small`), turned further (`extreme_pose`)
            or more cut off (`cut_off`) than the faces of the calibration, so no error rate was measured for such faces.
        faces: Which face of a photo to enrol: the `single` face (several are an error), the `largest`, or the most
            `central`.
        min_face_px: Minimum of the shorter side of a face's box, in pixels of the upright photo.
        min_norm: Minimum length of the embedding before normalisation; its range differs between models.
        expires: Time with its offset at which it is erased by itself, within a minute.
    """

    min_quality: float
    reject: Sequence[Literal["face_too_small", "extreme_pose", "cut_off"]]
    faces: Literal["single", "largest", "central"]
    min_face_px: int
    min_norm: float
    expires: str | None


class GalleryOptions(TypedDict, total=False):
    """Options of `POST /v1/galleries`; the service has a default for each.

    Attributes:
        index: How the gallery is searched. `flat` compares every template in float32, `flat-fp16` in half the memory,
            `sq8` in a quarter of it; `hnsw` compares a few of them. `auto` chooses `flat` or `flat-fp16` by the number
            of templates. All kinds but `flat` fetch more candidates and rank them again in float32.
        keep_crops: Store aligned crops with templates. An export has them, so that another model can embed them later.
        min_quality: Minimum quality of a face. Refused if quality was not validated for this model.
        retain_days: Days after which a template is erased by itself, and a subject with its last template; 0 for no
            limit.
        metadata: Any JSON object of your own, at most 16 KiB.
    """

    index: Literal["auto", "flat", "flat-fp16", "sq8", "hnsw"]
    keep_crops: bool
    min_quality: float
    retain_days: float
    metadata: dict[str, Any]
