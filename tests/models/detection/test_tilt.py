"""Tests of the second look at tilted faces: what it costs, what it settles, and what it admits not to know."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from models.alignment import TEMPLATES, align
from models.deadline import Deadline
from models.detection import Face
from models.detection.tilt import look_again
from models.imaging import Photo
from models.pipeline import DetectedPhoto
from models.quality import assess
from models.serving.models import Models

Image = NDArray[np.uint8]
IMAGE = np.zeros((400, 400, 3), np.uint8)
TEMPLATE = TEMPLATES["arcface-112"]


def face_at(degrees: float, middle: tuple[float, float] = (200, 200), score: float = 0.95) -> Face:
    """Return a face of 112 pixels whose landmarks are those of the template, turned clockwise as seen in the image."""
    x, y = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    points = (np.array(TEMPLATE.points, np.float32) - 56) @ np.array([[x, y], [-y, x]], np.float32)
    box = np.array([middle[0] - 56, middle[1] - 56, middle[0] + 56, middle[1] + 56], np.float32)
    return Face(box, (points + middle).astype(np.float32), score)


def middle_of(views: Image) -> tuple[float, float]:
    return ((views.shape[2] - 1) / 2, (views.shape[1] - 1) / 2)


def roll_of(face: Face) -> float:
    across = face.landmarks[1] - face.landmarks[0]
    return math.degrees(math.atan2(across[1], across[0]))


def marked_image() -> Image:
    """Return an image with a white disc to the right of the centre, which tells how a view is turned."""
    image = IMAGE.copy()
    cv2.circle(image, (280, 200), 10, (255, 255, 255), -1)
    return image


def marker_roll(view: Image) -> float:
    """Return the angle in degrees by which a view of `marked_image` is turned, counterclockwise as seen."""
    rows, columns = np.nonzero(view[..., 0] > 127)
    middle = (len(view) - 1) / 2
    return math.degrees(math.atan2(middle - rows.mean(), columns.mean() - middle)) % 360


def turned(image: Image, degrees: float) -> Image:
    """Return the image turned counterclockwise about its centre, with room for its corners."""
    height, width = image.shape[:2]
    side = math.ceil(math.hypot(height, width))
    matrix = np.asarray(cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1), np.float64)
    matrix[:, 2] += (side - width) / 2, (side - height) / 2
    return cv2.warpAffine(image, matrix, (side, side), borderValue=(120, 120, 120)).astype(np.uint8)


def no_look(views: Image) -> list[list[Face]]:
    raise AssertionError(f"{len(views)} views were looked at")


def test_an_upright_face_is_not_looked_at_again() -> None:
    for face in (face_at(3), face_at(-4), face_at(92), face_at(178)):
        assert look_again(no_look, IMAGE, face, 0.9) is face


def test_a_small_face_with_a_low_score_is_not_looked_at_again() -> None:
    """The faces of a crowd have low scores in every orientation."""
    face = face_at(2, score=0.7).scaled((0.4, 0.4))
    assert look_again(no_look, IMAGE, face, 0.9) is face


def test_a_slightly_tilted_face_is_settled_in_a_few_looks() -> None:
    """The network of this test tells half of the tilt of a head that is tilted by 16 degrees."""
    turns = [0.0]

    def look(views: Image) -> list[list[Face]]:
        (view,) = views
        turns.append(marker_roll(view))
        return [[face_at((16 - turns[-1]) / 2, middle_of(views))]]

    first = face_at(8)
    found = look_again(look, marked_image(), first, 0.9)
    assert len(turns) == 3
    assert roll_of(found) == pytest.approx(14, abs=1)
    assert found.confirmed
    assert found.box.tolist() == first.box.tolist()


def test_a_strongly_tilted_face_is_looked_at_in_eight_directions_and_the_best_is_taken() -> None:
    turns = []

    def look(views: Image) -> list[list[Face]]:
        turns.append([marker_roll(view) for view in views])
        return [[face_at(0, middle_of(views), 0.99 if abs(turn - 160) < 5 else 0.8)] for turn in turns[-1]]

    found = look_again(look, marked_image(), face_at(25), 0.9)
    assert [len(views) for views in turns] == [8, 1]
    assert np.ptp(np.diff(sorted(turns[0]))) == pytest.approx(0, abs=4)
    assert roll_of(found) == pytest.approx(160, abs=1)
    assert found.confirmed


@pytest.mark.parametrize("degrees", [7, 25])
def test_a_tilted_face_that_no_view_shows_is_not_confirmed(degrees: float) -> None:
    face = face_at(degrees)
    found = look_again(lambda views: [[] for _ in views], IMAGE, face, 0.9)
    assert not found.confirmed
    assert found.landmarks.tolist() == face.landmarks.tolist()


def test_a_face_whose_roll_never_settles_is_not_confirmed() -> None:
    found = look_again(lambda views: [[face_at(30, middle_of(views))] for _ in views], IMAGE, face_at(25), 0.9)
    assert not found.confirmed


def test_a_neighbour_in_the_view_is_not_taken_for_the_face() -> None:
    found = look_again(lambda views: [[face_at(0, (20, 20), 0.99)] for _ in views], IMAGE, face_at(7), 0.9)
    assert not found.confirmed


def test_a_face_that_is_not_confirmed_has_a_reason(fake_models: Models) -> None:
    assert "extreme_pose" not in fake_models.assess(face_at(7), (400, 400)).reasons
    unconfirmed = look_again(lambda views: [[] for _ in views], IMAGE, face_at(7), 0.9)
    assert "extreme_pose" in assess(unconfirmed, (400, 400), TEMPLATE, fake_models.quality).reasons


@pytest.mark.parametrize("degrees", [45, 135, 200, 290])
def test_a_tilted_head_has_nearly_the_embedding_of_the_upright_head(
    real_models: Models, photos: Path, degrees: int
) -> None:
    image = Photo((photos / "astronaut.png").read_bytes()).raster().pixels
    tilted = turned(image, degrees)
    (upright,), (found,) = (detect(real_models, pixels).faces for pixels in (image, tilted))
    embedder = real_models.pipeline.embedder
    pair = [
        embedder.embed(align(*face, embedder.template)).embedding[0]
        for face in ((image, upright.landmarks[None]), (tilted, found.landmarks[None]))
    ]
    assert found.confirmed
    assert float(pair[0] @ pair[1]) > 0.8


def test_a_photo_that_is_upside_down_has_no_faces_beside_its_own(real_models: Models, photos: Path) -> None:
    image = Photo((photos / "astronaut.png").read_bytes()).raster().pixels
    (face,) = real_models.pipeline.detector.detect(turned(image, 180))
    assert face.score > 0.9


def detect(models: Models, pixels: Image) -> DetectedPhoto:
    ok, encoded = cv2.imencode(".png", pixels[..., ::-1])
    assert ok
    (photo,) = models.pipeline.detect([encoded.tobytes()], "largest", Deadline())
    assert isinstance(photo, DetectedPhoto)
    return photo
