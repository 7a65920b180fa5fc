"""Face detection."""

from models.detection.detector import AnchorDetector, DetectionOptions, canvases
from models.detection.face import Face
from models.detection.heads import HEADS, SCRFD, STRIDES, YUNET, DetectorHead
from models.detection.interface import FaceDetector

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
