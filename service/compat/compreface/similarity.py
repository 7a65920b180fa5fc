"""Similarities as clients of CompreFace get them: a number in [0, 1], whose meaning has a name.

CompreFace maps the Euclidean distance d of two normalised embeddings to (tanh((c0 - d) c1) + 1) / 2, with constants for
each of its models (Apache-2.0; `embedding-calculator/src/services/facescan/plugins`, `ml_models` of each `Calculator`).
The curve makes thresholds look familiar; whether they let as many strangers in depends on the model, which is another
one here. A probability by the calibration says what it means.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from models.calibration import ScoreMap

CompreFaceSimilarity = Literal[
    "probability",
    "facenet",
    "arcface-mobilefacenet",
    "arcface-r100",
    "arcface-r34",
    "arcface-r50",
    "arcface-r50-msfdrop75",
    "arcface-r100-msfdrop75",
]

_CURVES: Mapping[str, tuple[float, float]] = {
    "facenet": (1.1817961, 5.291995557),  # 20180402-114759, the model of CompreFace's default build
    "arcface-mobilefacenet": (1.26538905, 5.552089201),
    "arcface-r100": (1.23132175, 6.602259425),
    "arcface-r34": (1.2462842, 5.981636853),
    "arcface-r50": (1.2375747, 5.973354538),
    "arcface-r50-msfdrop75": (1.2350148, 7.071431642),
    "arcface-r100-msfdrop75": (1.224676, 6.322647217),
}
_EVEN_ODDS = 0.5


class SimilarityMap(Protocol):
    """A monotone map from the cosine of two embeddings to a similarity in [0, 1]."""

    @property
    def name(self) -> str:
        """Name of the map, which every answer states."""

    @property
    def is_measured(self) -> bool:
        """Whether it holds only for faces like those of the calibration."""

    def of(self, cosine: float) -> float:
        """Return the similarity for a cosine in [-1, 1]."""


@dataclass(frozen=True, slots=True)
class Probability:
    """The probability of the same person at even odds, by the score map of the calibration."""

    score_map: ScoreMap
    name: str = "probability"
    is_measured: bool = True

    def of(self, cosine: float) -> float:
        """Return the similarity for a cosine in [-1, 1]."""
        return self.score_map.probability(cosine, _EVEN_ODDS)


@dataclass(frozen=True, slots=True)
class Curve:
    """CompreFace's curve with the constants of one of its models."""

    name: str
    is_measured: bool = False

    def of(self, cosine: float) -> float:
        """Return the similarity for a cosine in [-1, 1]."""
        centre, slope = _CURVES[self.name]
        distance = math.sqrt(max(0.0, 2 - 2 * cosine))
        return (math.tanh((centre - distance) * slope) + 1) / 2


def similarity_map(choice: CompreFaceSimilarity, score_map: ScoreMap | None) -> SimilarityMap | None:
    """Return the chosen map; None if it is the probability and the model is not calibrated."""
    if choice != "probability":
        return Curve(choice)
    return None if score_map is None else Probability(score_map)
