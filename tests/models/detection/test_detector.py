"""Tests of the detector geometry with a fake network, and of detection with the default pack."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.alignment import align
from models.detection import SCRFD, YUNET, AnchorDetector, DetectionOptions, DetectorHead, canvases
from models.imaging import Photo
from models.runtime.fake import FakeSession
from models.serving.models import Models

Image = NDArray[np.uint8]


def overlap(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Return the intersection over union of two boxes."""
    size = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    shared = float(np.prod(np.maximum(size, 0)))
    return shared / (float(np.prod(first[2:] - first[:2])) + float(np.prod(second[2:] - second[:2])) - shared)


def white_box_session(head: DetectorHead, score: float = 0.95) -> FakeSession:
    """Return a network that reports one face: a box around all white pixels, with every landmark in its centre."""

    def answer(image: Image) -> tuple[NDArray[np.float32], ...]:
        anchors = head.anchors(*image.shape[:2])
        scores, boxes = np.zeros(len(anchors), np.float32), np.zeros((len(anchors), 4), np.float32)
        landmarks = np.zeros((len(anchors), 10), np.float32)
        rows, columns = np.nonzero(image[..., 0] > 127)
        if len(rows):
            first, last = np.array([columns.min(), rows.min()]), np.array([columns.max(), rows.max()])
            centre, size = (first + last) / 2, last - first
            x, y, stride = anchors[0]
            scores[0] = score
            if head is YUNET:
                boxes[0] = [*(centre - [x, y]) / stride, *np.log(np.maximum(size, 1) / stride)]
            else:
                boxes[0] = [*(([x, y] - first) / stride), *((last - [x, y]) / stride)]
            landmarks[0] = np.tile((centre - [x, y]) / stride, 5)
        return scores, boxes, landmarks

    return FakeSession(answer)


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(60, 1500),
    height=st.integers(60, 1500),
    share=st.floats(0.1, 0.9),
    head=st.sampled_from([YUNET, SCRFD]),
)
def test_boxes_are_returned_in_pixels_of_the_photo(width: int, height: int, share: float, head: DetectorHead) -> None:
    assume(max(width, height) <= 2.5 * min(width, height))  # other photos are divided, and so is the white box
    image = np.zeros((height, width, 3), np.uint8)
    x, y = round(width * share * 0.3), round(height * share * 0.3)
    right, bottom = x + round(width * share * 0.6), y + round(height * share * 0.6)
    image[y : bottom + 1, x : right + 1] = 255
    (face,) = AnchorDetector(white_box_session(head), head).detect(image)
    tolerance = 2 + max(width, height) / 300
    np.testing.assert_allclose(face.box, [x, y, right, bottom], atol=tolerance)
    np.testing.assert_allclose(face.landmarks, np.tile([(x + right) / 2, (y + bottom) / 2], (5, 1)), atol=tolerance)


def test_every_photo_size_fits_a_canvas() -> None:
    for options in (DetectionOptions(), DetectionOptions(max_side_px=384), DetectionOptions(max_side_px=2048)):
        detector = AnchorDetector(white_box_session(YUNET), YUNET, options)
        for shape in ((16, 16), (16, 5000), (5000, 16), (383, 385), (2048, 2048), (481, 640)):
            assert detector.detect(np.zeros((*shape, 3), np.uint8)) == []
        assert all(side % 32 == 0 for size in canvases(options) for side in size)


def test_anchors_have_the_order_of_the_outputs() -> None:
    anchors = SCRFD.anchors(64, 96)
    assert anchors.shape == (2 * (8 * 12 + 4 * 6 + 2 * 3), 3)
    assert anchors[:4].tolist() == [[0, 0, 8], [0, 0, 8], [8, 0, 8], [8, 0, 8]]
    assert anchors[-1].tolist() == [64, 32, 32]


@pytest.mark.parametrize("turn", [cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_COUNTERCLOCKWISE])
def test_an_unsure_photo_is_tried_in_all_orientations(turn: int) -> None:
    """The network returns a high score only if the green square is in the top left corner."""

    def answer(image: Image) -> tuple[NDArray[np.float32], ...]:
        rows, columns = np.nonzero(image[..., 1] > 127)
        height, width = image.shape[:2]
        upright = len(rows) and rows.mean() < height / 2 and columns.mean() < width / 2
        scores, boxes, landmarks = white_box_session(YUNET, 0.95 if upright else 0.7)._answer(image)
        return scores, boxes, landmarks

    upright = np.zeros((640, 640, 3), np.uint8)
    upright[:40, :40, 1] = 255
    upright[100:301, 200:321, 0] = 255
    turned = cv2.rotate(upright, turn).astype(np.uint8)
    (face,) = AnchorDetector(FakeSession(answer), YUNET).detect(turned)
    rows, columns = np.nonzero(turned[..., 0])
    np.testing.assert_allclose(face.box, [columns.min(), rows.min(), columns.max(), rows.max()], atol=2)
    assert face.score == pytest.approx(0.95)


def test_a_rotated_face_does_not_hide_an_upright_face(real_models: Models, photos: Path) -> None:
    """The policy `single` must reject a photo of two people."""
    group = Photo((photos / "group.jpg").read_bytes()).raster().pixels[80:330, 200:480]
    portrait = cv2.rotate(Photo((photos / "astronaut.png").read_bytes()).raster().pixels, cv2.ROTATE_90_CLOCKWISE)
    both = np.full((760, 860, 3), 128, np.uint8)
    both[:250, :280] = group
    both[248:760, 348:860] = portrait
    for photo in (both, cv2.resize(both, (430, 380), interpolation=cv2.INTER_AREA).astype(np.uint8)):
        boxes = [face.box for face in real_models.pipeline.detector.detect(photo)]
        assert len(boxes) == 2
        assert {bool(box[0] > photo.shape[1] / 3) for box in boxes} == {True, False}


def test_finds_faces_that_fill_the_frame(real_models: Models, photos: Path) -> None:
    detector = real_models.pipeline.detector
    image = Photo((photos / "astronaut.png").read_bytes()).raster().pixels
    (face, *_) = detector.detect(image)
    x1, y1, x2, y2 = face.box.round().astype(int)
    close_up = cv2.resize(image[y1:y2, x1:x2], None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    (found,) = detector.detect(close_up)
    embedder = real_models.pipeline.embedder
    full = embedder.embed(align(image, face.landmarks[None], embedder.template)).embedding
    close = embedder.embed(align(close_up, found.landmarks[None], embedder.template)).embedding
    assert float(full[0] @ close[0]) > 0.8


@pytest.mark.parametrize("turn", [cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_COUNTERCLOCKWISE])
def test_finds_the_face_in_a_rotated_photo(real_models: Models, photos: Path, turn: int) -> None:
    pipeline = real_models.pipeline
    image = Photo((photos / "astronaut.png").read_bytes()).raster().pixels
    turned = cv2.rotate(image, turn).astype(np.uint8)
    upright, found = pipeline.detector.detect(image)[0], pipeline.detector.detect(turned)[0]
    height, width = image.shape[:2]
    x, y = upright.landmarks.T
    expected = {
        cv2.ROTATE_90_CLOCKWISE: (height - 1 - y, x),
        cv2.ROTATE_180: (width - 1 - x, height - 1 - y),
        cv2.ROTATE_90_COUNTERCLOCKWISE: (y, width - 1 - x),
    }[turn]
    np.testing.assert_allclose(found.landmarks, np.stack(expected, axis=1), atol=3)
