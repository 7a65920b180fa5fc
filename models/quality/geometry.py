"""The geometry of a face in its photo: its size, its pose and the part outside the photo.

These measures are not quality scores. A face is flagged if one of them lies outside the range of the calibration,
because the error rates were not measured for such faces.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from models.alignment import AlignmentTemplate, alignment_matrix
from models.detection import Face


class FaceGeometry(NamedTuple):
    """The geometry of a face in its photo.

    Attributes:
        side_px: Shorter side of the box in pixels of the upright photo.
        pose: Root mean square distance between the five aligned landmarks and those of the template, divided by the
            distance between the eyes of the template. It grows with yaw and pitch, because no similarity transform
            maps a turned head to the template. Wrong landmarks also increase it.
        cut_off: Share of the crop area that lies outside the photo, in [0, 1].
    """

    side_px: float
    pose: float
    cut_off: float


class GeometryRange(NamedTuple):
    """The range of the faces of a calibration, without the most extreme 0.1 % at each limit.

    Attributes:
        min_side_px: Minimum of `FaceGeometry.side_px`.
        max_pose, max_cut_off: Maximum of `FaceGeometry.pose` and of `FaceGeometry.cut_off`.
    """

    min_side_px: float
    max_pose: float
    max_cut_off: float


_OUTLIERS = 1e-3


def geometry_of(face: Face, size: tuple[int, int], template: AlignmentTemplate) -> FaceGeometry:
    """Measure the geometry of a face.

    Args:
        face: Face in pixels of the upright photo.
        size: (width, height) of the upright photo in pixels.
        template: Alignment template of the crop.

    Raises:
        DegenerateLandmarks: The five landmarks coincide or lie on one line.
    """
    matrix = alignment_matrix(face.landmarks, template)
    target = np.array(template.points)
    aligned = face.landmarks @ matrix[:, :2].T + matrix[:, 2]
    distance = np.sqrt(((aligned - target) ** 2).sum(axis=1).mean())
    return FaceGeometry(
        float((face.box[2:] - face.box[:2]).min()),
        float(distance / np.linalg.norm(target[1] - target[0])),
        _beyond(matrix, size, template),
    )


def measured_range(geometry: NDArray[np.float32]) -> GeometryRange:
    """Return the range of geometries without the most extreme 0.1 % at each limit.

    Args:
        geometry: (N, 3) float32; one row of `FaceGeometry` for each face.
    """
    side, pose, cut_off = geometry.T.astype(np.float64)
    return GeometryRange(
        float(np.quantile(side, _OUTLIERS)),
        float(np.quantile(pose, 1 - _OUTLIERS)),
        float(np.quantile(cut_off, 1 - _OUTLIERS)),
    )


def _beyond(matrix: NDArray[np.float64], size: tuple[int, int], template: AlignmentTemplate) -> float:
    """Return the share of the crop outside the photo. Pixel centres have integer coordinates."""
    crop = _corners((template.width, template.height))
    inverse = np.linalg.inv(matrix[:, :2])
    in_photo = ((crop - matrix[:, 2]) @ inverse.T).astype(np.float32)
    visible, _ = cv2.intersectConvexConvex(in_photo, _corners(size).astype(np.float32))
    total = float(cv2.contourArea(in_photo))
    return min(1.0, max(0.0, 1 - visible / total))


def _corners(size: tuple[int, int]) -> NDArray[np.float64]:
    right, bottom = size[0] - 0.5, size[1] - 0.5
    return np.array([(-0.5, -0.5), (right, -0.5), (right, bottom), (-0.5, bottom)])
