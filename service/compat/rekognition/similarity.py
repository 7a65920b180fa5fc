"""Similarities from 0 to 100, of which 80 and 99 are measured false match rates.

Clients of Rekognition carry thresholds: 80 is the default of most operations, 99 is what Amazon recommends where a
person is identified. Here, 80 is the threshold of the calibration's default operating point, and 99 that of the next
stricter one; between 0, these and 1 the scale is linear in the cosine. Most strangers are below 50.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from models.calibration import Calibration

DEFAULT, STRICT = 80.0, 99.0
MOST = 100.0


@dataclass(frozen=True, slots=True)
class SimilarityScale:
    """The map between cosines and similarities.

    Attributes:
        cosines: Cosines of the knots, ascending.
        meaning: What 80 and 99 mean, as every answer states it.
    """

    cosines: tuple[float, float, float, float]
    meaning: str

    @classmethod
    def of(cls, calibration: Calibration) -> Self:
        """Return the scale of a calibration.

        If the default point is the strictest, 99 is the bound: the highest similarity of two strangers.
        """
        default = calibration.point()
        stricter = [point for point in calibration.points if point.threshold > default.threshold]
        if stricter:
            threshold, name = min((point.threshold, point.name) for point in stricter)
        else:
            threshold, name = (default.threshold + 1) / 2, "half"
            if default.threshold < calibration.bound.similarity < 1:
                threshold, name = calibration.bound.similarity, "bound"
        return cls((0.0, default.threshold, threshold, 1.0), f"80={default.name}, 99={name}")

    def similarity(self, cosine: float) -> float:
        """Return the similarity, 0 to 100, of a cosine."""
        return float(np.interp(cosine, self.cosines, (0.0, DEFAULT, STRICT, MOST)))

    def cosine(self, similarity: float) -> float:
        """Return the least cosine of a similarity, 0 to 100."""
        if similarity <= 0:
            return -1.0
        return float(np.interp(similarity, (0.0, DEFAULT, STRICT, MOST), self.cosines))
