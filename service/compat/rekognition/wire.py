"""Rekognition's responses: boxes as shares of the photo, scores from 0 to 100.

Attributes that no model here measures, such as age, emotions, pose and sharpness, are left out, which SDKs permit.
"""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.detection import Face
from service.compat.face_ids import face_id
from service.gallery.records import Metadata, OwnedTemplate

_LANDMARKS = ("eyeLeft", "eyeRight", "nose", "mouthLeft", "mouthRight")
_PERCENT = 100.0


def bounding_box(box: NDArray[np.float32], size: tuple[int, int]) -> dict[str, float]:
    """Return a box in shares of the upright photo of `size` (width, height)."""
    width, height = size
    x1, y1, x2, y2 = (float(value) for value in box)
    return {"Width": (x2 - x1) / width, "Height": (y2 - y1) / height, "Left": x1 / width, "Top": y1 / height}


def confidence(face: Face) -> float:
    """Return the detection score of a face, 0 to 100."""
    return face.score * _PERCENT


def face_detail(face: Face, size: tuple[int, int]) -> dict[str, Any]:
    """Return what is known of a face in a photo of `size` (width, height)."""
    width, height = size
    return {
        "BoundingBox": bounding_box(face.box, size),
        "Confidence": confidence(face),
        "Landmarks": [
            {"Type": name, "X": float(x) / width, "Y": float(y) / height}
            for name, (x, y) in zip(_LANDMARKS, face.landmarks, strict=True)
        ],
    }


def stored_face(
    template: OwnedTemplate, metadata: Mapping[int, Metadata], model_version: str, without_user: Collection[int]
) -> dict[str, Any]:
    """Return a stored face; one that was not stored by this protocol has no box and no confidence.

    Args:
        template: The template.
        metadata: Metadata of templates by key.
        model_version: Embedding contract of the collection.
        without_user: Keys of templates that belong to no user.
    """
    kept = metadata.get(template.key, {})
    members: dict[str, Any] = {"FaceId": face_id(template.source)}
    for member in ("BoundingBox", "ImageId", "ExternalImageId", "Confidence"):
        if member in kept:
            members[member] = kept[member]
    if template.key not in without_user:
        members["UserId"] = template.subject
    return {**members, "IndexFacesModelVersion": model_version}
