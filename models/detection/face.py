"""The face record and the interface of face detectors."""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.deadline import Deadline


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """A face in a photo.

    Attributes:
        box: (4,) float32, pixels: x1, y1, x2, y2; may extend beyond the photo.
        landmarks: (5, 2) float32, pixels: left eye, right eye, nose, left and right mouth corner, as seen in the
            photo after rotating it until the face is upright.
        score: Detection confidence in [0, 1], which is independent of identity.
        confirmed: Whether the landmarks are believed; False for a tilted face that looked different in each view.
    """

    box: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    score: float
    confirmed: bool = True

    @property
    def area(self) -> float:
        """Area of the box in square pixels."""
        width, height = self.box[2:] - self.box[:2]
        return float(width * height)

    def scaled(self, factor: tuple[float, float]) -> "Face":
        """Return the face in a photo resized by `factor` (x, y). Pixel centres have integer coordinates."""
        xy = np.asarray(factor, dtype=np.float32)
        shift = (xy - 1) / np.float32(2)
        box = self.box.reshape(2, 2) * xy + shift
        return replace(self, box=box.reshape(4), landmarks=self.landmarks * xy + shift)

    def moved(self, offset: tuple[float, float]) -> "Face":
        """Return the face moved by `offset` (x, y) in pixels."""
        xy = np.asarray(offset, dtype=np.float32)
        return replace(self, box=(self.box.reshape(2, 2) + xy).reshape(4), landmarks=self.landmarks + xy)


class FaceDetector(Protocol):
    """A face detector. Thread-safe.

    Attributes:
        family: Name of the detector family, part of the embedding contract.
    """

    family: str

    @property
    def max_side_px(self) -> int:
        """Length in pixels to which the longer side of a larger photo is reduced before detection."""

    def raster_scale(self, width: int, height: int) -> float:
        """Return the scale, relative to a photo of a size in pixels, at which `detect` needs its pixels."""

    def detect(self, image: NDArray[np.uint8], deadline: Deadline | None = None) -> list[Face]:
        """Detect the faces of a photo.

        Args:
            image: (H, W, 3) uint8, RGB, upright or rotated by 90, 180 or 270 degrees.
            deadline: Deadline of the request.

        Returns:
            Faces in pixels of `image`, highest score first.

        Raises:
            InferenceFailed: The engine failed or returned a number that is not finite.
            RequestCancelled: The client disconnected.
            DeadlineExceeded: The time limit is exceeded.
        """

    def confirm(self, image: NDArray[np.uint8], faces: list[Face], deadline: Deadline | None = None) -> list[Face]:
        """Look again at the tilted ones of detected faces, so that their landmarks are right.

        Args:
            image: (H, W, 3) uint8, RGB; the image in which the faces were detected.
            faces: Faces in pixels of `image`.
            deadline: Deadline of the request.

        Returns:
            The faces in the same order; those whose landmarks remain uncertain are not `confirmed`.

        Raises:
            InferenceFailed: The engine failed or returned a number that is not finite.
            RequestCancelled: The client disconnected.
            DeadlineExceeded: The time limit is exceeded.
        """
