"""Acquisition (ISO/IEC 19795-1): create templates from images and embeddings, or report why that failed."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from models.deadline import Deadline
from models.detection.policy import FacePolicy
from models.errors import FaceError, FaceTooSmall, LowQuality, VultusError
from models.pipeline import EmbeddedFace, EmbeddedPhoto
from models.quality import NO_GATE, Assessment, Gate
from models.serving.models import Models
from service.gallery.embeddings import source_of, unit_vector
from service.gallery.galleries import Galleries
from service.gallery.records import NewTemplate


@dataclass(frozen=True, slots=True, eq=False)
class ReceivedEmbedding:
    """An embedding that was computed earlier, elsewhere.

    Attributes:
        values: (D,) float32, of any length.
        norm: Length before normalisation. If None, the length of `values` is used, unless it is 1.
        quality: Quality from 0 to 100, higher is better; None if unknown.
        contract_id: Embedding contract; None if the sender does not name one.
    """

    values: NDArray[np.float32]
    norm: float | None = None
    quality: float | None = None
    contract_id: str | None = None


Content = bytes | ReceivedEmbedding
"""An encoded image, or an embedding."""


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a photo must meet to be enrolled.

    Attributes:
        faces: Policy that selects the one face of a photo to enrol; not `all`.
        min_face_px: Minimum of the shorter side of the face's box, in pixels of the upright photo.
        min_norm: Minimum length of the embedding before normalisation; its range differs between models.
        gate: Minimum quality, and reasons for which a face is refused.
        keep_crop: Whether the aligned crop is stored with the template.
    """

    faces: FacePolicy = "single"
    min_face_px: int = 0
    min_norm: float = 0.0
    gate: Gate = NO_GATE
    keep_crop: bool = False


class JudgedFace(NamedTuple):
    """A face of a photo, its assessment, and the error with which the gate refuses it, or None."""

    face: EmbeddedFace
    assessment: Assessment
    refusal: FaceError | None


class Acquired(NamedTuple):
    """A face that met the requirements, and the template made from it."""

    face: EmbeddedFace
    assessment: Assessment
    template: NewTemplate


def judge_faces(models: Models, photo: EmbeddedPhoto, gate: Gate) -> list[JudgedFace]:
    """Assess each face of a photo against a gate, and return the faces in order."""
    size = (photo.width, photo.height)
    faces = []
    for face in photo.faces:
        assessment = models.assess(face.face, size, face.norm, gate.min_quality)
        faces.append(JudgedFace(face, assessment, gate.refusal(assessment, models.quality)))
    return faces


def image_source(image: bytes) -> bytes:
    """Return the SHA-256 of an image file, by which a gallery recognises duplicates."""
    return hashlib.sha256(image).digest()


def template_of(galleries: Galleries, received: ReceivedEmbedding) -> NewTemplate:
    """Create a template from an embedding.

    Raises:
        ContractMismatch: The embedding belongs to another contract than the galleries.
        EmbeddingWrongDimension: The embedding does not have the dimension of the model's embeddings.
        EmbeddingNotFinite: The embedding contains NaN or infinity.
        EmbeddingZero: The embedding is zero.
    """
    if received.contract_id is not None:
        galleries.require_contract(received.contract_id, "the embedding is")
    vector, length = unit_vector(received.values, galleries.dimensions)
    norm = length if received.norm is None else received.norm
    return NewTemplate(vector, source_of(vector), norm, received.quality)


def acquire_images(
    models: Models, images: Sequence[bytes], requirements: Requirements, deadline: Deadline
) -> list[Acquired | VultusError]:
    """Create one template from each photo.

    Args:
        models: Models that detect, embed and assess faces.
        images: Encoded images.
        requirements: What the photos must meet.
        deadline: Deadline of the request; stage times are added to it.

    Returns:
        For each photo, in order, its template or the error that it caused.

    Raises:
        CalibrationUnfit: The gate depends on a calibration, and the model is not calibrated.
        QualityUnvalidated: The gate has a minimum quality, and quality was not validated for this model.
        InferenceFailed: The engine failed.
        RequestCancelled: The client disconnected.
        DeadlineExceeded: The deadline passed.
    """
    models.require_gate(requirements.gate)
    outcomes: list[Acquired | VultusError] = []
    for image, photo in zip(images, models.pipeline.embed(images, requirements.faces, deadline), strict=True):
        if isinstance(photo, VultusError):
            outcomes.append(photo)
            continue
        ((face, assessment, refusal),) = judge_faces(models, photo, requirements.gate)
        crop = _png(face.crop) if requirements.keep_crop else None
        template = NewTemplate(face.embedding, image_source(image), face.norm, assessment.quality, crop)
        outcomes.append(_unmet(face, requirements) or refusal or Acquired(face, assessment, template))
    return outcomes


def gate_template(models: Models, template: NewTemplate, gate: Gate) -> NewTemplate:
    """Check the template of a received embedding against a gate, and return it with the quality of its norm.

    A quality that was sent with the embedding is not replaced. Without a quality and a norm, it stays unknown.

    Raises:
        LowQuality: The quality is below the minimum, or unknown although the gate has a minimum.
        CalibrationUnfit: The gate depends on a calibration, and the model is not calibrated.
        QualityUnvalidated: The gate has a minimum quality, and quality was not validated for this model.
    """
    models.require_gate(gate)
    quality = template.quality
    if quality is None and template.norm is not None and models.quality is not None:
        quality = models.quality.score(template.norm)
    if gate.min_quality > 0 and quality is None:
        raise LowQuality("the quality of the embedding is unknown; give `quality` or `norm`")
    if gate.min_quality > 0 and quality is not None and quality < gate.min_quality:
        raise LowQuality(f"the quality of the embedding is {quality:.0f}; at least {gate.min_quality:g} is required")
    return replace(template, quality=quality)


def _unmet(face: EmbeddedFace, requirements: Requirements) -> FaceError | None:
    side = float((face.face.box[2:] - face.face.box[:2]).min())
    if side < requirements.min_face_px:
        return FaceTooSmall(f"the face is {side:.0f} pixels wide; at least {requirements.min_face_px} are required")
    if face.norm < requirements.min_norm:
        return LowQuality(
            f"the norm of the embedding is {face.norm:.1f}; at least {requirements.min_norm:g} is required"
        )
    return None


def _png(crop: NDArray[np.uint8]) -> bytes:
    _, encoded = cv2.imencode(".png", np.ascontiguousarray(crop[..., ::-1]))
    return encoded.tobytes()
