"""The face record."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


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

    @property
    def side(self) -> float:
        """Longer side of the box in pixels."""
        return float((self.box[2:] - self.box[:2]).max())

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
