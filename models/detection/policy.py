"""Which face of a photo is meant when there are several: always the caller's explicit choice."""

from typing import Literal

import numpy as np

from models.detection.face import Face
from models.errors import NoFace, SeveralFaces

FacePolicy = Literal["largest", "central", "single", "all"]


def select_faces(faces: list[Face], policy: FacePolicy, size: tuple[int, int]) -> list[Face]:
    """Pick the faces that a policy means.

    Args:
        faces: Of one photo, best score first.
        policy: `largest` box, most `central` box, the `single` face there is, or `all`.
        size: (width, height) of the photo.

    Raises:
        NoFace: There is none; under `all` an empty list is given instead.
        SeveralFaces: There are several under `single`.
    """
    if policy == "all":
        return faces
    if not faces:
        raise NoFace("no face was found in the image")
    if policy == "single" and len(faces) > 1:
        raise SeveralFaces(f"{len(faces)} faces were found in the image where exactly one is wanted")
    if policy == "central":
        middle = np.asarray(size, dtype=np.float32) / 2
        return [min(faces, key=lambda face: float(np.linalg.norm(face.box.reshape(2, 2).mean(axis=0) - middle)))]
    return [max(faces, key=lambda face: face.area)]
