"""Face quality from the embedding norm, face geometry, and gates that reject faces by them."""

from models.quality.assessment import REASONS, Assessment, QualityScale, Reason, Rejectable, assess
from models.quality.gate import NO_GATE, Gate
from models.quality.geometry import FaceGeometry, GeometryRange, geometry_of
from models.quality.norm import adaface_indicator, quality_scores

__all__ = [
    "NO_GATE",
    "REASONS",
    "Assessment",
    "FaceGeometry",
    "Gate",
    "GeometryRange",
    "QualityScale",
    "Reason",
    "Rejectable",
    "adaface_indicator",
    "assess",
    "geometry_of",
    "quality_scores",
]
