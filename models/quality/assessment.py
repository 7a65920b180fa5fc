"""A face's quality, and the reasons for which it is outside of what was measured."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from models.alignment import Template
from models.artefact.card import NormStatistics
from models.detection import Face
from models.errors import DegenerateLandmarks, QualityUnvalidated
from models.quality.geometry import FaceGeometry, GeometryRange, geometry_of
from models.quality.norm import quality_scores

Reason = Literal["face_too_small", "low_quality", "extreme_pose", "cut_off"]
Rejectable = Literal["face_too_small", "extreme_pose", "cut_off"]  # low quality is what `min_quality` says
REASONS: tuple[Reason, ...] = ("face_too_small", "low_quality", "extreme_pose", "cut_off")


@dataclass(frozen=True, slots=True)
class QualityScale:
    """How norms of one embedding contract become quality, and what is known of that.

    Attributes:
        statistics: Of the norm.
        source: Whether the `checkpoint` had the statistics or the calibration `measured` them.
        validated: Whether quality was shown to order this model's errors.
        because: Why not; None if it was.
        evidence: What was measured for that.
        seen: How the faces of the calibration lay in their photos; None without a calibration.
    """

    statistics: NormStatistics
    source: Literal["checkpoint", "measured"]
    validated: bool
    because: str | None
    evidence: dict[str, Any]
    seen: GeometryRange | None

    @classmethod
    def of_checkpoint(cls, statistics: NormStatistics, because: str) -> "QualityScale":
        """Take a checkpoint's own statistics where nothing was measured; such a scale never gates."""
        return cls(statistics, "checkpoint", False, because, {}, None)

    def score(self, norm: float) -> float:
        """Return the quality, 0 to 100, of a face by the length of its embedding."""
        return float(quality_scores(np.array([norm], np.float32), self.statistics)[0])

    def require_validated(self) -> None:
        """Refuse to gate by a quality that says nothing.

        Raises:
            QualityUnvalidated: It was not validated; the sentence says why.
        """
        if not self.validated:
            raise QualityUnvalidated(f"quality cannot gate with this model: {self.because}")


class Assessment(NamedTuple):
    """What is known of a face beside its identity.

    Attributes:
        quality: 0 to 100, higher is better (ISO/IEC 29794-1); None without a scale or an embedding.
        reasons: In which ways it lies outside of what the calibration saw, or of what was asked for.
        geometry: How it lies in its photo, where there is a scale.
    """

    quality: float | None
    reasons: tuple[Reason, ...]
    geometry: FaceGeometry | None = None


def assess(
    face: Face,
    size: tuple[int, int],
    template: Template,
    scale: QualityScale | None,
    norm: float | None = None,
    min_quality: float = 0.0,
) -> Assessment:
    """Judge a face.

    Args:
        face: In pixels of the upright photo.
        size: (width, height) of that photo.
        template: What its crop is aligned to.
        scale: Of the model; without one nothing is known.
        norm: Of its embedding, if it has one.
        min_quality: Below it quality is low.
    """
    if scale is None:
        return Assessment(None, ())
    quality = None if norm is None else scale.score(norm)
    try:
        geometry = geometry_of(face, size, template)
    except DegenerateLandmarks:
        return Assessment(quality, ("extreme_pose",))
    seen, low = scale.seen, quality is not None and quality < min_quality
    found: dict[Reason, bool] = {
        "face_too_small": seen is not None and geometry.side_px < seen.min_side_px,
        "low_quality": low,
        "extreme_pose": seen is not None and geometry.pose > seen.max_pose,
        "cut_off": seen is not None and geometry.cut_off > seen.max_cut_off,
    }
    return Assessment(quality, tuple(reason for reason in REASONS if found[reason]), geometry)
