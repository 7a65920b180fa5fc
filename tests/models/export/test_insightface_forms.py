"""Packs of InsightFace's forms with drawn weights give what `insightface.model_zoo` gives on the same pixels."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from insightface.model_zoo import get_model
from numpy.typing import NDArray

from models.detection import SCRFD
from models.detection.detector import DETECTOR_OUTPUTS
from models.export.insightface_directory import INSIGHTFACE_LICENCE, Wanted, read_directory
from models.export.packs import add_pack
from models.imaging import Photo
from models.packs import PackStore
from models.runtime import RuntimeOptions, open_session
from models.serving.load import load_models
from models.synthetic import synthetic_pictures
from models.types import no_progress
from tests.models.export.insightface_forms import detector, write_pack

FLOAT32 = RuntimeOptions(precision="fp32")
ROLES = {
    "1k3d68.onnx": "landmark_3d_68",
    "2d106det.onnx": "landmark_2d_106",
    "det_10g.onnx": "detection",
    "genderage.onnx": "genderage",
    "w600k_r50.onnx": "recognition",
}


def theirs(path: Path) -> Any:
    return get_model(str(path), providers=["CPUExecutionProvider"])


def bgr(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(picture[..., ::-1])


@pytest.fixture(scope="module")
def buffalo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pack(tmp_path_factory.mktemp("packs") / "buffalo_l")


def test_the_roles_are_those_of_insightface(buffalo: Path) -> None:
    assert {path.name: theirs(path).taskname for path in sorted(buffalo.iterdir())} == ROLES
    manifest, passed_over = read_directory(buffalo)
    assert manifest.detector is not None
    assert manifest.recognizer is not None
    assert ROLES[manifest.detector.file] == "detection"
    assert ROLES[manifest.recognizer.file] == "recognition"
    assert passed_over == ("1k3d68.onnx", "2d106det.onnx", "genderage.onnx")
    assert manifest.detector.licence == manifest.recognizer.licence == INSIGHTFACE_LICENCE


@pytest.mark.parametrize(("scales_itself", "mean", "std"), [(False, 127.5, 127.5), (True, 0.0, 1.0)])
def test_embeddings_are_those_of_insightface(tmp_path: Path, scales_itself: bool, mean: float, std: float) -> None:
    directory = write_pack(tmp_path / "buffalo_l", scales_itself)
    official = theirs(directory / "w600k_r50.onnx")
    assert (official.input_mean, official.input_std) == (mean, std)
    manifest, store = read_directory(directory).manifest, PackStore(tmp_path / "packs")
    assert manifest.recognizer is not None
    assert (manifest.recognizer.mean, manifest.recognizer.std) == (mean, std)
    add_pack(store, manifest, no_progress)
    models = load_models(store, store.find("buffalo_l"), FLOAT32)
    models.close()
    faces = synthetic_pictures(8, 112, 112)
    expected = np.concatenate([official.get_feat(bgr(face)) for face in faces])
    found = models.pipeline.embedder.embed(faces)
    np.testing.assert_allclose(found.norm, np.linalg.norm(expected, axis=1), rtol=1e-4)
    np.testing.assert_allclose(found.raw, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("side", "batched"), [(None, False), (None, True), (640, False), (640, True)], ids=lambda value: str(value)
)
def test_scores_boxes_and_landmarks_are_those_of_insightface(
    photos: Path, tmp_path: Path, side: int | None, batched: bool
) -> None:
    """For every anchor, also those without a face, on synthetic pictures and on a photo."""
    (tmp_path / "det").mkdir()
    detector(tmp_path / "det/det_10g.onnx", side, batched)
    official = theirs(tmp_path / "det/det_10g.onnx")
    store = PackStore(tmp_path / "packs")
    manifest = read_directory(tmp_path / "det", Wanted("drawn")).manifest
    add_pack(store, manifest, no_progress)
    sizes = ((640, 640),) if side else ((640, 640), (384, 640))
    photo = Photo((photos / "astronaut.png").read_bytes()).raster().pixels
    session = open_session(store.path(manifest) / "detector/detector.onnx", DETECTOR_OUTPUTS, sizes, FLOAT32)
    for height, width in sizes:
        resized = np.asarray(cv2.resize(photo, (width, height)), np.uint8)
        for picture in (synthetic_pictures(1, height, width)[0], resized):
            expected = [np.concatenate(levels) for levels in official.forward(bgr(picture), 0.0)]
            scores, boxes, landmarks = (array[0] for array in session.run(picture[None]))
            anchors = SCRFD.anchors(height, width)
            assert scores.min() < 0.4 < 0.6 < scores.max()
            np.testing.assert_allclose(scores, expected[0].ravel(), atol=1e-4)
            np.testing.assert_allclose(SCRFD.decode_boxes(boxes, anchors), expected[1], atol=0.02)
            np.testing.assert_allclose(SCRFD.decode_landmarks(landmarks, anchors), expected[2], atol=0.02)
