"""Face detection."""

from models.detection.detector import AnchorDetector, DetectionOptions, canvases
from models.detection.face import Face, FaceDetector
from models.detection.heads import HEADS, SCRFD, STRIDES, YUNET, DetectorHead

__all__ = [
    "HEADS",
    "SCRFD",
    "STRIDES",
    "YUNET",
    "AnchorDetector",
    "DetectionOptions",
    "DetectorHead",
    "Face",
    "FaceDetector",
    "canvases",
]
