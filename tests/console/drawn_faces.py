"""Drawn faces, of nobody: for pictures in documents, in which no person may be seen."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

SIZE = 480
_SOFTNESS = 1.2  # pixels, as of a lens
Colour = tuple[int, int, int]
Photo = NDArray[np.uint8]


@dataclass(frozen=True)
class Looks:
    """A drawn person. Colours are BGR; lengths are shares of half the width or height of the face."""

    skin: Colour
    hair: Colour
    shirt: Colour
    width: float = 0.2
    height: float = 0.27
    eye_distance: float = 0.44
    eye_size: float = 0.17
    eye_height: float = -0.12
    nose: float = 0.24
    mouth: float = 0.5
    mouth_width: float = 0.4
    brows: int = 6
    beard: bool = False
    glasses: bool = False
    fringe: bool = True


PEOPLE = {
    "Bo": Looks(
        (70, 100, 150), (20, 20, 25), (90, 135, 170), width=0.23, eye_distance=0.5, beard=True, brows=11, nose=0.32
    ),
    "Cleo": Looks(
        (140, 175, 220), (60, 110, 170), (110, 140, 85), height=0.31, eye_height=-0.02, mouth=0.62, fringe=False
    ),
    "Dan": Looks(
        (110, 150, 205), (120, 120, 125), (200, 50, 85), width=0.24, height=0.25, glasses=True, mouth_width=0.55
    ),
}


def draw_face(looks: Looks, background: Colour = (200, 195, 185), light: float = -0.3) -> Photo:
    """Draw a face.

    Args:
        looks: Whom to draw.
        background: Colour behind the face, BGR.
        light: Where the light comes from: -1 for the left, 1 for the right.

    Returns:
        A photo of `SIZE` x `SIZE` pixels, BGR.
    """
    photo: Photo = np.full((SIZE, SIZE, 3), background, np.uint8)
    centre = SIZE // 2
    width, height = round(SIZE * looks.width), round(SIZE * looks.height)
    _body(photo, looks, centre, width, height)
    _head(photo, looks, centre, (width, height), light)
    for side in (-1, 1):
        _eye(photo, looks, centre, (width, height), side)
    _nose_and_mouth(photo, looks, centre, width, height)
    return np.asarray(cv2.GaussianBlur(photo, (0, 0), _SOFTNESS), np.uint8)


def draw_group(people: list[Looks]) -> Photo:
    """Draw several people beside each other."""
    return np.hstack([draw_face(looks, light=0.2) for looks in people])


def _body(photo: Photo, looks: Looks, centre: int, width: int, height: int) -> None:
    _ellipse(photo, (centre, SIZE + 40), (round(SIZE * 0.38), round(SIZE * 0.3)), looks.shirt)
    neck = (centre - width // 2, centre + height // 2), (centre + width // 2, centre + height + 60)
    cv2.rectangle(photo, *neck, _darker(looks.skin, 0.85), -1)


def _head(photo: Photo, looks: Looks, centre: int, axes: tuple[int, int], light: float) -> None:
    width, height = axes
    _ellipse(photo, (centre, centre - height // 4), (round(width * 1.2), round(height * 0.95)), looks.hair)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    cv2.ellipse(mask, (centre, centre), axes, 0, 0, 360, 255, -1, cv2.LINE_AA)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    distance = ((columns - centre - width * light) / width) ** 2 + ((rows - centre + height * 0.2) / height) ** 2
    shaded = np.array(looks.skin, float) * (1 - 0.25 * np.clip(distance, 0, 1))[..., None]
    share = mask[..., None] / 255.0
    photo[:] = (photo * (1 - share) + shaded * share).astype(np.uint8)
    if looks.beard:
        _ellipse(photo, (centre, centre + round(height * 0.62)), (round(width * 0.8), round(height * 0.42)), looks.hair)
    if looks.fringe:
        _ellipse(
            photo, (centre, centre - round(height * 0.85)), (round(width * 0.95), round(height * 0.35)), looks.hair
        )


def _eye(photo: Photo, looks: Looks, centre: int, axes: tuple[int, int], side: int) -> None:
    width, height = axes
    at = centre + side * round(width * looks.eye_distance), centre + round(height * looks.eye_height)
    half = round(width * looks.eye_size)
    _ellipse(photo, at, (round(half * 1.4), round(height * 0.1)), _darker(looks.skin, 0.8))
    _ellipse(photo, at, (half, round(half * 0.45)), (245, 245, 245))
    cv2.circle(photo, at, round(half * 0.42), (70, 80, 60), -1, cv2.LINE_AA)
    cv2.circle(photo, at, round(half * 0.2), (10, 10, 10), -1, cv2.LINE_AA)
    cv2.ellipse(photo, at, (half, round(half * 0.5)), 0, 180, 360, (30, 30, 40), 3, cv2.LINE_AA)
    brow = at[0], at[1] - round(height * 0.14)
    cv2.ellipse(photo, brow, (round(width * 0.24), round(height * 0.06)), 6 * side, 190, 350, looks.hair, looks.brows)
    if looks.glasses:
        cv2.circle(photo, at, round(width * 0.33), (25, 25, 25), 5, cv2.LINE_AA)


def _nose_and_mouth(photo: Photo, looks: Looks, centre: int, width: int, height: int) -> None:
    tip = centre, centre + round(height * looks.nose)
    bridge = centre - round(width * 0.06), centre + round(height * (looks.eye_height + 0.06))
    cv2.line(photo, bridge, (centre - round(width * 0.12), tip[1]), _darker(looks.skin, 0.85), 4, cv2.LINE_AA)
    dark = _darker(looks.skin, 0.55)
    cv2.ellipse(photo, tip, (round(width * 0.16), round(height * 0.06)), 0, 0, 180, dark, 3, cv2.LINE_AA)
    mouth = centre, centre + round(height * looks.mouth)
    half = round(width * looks.mouth_width)
    _ellipse(photo, mouth, (half, round(height * 0.07)), (90, 90, 190))
    cv2.line(photo, (centre - half, mouth[1]), (centre + half, mouth[1]), (50, 50, 110), 3, cv2.LINE_AA)


def _ellipse(photo: Photo, centre: tuple[int, int], axes: tuple[int, int], colour: Colour) -> None:
    cv2.ellipse(photo, centre, axes, 0, 0, 360, colour, -1, cv2.LINE_AA)


def _darker(colour: Colour, share: float) -> Colour:
    blue, green, red = (round(value * share) for value in colour)
    return blue, green, red
