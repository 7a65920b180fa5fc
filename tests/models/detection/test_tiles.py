"""Tests of the tiles of photos of an extreme shape."""

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.deadline import Deadline
from models.detection import YUNET, AnchorDetector
from models.detection.tiles import longest_tile_side, tiles_of
from models.imaging import Photo
from models.pipeline import DetectedPhoto
from models.runtime.fake import FakeSession
from models.serving.models import Models


@settings(max_examples=200, deadline=None)
@given(width=st.integers(16, 70_000), height=st.integers(16, 5_000))
def test_tiles_cover_the_photo_and_overlap_by_half(width: int, height: int) -> None:
    tiles = tiles_of(width, height)
    if not 2.5 < max(width, height) / min(width, height) <= 1000:
        assert tiles == []
        return
    assert 2 < len(tiles) <= 32
    side = longest_tile_side(width, height)
    spans = [columns if width > height else rows for rows, columns in tiles]
    assert (spans[0].start, spans[-1].stop) == (0, max(width, height))
    assert all(span.stop - span.start == side for span in spans)
    assert all(2 * (later.start - span.start) <= side + 2 for span, later in pairwise(spans))


@pytest.mark.parametrize("upright", [True, False])
def test_every_face_of_a_panorama_is_found_once(real_models: Models, photos: Path, upright: bool) -> None:
    """Reduced as a whole to the detector's side, the faces of this photo have seven pixels."""
    portrait = Photo((photos / "astronaut.png").read_bytes()).raster().pixels
    places = [0, 1390, 2711, 4100, 5488]
    strip = np.full((700, 6000, 3), 120, np.uint8) if upright else np.full((6000, 700, 3), 120, np.uint8)
    for place in places:
        x, y = (place, 100) if upright else (100, place)
        strip[y : y + 512, x : x + 512] = portrait
    ok, encoded = cv2.imencode(".jpg", strip[..., ::-1])
    assert ok
    (photo,) = real_models.pipeline.detect([encoded.tobytes()], "all", Deadline())
    assert isinstance(photo, DetectedPhoto)
    middles = np.array([face.box.reshape(2, 2).mean(axis=0) for face in photo.faces])
    expected = np.array([(place + 223, 219) if upright else (323, place + 119) for place in places])
    assert len(middles) == len(expected)
    middles = middles[np.argsort(middles[:, 0 if upright else 1])]
    np.testing.assert_allclose(middles, expected, atol=25)


@pytest.mark.parametrize(("size", "most"), [((65_000, 16), 5), ((65_000, 600), 117), ((12_000, 1500), 80)])
def test_a_blank_photo_of_an_extreme_shape_takes_a_bounded_number_of_looks(size: tuple[int, int], most: int) -> None:
    """A file of 3 KB took seconds: each of 64 tiles was looked at twice, and three times turned."""
    looks = 0

    def nothing(image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        nonlocal looks
        looks += 1
        count = len(YUNET.anchors(*image.shape[:2]))
        return tuple(np.zeros(shape, np.float32) for shape in ((count,), (count, 4), (count, 10)))

    width, height = size
    assert AnchorDetector(FakeSession(nothing), YUNET).detect(np.zeros((height, width, 3), np.uint8)) == []
    assert looks <= most
