"""The interface of face detectors."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.deadline import Deadline
from models.detection.face import Face
from models.detection.policy import FacePolicy


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

    def detect(
        self, image: NDArray[np.uint8], deadline: Deadline | None = None, policy: FacePolicy = "all"
    ) -> list[Face]:
        """Detect the faces of a photo.

        Args:
            image: (H, W, 3) uint8, RGB, upright or rotated by 90, 180 or 270 degrees.
            deadline: Deadline of the request.
            policy: How a face will be selected.

        Returns:
            Faces in pixels of `image`, highest score first. Those that `policy` does not need may be missing.

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
