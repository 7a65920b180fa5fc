"""Select the faces of a photo by an explicit policy, and tell whether a coarse look suffices for it."""

from typing import Literal

import numpy as np

from models.detection.face import Face
from models.errors import NoFace, SeveralFaces

FacePolicy = Literal["largest", "central", "single", "all"]

_BACKGROUND = 1 / 8  # side of a face relative to the largest one, below which `single` does not count it


def select_faces(faces: list[Face], policy: FacePolicy, size: tuple[int, int]) -> list[Face]:
    """Return the faces that a policy selects.

    Args:
        faces: Faces of one photo, highest score first.
        policy: `largest` selects the largest box, `central` the box closest to the centre of the photo, `single` the
            only face and `all` every face. For `single`, faces under an eighth of the side of the largest are
            background: passers-by, posters, and what networks find in patterns.
        size: (width, height) of the photo in pixels.

    Raises:
        NoFace: The photo has no face and the policy is not `all`.
        SeveralFaces: The photo has several faces and the policy is `single`.
    """
    if policy == "all":
        return faces
    if not faces:
        raise NoFace("no face was found in the image")
    if policy == "central":
        middle = np.asarray(size, dtype=np.float32) / 2
        return [min(faces, key=lambda face: float(np.linalg.norm(face.box.reshape(2, 2).mean(axis=0) - middle)))]
    if policy == "single" and (count := len(_foreground(faces))) > 1:
        raise SeveralFaces(f"{count} faces were found in the image; exactly one is required")
    return [max(faces, key=lambda face: face.area)]


def is_settled(
    faces: list[Face], policy: FacePolicy, size: tuple[int, int], sure_side: float, sure_score: float
) -> bool:
    """Return whether a closer look at a photo could not change which face a policy selects.

    Args:
        faces: Faces that a coarse look found, doubtful ones included, highest score first.
        policy: See `select_faces`.
        size: (width, height) of the photo in pixels.
        sure_side: Longer side in pixels of the smallest box that the coarse look sees well.
        sure_score: Score of a face that is surely upright.
    """
    if policy == "all" or not faces or (policy == "single" and len(_foreground(faces)) > 1):
        return False
    (selected,) = select_faces(faces, policy, size)
    if selected.side < sure_side or selected.score < sure_score:
        return False
    middle = np.asarray(size, dtype=np.float32) / 2
    return policy != "central" or bool((selected.box[:2] <= middle).all() and (middle <= selected.box[2:]).all())


def _foreground(faces: list[Face]) -> list[Face]:
    least = _BACKGROUND * max(face.side for face in faces)
    return [face for face in faces if face.side >= least]
