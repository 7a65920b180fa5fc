"""How a face lies in its photo: its size, how far its landmarks are from the template's, how much of it is cut off.

None of the three is a score. A face is flagged where one of them lies outside of what a calibration saw, because no
error rate was measured for such faces.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from models.alignment import Template, alignment_matrix
from models.detection import Face


class FaceGeometry(NamedTuple):
    """How a face lies in its photo.

    Attributes:
        side_px: Shortest side of the box, pixels of the upright photo.
        pose: Root mean square distance of the five aligned landmarks from the template's, as a share of the
            template's distance between the eyes. No similarity transform can take a turned head to the template,
            so it grows with yaw and pitch, and with landmarks that are wrong.
        cut_off: Share of the crop's area that lies beyond the photo.
    """

    side_px: float
    pose: float
    cut_off: float


class GeometryRange(NamedTuple):
    """What a calibration saw, but for one face in a thousand at the end.

    Attributes:
        min_side_px: Smallest face.
        max_pose, max_cut_off: See `FaceGeometry`.
    """

    min_side_px: float
    max_pose: float
    max_cut_off: float


_OUTLIERS = 1e-3


def geometry_of(face: Face, size: tuple[int, int], template: Template) -> FaceGeometry:
    """Measure a face.

    Args:
        face: In pixels of the upright photo.
        size: (width, height) of that photo.
        template: What its crop is aligned to.

    Raises:
        DegenerateLandmarks: The five points coincide or lie on one line.
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
    """Find the range of (N, 3) geometries, without one face in a thousand at its end."""
    side, pose, cut_off = geometry.T.astype(np.float64)
    return GeometryRange(
        float(np.quantile(side, _OUTLIERS)),
        float(np.quantile(pose, 1 - _OUTLIERS)),
        float(np.quantile(cut_off, 1 - _OUTLIERS)),
    )


def _beyond(matrix: NDArray[np.float64], size: tuple[int, int], template: Template) -> float:
    """Return the share of the crop that shows nothing of the photo; pixel centres are whole numbers."""
    crop = _corners((template.width, template.height))
    inverse = np.linalg.inv(matrix[:, :2])
    in_photo = ((crop - matrix[:, 2]) @ inverse.T).astype(np.float32)
    seen, _ = cv2.intersectConvexConvex(in_photo, _corners(size).astype(np.float32))
    whole = float(cv2.contourArea(in_photo))
    return min(1.0, max(0.0, 1 - seen / whole))


def _corners(size: tuple[int, int]) -> NDArray[np.float64]:
    right, bottom = size[0] - 0.5, size[1] - 0.5
    return np.array([(-0.5, -0.5), (right, -0.5), (right, bottom), (-0.5, bottom)])
