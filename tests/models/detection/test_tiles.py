"""Tests of the tiles of photos of an extreme shape."""

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.deadline import Deadline
from models.detection.tiles import longest_tile_side, tiles_of
from models.imaging import Photo
from models.pipeline import DetectedPhoto
from models.serving.models import Models


@settings(max_examples=200, deadline=None)
@given(width=st.integers(16, 70_000), height=st.integers(16, 5_000))
def test_tiles_cover_the_photo_and_overlap_by_half(width: int, height: int) -> None:
    tiles = tiles_of(width, height)
    if max(width, height) <= 2.5 * min(width, height):
        assert tiles == []
        return
    assert 2 < len(tiles) <= 64
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
