"""Look again at tilted faces, each turned upright, because the networks were trained on upright faces.

At a tilt of 45 degrees the first look finds nearly every face, but its landmarks tell only half of the tilt. The crop
is then tilted too, and the embedding is wrong. The roll that the landmarks tell decides whether a face is looked at
again. `tests/accuracy/test_rotation.py` measures the effect.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from models.alignment import TEMPLATES, alignment_matrix
from models.detection.face import Face
from models.errors import DegenerateLandmarks


class View(NamedTuple):
    """A square view of one face.

    Attributes:
        side: Side in pixels; one for which the detector is compiled anyway.
        share: Longer side of the box relative to the side of the view.
    """

    side: int
    share: float


COARSE_VIEW = View(224, 0.5)
"""View for finding the direction of a tilt; its side is that of the canvas of reduced photos."""

FINE_VIEW = View(384, 0.6)
"""View for the landmarks. `make calibrate` gives an FNMR of 0.0045 at `fmr_1e-4`; with views of 224 pixels, 0.0056."""

_TILTED = 5.0  # degrees; 84 % of the faces of LFW are told to be less tilted, and 5 % of those tilted by 22 degrees
_STRONGLY_TILTED = 10.0  # degrees; above it the told roll may be wrong by more than 45 degrees
_SETTLED, _UNSETTLED = 2.5, 10.0  # degrees of tilt that the last look tells
_MIN_UNSURE_SIDE = 64  # pixels; smaller faces have low scores in every orientation
_AROUND = np.arange(0.0, 360.0, 45.0)  # degrees, relative to the told roll
_LOOKS = 3

Look = Callable[[NDArray[np.uint8]], list[list[Face]]]
"""Detects faces in a batch of views: (N, side, side, 3) uint8, RGB -> the faces of each view."""


def look_again(look: Look, image: NDArray[np.uint8], face: Face, sure_score: float) -> Face:
    """Return a face with the landmarks of a view in which it is upright.

    A face whose landmarks tell an upright head is returned as it is. The box remains that of the first look.

    Args:
        look: Detects the faces of views.
        image: (H, W, 3) uint8, RGB; the image in which the face was found.
        face: Face in pixels of `image`.
        sure_score: Score below which the told roll is doubted.

    Returns:
        The face; it is not `confirmed` if the looks do not agree.
    """
    try:
        told = (_roll(face) + 45) % 90 - 45  # the first look was already in the best multiple of 90 degrees
    except DegenerateLandmarks:
        return face
    unsure = face.score < sure_score and _side(face) >= _MIN_UNSURE_SIDE
    if abs(told) < _TILTED and not unsure:
        return face
    try:
        if unsure or abs(told) >= _STRONGLY_TILTED:
            found = _look_turned(look, image, face, _roll(face) + _AROUND, COARSE_VIEW)
            if found is None:
                return replace(face, confirmed=False)
            face = found
        return _settle(look, image, face)
    except DegenerateLandmarks:
        return replace(face, confirmed=False)


def _settle(look: Look, image: NDArray[np.uint8], face: Face) -> Face:
    """Look again, turned by the roll that the landmarks tell, until they tell an upright head."""
    residual = math.inf
    for _ in range(_LOOKS):
        turn = _roll(face)
        found = _look_turned(look, image, face, np.array([turn]), FINE_VIEW)
        if found is None:
            return replace(face, confirmed=False)
        face = found
        residual = _between(turn, _roll(face))
        if abs(residual) < _SETTLED:
            break
    return replace(face, confirmed=abs(residual) < _UNSETTLED)


def _between(first: float, second: float) -> float:
    """Return the angle in degrees from the first to the second, in [-180, 180)."""
    return (second - first + 180) % 360 - 180


def _look_turned(
    look: Look, image: NDArray[np.uint8], face: Face, rolls: NDArray[np.float64], view: View
) -> Face | None:
    """Return the best of the faces that are found in the place of a face, in views turned by angles in degrees."""
    scale = view.side * view.share / _side(face)
    if scale < 0.5:  # a warp with a linear filter would skip pixels
        height, width = image.shape[:2]
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        shrunk = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        factor = (size[0] / width, size[1] / height)
        found = _look_turned(look, shrunk, face.scaled(factor), rolls, view)
        return None if found is None else replace(found.scaled((1 / factor[0], 1 / factor[1])), box=face.box)
    centre = face.box.reshape(2, 2).mean(axis=0).astype(np.float64)
    matrices = [_turn(centre, scale, roll, view) for roll in rolls]
    views = np.stack([cv2.warpAffine(image, matrix, (view.side, view.side)) for matrix in matrices])
    best: Face | None = None
    for faces, matrix in zip(look(views.astype(np.uint8, copy=False)), matrices, strict=True):
        for seen in faces:
            if _is_in_the_middle(seen, view) and (best is None or seen.score > best.score):
                landmarks = (seen.landmarks - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
                best = Face(face.box, landmarks.astype(np.float32), seen.score)
    return best


def _turn(centre: NDArray[np.float64], scale: float, roll: float, view: View) -> NDArray[np.float64]:
    """Return the (2, 3) transform that turns by `roll` degrees and puts `centre` in the middle of the view."""
    x, y = scale * math.cos(math.radians(roll)), scale * math.sin(math.radians(roll))
    turn = np.array([[x, -y], [y, x]])
    return np.column_stack([turn, (view.side - 1) / 2 - turn @ centre])


def _is_in_the_middle(face: Face, view: View) -> bool:
    """Return whether a face in a view is the one that the view was made for, not a neighbour."""
    distance = np.linalg.norm(face.box.reshape(2, 2).mean(axis=0) - (view.side - 1) / 2)
    return float(distance) < view.side * view.share / 2


def _roll(face: Face) -> float:
    """Return the angle in degrees by which the photo must be turned so that the face is upright."""
    matrix = alignment_matrix(face.landmarks, TEMPLATES["arcface-112"])
    return math.degrees(math.atan2(matrix[1, 0], matrix[0, 0]))


def _side(face: Face) -> float:
    return max(1.0, float((face.box[2:] - face.box[:2]).max()))
