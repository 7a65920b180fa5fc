"""Acquisition (ISO/IEC 19795-1): create templates from images and embeddings, or report why that failed."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from models.deadline import Deadline
from models.detection.policy import FacePolicy, select_faces
from models.errors import FaceError, FaceTooSmall, LowQuality, VultusError
from models.pipeline import EmbeddedFace, EmbeddedPhoto
from models.quality import NO_GATE, Assessment, Gate
from models.serving.models import Models
from service.gallery.records import Metadata, NewTemplate
from service.operations.faces import JudgedFace, judge_faces


@dataclass(frozen=True, slots=True)
class Requirements:
    """The conditions that a photo must meet to be enrolled.

    Attributes:
        faces: Policy that selects the one face of a photo to enrol; not `all`.
        min_face_px: Minimum of the shorter side of the face's box, in pixels of the upright photo.
        min_norm: Minimum length of the embedding before normalisation; its range differs between models.
        gate: Minimum quality, and reasons for which a face is refused.
        keep_crop: Whether the aligned crop is stored with the template.
        expires: Seconds since 1970 at which the template is erased, unless its entry has a time of its own; None for
            never.
        min_score: Detection score in [0, 1] that a face must exceed to be seen at all.
    """

    faces: FacePolicy = "single"
    min_face_px: int = 0
    min_norm: float = 0.0
    gate: Gate = NO_GATE
    keep_crop: bool = False
    expires: float | None = None
    min_score: float = 0.0


class Acquired(NamedTuple):
    """A face that met the requirements, and the template made from it."""

    face: EmbeddedFace
    assessment: Assessment
    template: NewTemplate


def image_source(image: bytes) -> bytes:
    """Return the SHA-256 of an image file, by which a gallery recognises duplicates."""
    return hashlib.sha256(image).digest()


def acquire_images(
    models: Models, images: Sequence[bytes], requirements: Requirements, deadline: Deadline
) -> list[Acquired | VultusError]:
    """Create one template from each photo.

    Args:
        models: Models that detect, embed and assess faces.
        images: Encoded images.
        requirements: Conditions that the photos must meet.
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
    policy: FacePolicy = "all" if requirements.min_score > 0 else requirements.faces
    photos = models.pipeline.embed(images, policy, deadline, keep_crops=requirements.keep_crop)
    for image, photo in zip(images, photos, strict=True):
        try:
            selected = photo if isinstance(photo, VultusError) else _selected(photo, requirements)
        except FaceError as error:
            selected = error
        if isinstance(selected, VultusError):
            outcomes.append(selected)
            continue
        (judged,) = judge_faces(models, selected, requirements.gate)
        template = face_template(judged, image_source(image))
        refusal = _unmet(judged.face, requirements) or judged.refusal
        outcomes.append(refusal or Acquired(judged.face, judged.assessment, template))
    return outcomes


def face_template(judged: JudgedFace, source: bytes, metadata: Metadata | None = None) -> NewTemplate:
    """Return the template of a face of a photo, with its crop if it was kept.

    Args:
        judged: The face.
        source: SHA-256 by which the gallery recognises it.
        metadata: Metadata of the template.
    """
    face = judged.face
    crop = None if face.crop is None else _png(face.crop)
    return NewTemplate(face.embedding, source, face.norm, judged.assessment.quality, crop, metadata=metadata or {})


def _selected(photo: EmbeddedPhoto, requirements: Requirements) -> EmbeddedPhoto:
    """Return a photo with the one face that the policy selects among those whose score suffices.

    Raises:
        NoFace: No face has a sufficient score.
        SeveralFaces: Several have, and the policy is `single`.
    """
    if requirements.min_score <= 0:
        return photo
    seen = {id(face.face): face for face in photo.faces if face.face.score > requirements.min_score}
    faces = select_faces([face.face for face in seen.values()], requirements.faces, (photo.width, photo.height))
    return replace(photo, faces=[seen[id(face)] for face in faces])


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
        return FaceTooSmall(
            f"the shorter side of the face's box has {side:.0f} pixels; "
            f"at least {requirements.min_face_px} are required"
        )
    if face.norm < requirements.min_norm:
        return LowQuality(
            f"the norm of the embedding is {face.norm:.1f}; at least {requirements.min_norm:g} is required"
        )
    return None


def _png(crop: NDArray[np.uint8]) -> bytes:
    _, encoded = cv2.imencode(".png", np.ascontiguousarray(crop[..., ::-1]))
    return encoded.tobytes()
