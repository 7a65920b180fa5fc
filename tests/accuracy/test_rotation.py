"""Photos on their side, at scale: where the scores come from at which another orientation is tried."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from models.imaging import Photo
from models.serving.models import Models


def turned_points(points: NDArray[np.float32], turn: int, side: int) -> NDArray[np.float32]:
    """Where points of a square picture lie after `cv2.rotate`."""
    x, y, last = points[:, 0], points[:, 1], np.float32(side - 1)
    if turn == cv2.ROTATE_90_CLOCKWISE:
        return np.stack([last - y, x], axis=1)
    return np.stack([y, last - x], axis=1) if turn == cv2.ROTATE_90_COUNTERCLOCKWISE else last - points


@pytest.mark.parametrize("turn", [cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_COUNTERCLOCKWISE])
def test_nearly_all_turned_photos_give_the_upright_landmarks(real_models: Models, shared: Path, turn: int) -> None:
    """LFW portraits, turned; as they come, most of these would be detected with landmarks beside the face."""
    detector = real_models.pipeline.detector
    paths = sorted((shared / "data" / "lfw" / "images").glob("*/*_0001.jpg"))[::40]
    right = 0
    for path in paths:
        image = Photo(path.read_bytes()).raster().pixels
        upright, turned = detector.detect(image), detector.detect(cv2.rotate(image, turn).astype(np.uint8))
        expected = turned_points(upright[0].landmarks, turn, image.shape[0])
        right += any(np.abs(face.landmarks - expected).max() < 8 for face in turned)
    assert right >= 0.97 * len(paths)
