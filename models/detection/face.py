"""What a detector gives."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.deadline import Deadline


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """A face in a picture.

    Attributes:
        box: (4,) float32, pixels: x1, y1, x2, y2; may reach beyond the picture.
        landmarks: (5, 2) float32, pixels: left eye, right eye, nose, left and right mouth corner, as seen in the
            picture once it is turned so that the face is upright.
        score: The detector's own confidence in [0, 1]; says nothing about identity.
    """

    box: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    score: float

    @property
    def area(self) -> float:
        """Area of the box in square pixels."""
        width, height = self.box[2:] - self.box[:2]
        return float(width * height)

    def scaled(self, factor: tuple[float, float]) -> "Face":
        """Return the face in a picture that is `factor` (x, y) times as large; pixel centres are whole numbers."""
        xy = np.asarray(factor, dtype=np.float32)
        shift = (xy - 1) / np.float32(2)
        box = self.box.reshape(2, 2) * xy + shift
        return Face(box.reshape(4), self.landmarks * xy + shift, self.score)


class FaceDetector(Protocol):
    """Finds faces. Safe for use by several threads at once."""

    family: str

    @property
    def max_side_px(self) -> int:
        """Longest side at which a picture is looked at; more pixels are not used."""

    def detect(self, image: NDArray[np.uint8], deadline: Deadline | None = None) -> list[Face]:
        """Find the faces of a picture.

        Args:
            image: (H, W, 3) uint8, RGB, upright or lying on any side.
            deadline: Whose work it is.

        Returns:
            Faces in pixels of `image`, best score first.

        Raises:
            InferenceFailed: The engine refused, or gave a number that is not finite.
            RequestCancelled, DeadlineExceeded: Nobody waits for the answer any more.
        """
