"""Agreement with the detectors of OpenCV and InsightFace on the same pixels."""

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from models.artefact.card import DETECTOR_GRAPH
from models.detection import HEADS, AnchorDetector, DetectionOptions, Face, canvases
from models.detection.detector import DETECTOR_OUTPUTS
from models.export.packs import build_detector
from models.imaging import Photo
from models.packs import PackStore, find_manifest
from models.packs.manifest import DetectorEntry
from models.packs.sources import fetch_published
from models.runtime import RuntimeOptions, open_session
from tests.models.detection.test_detector import overlap

MIN_IOU, MAX_LANDMARK_PX = 0.98, 1.0
PRECISIONS = [("onnxruntime", "fp32"), ("openvino", "fp32")]


def load(graph: Path, family: str, engine: str, precision: str) -> AnchorDetector:
    options = RuntimeOptions(engine=engine, precision=precision)  # type: ignore[arg-type]
    session = open_session(graph, DETECTOR_OUTPUTS, canvases(DetectionOptions()), options)
    return AnchorDetector(session, HEADS[family])


def real_images(shared: Path, photos: Path) -> list[NDArray[np.uint8]]:
    """Return portraits of LFW and the group photo, which is reduced to the input size of the detectors."""
    lfw = sorted((shared / "data" / "lfw" / "images").glob("*/*_0001.jpg"))[::240]
    group = Photo((photos / "group.jpg").read_bytes()).raster().pixels
    images = [Photo(path.read_bytes()).raster().pixels for path in lfw]
    return [*images, cv2.resize(group, (640, 443), interpolation=cv2.INTER_AREA).astype(np.uint8)]


def on_canvas(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    canvas = np.zeros((*size, 3), np.uint8)
    canvas[: image.shape[0], : image.shape[1]] = image
    return canvas


def opencv_faces(graph: Path, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the boxes and landmarks of FaceDetectorYN for the canvas that our detector uses.

    The black border is part of the input: a border of another width moves landmarks by up to 1.3 px.
    """
    height, width = image.shape[:2]
    canvas = next(size for size in canvases(DetectionOptions()) if size[0] >= height and size[1] >= width)
    detector = cv2.FaceDetectorYN.create(str(graph), "", canvas[::-1], 0.6, 0.3, 5000)
    _, rows = detector.detect(np.ascontiguousarray(on_canvas(image, canvas)[..., ::-1]))
    found = np.asarray(rows if rows is not None else np.zeros((0, 15)), dtype=np.float32)
    boxes = np.concatenate([found[:, :2], found[:, :2] + found[:, 2:4]], axis=1)
    return boxes, found[:, 4:14].reshape(-1, 5, 2)


def assert_agree(ours: list[Face], boxes: NDArray[np.float32], landmarks: NDArray[np.float32]) -> None:
    assert len(ours) == len(boxes)
    for box, points in zip(boxes, landmarks, strict=True):
        face = max(ours, key=lambda face: overlap(face.box, box))
        assert overlap(face.box, box) >= MIN_IOU
        assert np.abs(face.landmarks - points).max() <= MAX_LANDMARK_PX


@pytest.mark.parametrize(("engine", "precision"), PRECISIONS)
def test_yunet_matches_opencv(shared: Path, photos: Path, tmp_path: Path, engine: str, precision: str) -> None:
    """The same weights in float32: the exported model of the OpenCV zoo before block quantisation."""
    published = shared / "models" / "yunet_n_dynamic.onnx"
    graph = _fixed_size(published, tmp_path / "published.onnx")
    entry = DetectorEntry(family="yunet", file=graph.name, licence="", color="bgr")
    build_detector(entry, graph, tmp_path / "built")
    ours = load(tmp_path / "built" / DETECTOR_GRAPH, "yunet", engine, precision)
    for image in real_images(shared, photos):
        boxes, landmarks = opencv_faces(graph, image)
        assert_agree(ours.detect_once(image), boxes, landmarks)


@pytest.mark.parametrize(("engine", "precision"), [*PRECISIONS, ("openvino", "auto")])
def test_the_default_pack_matches_opencv(
    store: PackStore, photos: Path, tmp_path: Path, engine: str, precision: str
) -> None:
    """The published file of the pack, with block-quantised weights, on photos of the repository instead of `shared`."""
    manifest = find_manifest("opencv-zoo")
    published = fetch_published(manifest, tmp_path / "published", lambda *_: None)
    ours = load(store.path(manifest) / "detector" / DETECTOR_GRAPH, "yunet", engine, precision)
    for name in ("astronaut.png", "group.jpg"):
        image = Photo((photos / name).read_bytes()).raster().pixels
        image = cv2.resize(image, (640, image.shape[0] * 640 // image.shape[1])).astype(np.uint8)
        boxes, landmarks = opencv_faces(published / manifest.files[0].name, image)
        assert_agree(ours.detect_once(image), boxes, landmarks)


@pytest.mark.parametrize(
    "name", ["scrfd_500m_bnkps.onnx", pytest.param("scrfd_2.5g_bnkps.onnx", marks=pytest.mark.full)]
)
@pytest.mark.parametrize(("engine", "precision"), PRECISIONS)
def test_scrfd_matches_insightface(
    shared: Path, photos: Path, tmp_path: Path, name: str, engine: str, precision: str
) -> None:
    scrfd = pytest.importorskip("insightface.model_zoo.scrfd")
    published = shared / "models" / name
    entry = DetectorEntry(family="scrfd", file=name, licence="", color="rgb", mean=127.5, std=128.0)
    build_detector(entry, published, tmp_path / "built")
    ours = load(tmp_path / "built" / DETECTOR_GRAPH, "scrfd", engine, precision)
    theirs = scrfd.SCRFD(str(published))
    theirs.prepare(-1, input_size=(640, 640), det_thresh=0.5, nms_thresh=0.3)
    for image in real_images(shared, photos):
        canvas = on_canvas(image, (640, 640))
        boxes, landmarks = theirs.detect(np.ascontiguousarray(canvas[..., ::-1]))
        assert_agree(ours.detect_once(canvas), boxes[:, :4], landmarks)


def _fixed_size(source: Path, target: Path) -> Path:
    """Write the graph with a fixed input size, which OpenCV's importer requires; other sizes work nevertheless."""
    model = onnx.load(source)
    for dim, size in zip(model.graph.input[0].type.tensor_type.shape.dim, (1, 3, 640, 640), strict=True):
        dim.dim_value = size
    onnx.save(model, target)
    return target
