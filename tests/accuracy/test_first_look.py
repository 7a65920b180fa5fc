"""The look at a small copy of a photo loses nobody whom the full canvas finds: photos of LFW, enlarged or in pairs."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from models.detection import Face, FaceDetector
from models.detection.policy import FacePolicy, select_faces
from models.errors import SeveralFaces
from models.imaging import Photo
from models.serving.models import Models

pytestmark = pytest.mark.full

Image = NDArray[np.uint8]
SIDE = 640
TURNS = (None, cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_COUNTERCLOCKWISE)


def enlarged(shared: Path, step: int, side: int = SIDE) -> Iterator[Image]:
    for path in sorted((shared / "data" / "lfw" / "images").glob("*/*_0001.jpg"))[::step]:
        pixels = Photo(path.read_bytes()).raster().pixels
        yield cv2.resize(pixels, (side, side), interpolation=cv2.INTER_CUBIC).astype(np.uint8)


def selected(faces: list[Face], policy: FacePolicy) -> Face | None:
    """Return the selected face, or None if several are an error."""
    try:
        return select_faces(faces, policy, (SIDE, SIDE))[0]
    except SeveralFaces:
        return None


def with_both(detector: FaceDetector, photo: Image, policy: FacePolicy) -> tuple[Face | None, Face | None]:
    return selected(detector.detect(photo, None, policy), policy), selected(detector.detect(photo), policy)


@pytest.mark.parametrize("policy", ["largest", "central"])
@pytest.mark.parametrize("turn", TURNS)
def test_the_same_face_is_selected_with_landmarks_nearby(
    real_models: Models, shared: Path, policy: FacePolicy, turn: int | None
) -> None:
    """The landmark that moves most moves by 4 % of the side of the face."""
    moved = []
    for upright in enlarged(shared, 40 if turn is None else 120):
        photo = upright if turn is None else cv2.rotate(upright, turn).astype(np.uint8)
        first, full = with_both(real_models.pipeline.detector, photo, policy)
        assert first is not None
        assert full is not None
        moved.append(float(np.linalg.norm(first.landmarks - full.landmarks, axis=1).max()) / full.side)
    assert np.median(moved) < 0.06
    assert np.mean(np.array(moved) < 0.12) >= 0.99


def test_nobody_is_lost_beside_the_only_face(real_models: Models, shared: Path) -> None:
    """Where only the full canvas shows a second face, its score is low: what networks find in letters and fabrics."""
    detector, lost, photos = real_models.pipeline.detector, 0, 0
    for photo in enlarged(shared, 20):
        first, full = with_both(detector, photo, "single")
        photos += 1
        if first is not None and full is None:
            second = sorted(face.score for face in detector.detect(photo))[-2]
            assert second < 0.75
            lost += 1
    assert lost <= 0.01 * photos


@pytest.mark.parametrize("share", [0.2, 0.35, 0.6])
def test_a_second_person_is_seen_at_a_fifth_of_the_size(real_models: Models, shared: Path, share: float) -> None:
    """The first person takes 81 % of the side of the photo, the second one stands beside."""
    side = 520
    for large, other in zip(enlarged(shared, 120, side), enlarged(shared, 119, round(share * side)), strict=False):
        photo = np.full((SIDE, SIDE, 3), 128, np.uint8)
        width = min(len(other), SIDE - side)
        left = (len(other) - width) // 2
        photo[60 : 60 + side, :side] = large
        photo[150 : 150 + len(other), side : side + width] = other[:, left : left + width]
        first, full = with_both(real_models.pipeline.detector, photo, "single")
        assert (first is None) == (full is None)
