"""Detection in rotated photos of LFW, from which the score thresholds for other orientations were chosen."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from models.imaging import Photo
from models.serving.models import Models


def turned_points(points: NDArray[np.float32], turn: int, side: int) -> NDArray[np.float32]:
    """Return the points of a square photo after `cv2.rotate`."""
    x, y, last = points[:, 0], points[:, 1], np.float32(side - 1)
    if turn == cv2.ROTATE_90_CLOCKWISE:
        return np.stack([last - y, x], axis=1)
    return np.stack([y, last - x], axis=1) if turn == cv2.ROTATE_90_COUNTERCLOCKWISE else last - points


@pytest.mark.parametrize("turn", [cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_COUNTERCLOCKWISE])
def test_nearly_all_rotated_photos_have_the_landmarks_of_the_upright_photo(
    real_models: Models, shared: Path, turn: int
) -> None:
    """Without trying other orientations, most of these photos would have landmarks beside the face."""
    detector = real_models.pipeline.detector
    paths = sorted((shared / "data" / "lfw" / "images").glob("*/*_0001.jpg"))[::40]
    correct = 0
    for path in paths:
        image = Photo(path.read_bytes()).raster().pixels
        upright, turned = detector.detect(image), detector.detect(cv2.rotate(image, turn).astype(np.uint8))
        expected = turned_points(upright[0].landmarks, turn, image.shape[0])
        correct += any(np.abs(face.landmarks - expected).max() < 8 for face in turned)
    assert correct >= 0.97 * len(paths)
