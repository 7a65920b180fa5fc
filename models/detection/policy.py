"""Select the faces of a photo by an explicit policy."""

from typing import Literal

import numpy as np

from models.detection.face import Face
from models.errors import NoFace, SeveralFaces

FacePolicy = Literal["largest", "central", "single", "all"]


def select_faces(faces: list[Face], policy: FacePolicy, size: tuple[int, int]) -> list[Face]:
    """Return the faces that a policy selects.

    Args:
        faces: Faces of one photo, highest score first.
        policy: `largest` selects the largest box, `central` the box closest to the centre of the photo, `single` the
            only face and `all` every face.
        size: (width, height) of the photo in pixels.

    Raises:
        NoFace: The photo has no face and the policy is not `all`.
        SeveralFaces: The photo has several faces and the policy is `single`.
    """
    if policy == "all":
        return faces
    if not faces:
        raise NoFace("no face was found in the image")
    if policy == "single" and len(faces) > 1:
        raise SeveralFaces(f"{len(faces)} faces were found in the image; exactly one is required")
    if policy == "central":
        middle = np.asarray(size, dtype=np.float32) / 2
        return [min(faces, key=lambda face: float(np.linalg.norm(face.box.reshape(2, 2).mean(axis=0) - middle)))]
    return [max(faces, key=lambda face: face.area)]
