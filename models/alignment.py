"""Align faces to the geometry that the recognizer was trained on.

The similarity transform is the least-squares solution of S. Umeyama, "Least-Squares Estimation of Transformation
Parameters Between Two Point Patterns", IEEE TPAMI 13(4), 1991. In two dimensions it needs no singular value
decomposition. The template `arcface-112` is that of J. Deng et al., "ArcFace", CVPR 2019, arXiv 1801.07698. The
template `arcface-112x96` is 8 pixels narrower on each side (W. Liu et al., "SphereFace", CVPR 2017, arXiv 1704.08063).
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from models.errors import DegenerateLandmarks

_FLAT = 1e-3  # minimum spread across the main axis relative to that along it; above 0.1 for a profile face
_ARCFACE = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))


@dataclass(frozen=True, slots=True)
class AlignmentTemplate:
    """An alignment template: the position of the five landmarks in a crop.

    Attributes:
        name: Name in cards and manifests.
        height, width: Size of the crop in pixels.
        points: (x, y) in pixels of left eye, right eye, nose, left and right mouth corner.
    """

    name: str
    height: int
    width: int
    points: tuple[tuple[float, float], ...]


TEMPLATES = {
    template.name: template
    for template in (
        AlignmentTemplate("arcface-112", 112, 112, _ARCFACE),
        AlignmentTemplate("arcface-112x96", 112, 96, tuple((x - 8.0, y) for x, y in _ARCFACE)),
    )
}


def alignment_matrix(landmarks: NDArray[np.float32], template: AlignmentTemplate) -> NDArray[np.float64]:
    """Return the similarity transform from the photo to the crop.

    Args:
        landmarks: (5, 2) float32, pixels; left eye, right eye, nose, left and right mouth corner.
        template: Alignment template of the crop.

    Returns:
        (2, 3) float64: crop = matrix @ (x, y, 1).

    Raises:
        DegenerateLandmarks: The five landmarks coincide or lie on one line.
    """
    source, target = _complex(landmarks.astype(np.float64)), _complex(np.array(template.points))
    source_mean, target_mean = source.mean(), target.mean()
    centred = source - source_mean
    if not np.isfinite(centred).all() or _is_flat(centred):
        raise DegenerateLandmarks("the five landmarks coincide or lie on one line")
    # In two dimensions a rotation with scale is one complex factor, which cannot mirror a face.
    factor = np.vdot(centred, target - target_mean) / np.vdot(centred, centred).real
    shift = target_mean - factor * source_mean
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])


def _complex(points: NDArray[np.float64]) -> NDArray[np.complex128]:
    numbers: NDArray[np.complex128] = points[:, 0] + 1j * points[:, 1]
    return numbers


def _is_flat(centred: NDArray[np.complex128]) -> bool:
    """Return whether the spread across the main axis of the points is negligible against the spread along it."""
    total, difference = np.vdot(centred, centred).real, abs((centred * centred).sum())
    return bool(total - difference <= _FLAT**2 * (total + difference))


def crop_scale(matrix: NDArray[np.float64]) -> float:
    """Return the number of crop pixels for each photo pixel; above 1 the crop is an enlargement."""
    return float(np.hypot(matrix[0, 0], matrix[1, 0]))


def align(image: NDArray[np.uint8], landmarks: NDArray[np.float32], template: AlignmentTemplate) -> NDArray[np.uint8]:
    """Warp faces to their aligned crops.

    Args:
        image: (H, W, 3) uint8, RGB.
        landmarks: (N, 5, 2) float32, pixels; left eye, right eye, nose, left and right mouth corner.
        template: Alignment template of the crop.

    Returns:
        (N, height, width, 3) uint8, RGB; black where the crop extends beyond the photo.

    Raises:
        DegenerateLandmarks: The five landmarks of a face coincide or lie on one line.
    """
    crops = np.empty((len(landmarks), template.height, template.width, 3), np.uint8)
    for crop, points in zip(crops, landmarks, strict=True):
        cv2.warpAffine(image, alignment_matrix(points, template), (template.width, template.height), dst=crop)
    return crops
