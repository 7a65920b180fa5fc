from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.alignment import TEMPLATES, align, alignment_matrix, crop_scale
from models.errors import DegenerateLandmarks
from models.imaging import Photo
from models.serving.models import Models

ARCFACE = TEMPLATES["arcface-112"]


@settings(max_examples=200)
@given(
    scale=st.floats(0.05, 20),
    angle=st.floats(-np.pi, np.pi),
    x=st.floats(-2000, 2000),
    y=st.floats(-2000, 2000),
    template=st.sampled_from(list(TEMPLATES.values())),
)
def test_undoes_any_similarity_transform(scale: float, angle: float, x: float, y: float, template) -> None:  # type: ignore[no-untyped-def]
    target = np.array(template.points)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = (scale * target @ rotation.T + [x, y]).astype(np.float32)
    matrix = alignment_matrix(moved, template)
    restored = moved @ matrix[:, :2].T + matrix[:, 2]
    np.testing.assert_allclose(restored, target, atol=0.05)
    assert crop_scale(matrix) == pytest.approx(1 / scale, rel=1e-2)


def test_never_mirrors_a_face() -> None:
    mirrored = np.array(ARCFACE.points, np.float32) * np.array([-1, 1], np.float32)
    matrix = alignment_matrix(mirrored, ARCFACE)
    assert np.linalg.det(matrix[:, :2]) > 0


def test_the_narrow_template_shows_the_middle_of_the_square_template(photos: Path, real_models: Models) -> None:
    image = Photo((photos / "astronaut.png").read_bytes()).raster().pixels
    landmarks = real_models.pipeline.detector.detect(image)[0].landmarks[None]
    square, narrow = align(image, landmarks, ARCFACE), align(image, landmarks, TEMPLATES["arcface-112x96"])
    assert narrow.shape == (1, 112, 96, 3)
    assert np.abs(square[:, :, 8:104].astype(int) - narrow).max() <= 1


@pytest.mark.parametrize(
    "points",
    [np.zeros((5, 2)), np.full((5, 2), 7.0), np.arange(10).reshape(5, 2), np.full((5, 2), np.nan)],
    ids=["origin", "one-point", "line", "nan"],
)
def test_rejects_degenerate_landmarks(points: np.ndarray) -> None:
    with pytest.raises(DegenerateLandmarks):
        align(np.zeros((50, 50, 3), np.uint8), points[None].astype(np.float32), ARCFACE)


def test_real_crops_match_insightface(photos: Path, real_models: Models) -> None:
    face_align = pytest.importorskip("insightface.utils.face_align")
    for name in ("astronaut.png", "group.jpg"):
        image = Photo((photos / name).read_bytes()).raster().pixels
        faces = real_models.pipeline.detector.detect(image)
        crops = align(image, np.stack([face.landmarks for face in faces]), ARCFACE)
        for face, crop in zip(faces, crops, strict=True):
            expected = face_align.norm_crop(image, face.landmarks, image_size=112)
            assert np.abs(expected.astype(int) - crop).max() <= 1
