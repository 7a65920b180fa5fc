"""From photos to templates: what ISO/IEC 19795-1 calls acquisition, and why it fails where it does."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from models.assembly import Models
from models.cropping import FacePolicy
from models.errors import FaceError, FaceTooSmall, LowQuality, VultusError
from models.job import Job
from models.pipeline import EmbeddedFace, EmbeddedPhoto
from models.quality import NO_GATE, Assessment, Gate
from service.gallery.records import NewTemplate


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a photo must keep to.

    Attributes:
        faces: Which face is meant when there are several; one of a photo is enrolled.
        min_face_px: Shortest side of its box, pixels of the upright photo.
        min_norm: Least length of its embedding before normalisation; models differ in theirs.
        gate: Quality, and reasons for which it is refused.
        keep_crop: Whether the aligned crop goes with the template.
    """

    faces: FacePolicy = "single"
    min_face_px: int = 0
    min_norm: float = 0.0
    gate: Gate = NO_GATE
    keep_crop: bool = False


class Acquired(NamedTuple):
    """A face that kept to what was required, and the template made of it."""

    face: EmbeddedFace
    assessment: Assessment
    template: NewTemplate


class JudgedFace(NamedTuple):
    """A face of a photo, what is known of it, and why it is refused, if it is."""

    face: EmbeddedFace
    assessment: Assessment
    refusal: FaceError | None


def judge_faces(models: Models, photo: EmbeddedPhoto, gate: Gate) -> list[JudgedFace]:
    """Judge the faces of a photo, in order."""
    size = (photo.width, photo.height)
    judged_faces = []
    for face in photo.faces:
        assessment = models.assess(face.face, size, face.norm, gate.min_quality)
        judged_faces.append(JudgedFace(face, assessment, gate.refusal(assessment, models.quality)))
    return judged_faces


def image_source(image: bytes) -> bytes:
    """Digest an image file: the same file is enrolled once."""
    return hashlib.sha256(image).digest()


def acquire(
    models: Models, images: Sequence[bytes], requirements: Requirements, job: Job
) -> list[Acquired | VultusError]:
    """Make a template of each photo.

    Args:
        models: What detects, embeds and judges.
        images: Image files.
        requirements: What they must keep to.
        job: Whose work it is; told what was spent.

    Returns:
        For each photo, in order, its template or why there is none: an `ImageError` or a `FaceError`.

    Raises:
        CalibrationUnfit, QualityUnvalidated: Faces cannot be gated with this model.
    """
    models.require_gate(requirements.gate)
    outcomes: list[Acquired | VultusError] = []
    for image, photo in zip(images, models.pipeline.embed(images, requirements.faces, job), strict=True):
        if isinstance(photo, VultusError):
            outcomes.append(photo)
            continue
        ((face, assessment, refused),) = judge_faces(models, photo, requirements.gate)
        crop = _png(face.crop) if requirements.keep_crop else None
        template = NewTemplate(face.embedding, image_source(image), face.norm, assessment.quality, crop)
        outcomes.append(_refusal(face, requirements) or refused or Acquired(face, assessment, template))
    return outcomes


def judged(models: Models, template: NewTemplate, gate: Gate) -> NewTemplate:
    """Give an embedding that was made before its quality, if it has a norm, and hold it to the gate.

    Raises:
        LowQuality: Its quality is too low, or not known where one is asked for.
        CalibrationUnfit, QualityUnvalidated: Embeddings cannot be gated with this model.
    """
    models.require_gate(gate)
    quality = template.quality
    if quality is None and template.norm is not None and models.quality is not None:
        quality = models.quality.score(template.norm)
    if gate.min_quality > 0 and quality is None:
        raise LowQuality("the embedding's quality is not known; give `quality`, or `norm`")
    if gate.min_quality > 0 and quality is not None and quality < gate.min_quality:
        raise LowQuality(f"the embedding's quality is {quality:.0f}; at least {gate.min_quality:g} is asked for")
    return replace(template, quality=quality)


def _refusal(face: EmbeddedFace, requirements: Requirements) -> VultusError | None:
    side = float((face.face.box[2:] - face.face.box[:2]).min())
    if side < requirements.min_face_px:
        return FaceTooSmall(f"the face is {side:.0f} pixels across; at least {requirements.min_face_px} are asked for")
    if face.norm < requirements.min_norm:
        return LowQuality(
            f"the embedding has a length of {face.norm:.1f}; at least {requirements.min_norm:g} is asked for"
        )
    return None


def _png(crop: NDArray[np.uint8]) -> bytes:
    _, encoded = cv2.imencode(".png", np.ascontiguousarray(crop[..., ::-1]))
    return encoded.tobytes()
