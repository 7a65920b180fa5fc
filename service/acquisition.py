"""From photos to templates: what ISO/IEC 19795-1 calls acquisition, and why it fails where it does."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from models.cropping import FacePolicy, StageTimes
from models.errors import VultusError
from models.pipeline import EmbeddedFace, Pipeline
from service.errors import FaceTooSmall, LowQuality
from service.gallery.records import NewTemplate


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a photo must keep to.

    Attributes:
        faces: Which face is meant when there are several; one of a photo is enrolled.
        min_face_px: Shortest side of its box, pixels of the upright photo.
        min_norm: Least length of its embedding before normalisation; models differ in theirs.
        keep_crop: Whether the aligned crop goes with the template.
    """

    faces: FacePolicy = "single"
    min_face_px: int = 0
    min_norm: float = 0.0
    keep_crop: bool = False


class Acquired(NamedTuple):
    """A face that kept to what was required, and the template made of it."""

    face: EmbeddedFace
    template: NewTemplate


def image_source(image: bytes) -> bytes:
    """Digest an image file: the same file is enrolled once."""
    return hashlib.sha256(image).digest()


def acquire(
    pipeline: Pipeline, images: Sequence[bytes], requirements: Requirements, times: StageTimes
) -> list[Acquired | VultusError]:
    """Make a template of each photo.

    Args:
        pipeline: What detects and embeds.
        images: Image files.
        requirements: What they must keep to.
        times: Told what was spent.

    Returns:
        For each photo, in order, its template or why there is none: an `ImageError`, a `FaceError`, `FaceTooSmall` or
        `LowQuality`.
    """
    outcomes: list[Acquired | VultusError] = []
    for image, photo in zip(images, pipeline.embed(images, requirements.faces, times), strict=True):
        if isinstance(photo, VultusError):
            outcomes.append(photo)
            continue
        (face,) = photo.faces
        crop = _png(face.crop) if requirements.keep_crop else None
        template = NewTemplate(face.embedding, image_source(image), face.norm, None, crop)
        outcomes.append(_refusal(face, requirements) or Acquired(face, template))
    return outcomes


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
