"""The quality of a face and the reasons why it lies outside the calibration."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from models.alignment import AlignmentTemplate
from models.artefact.card import NormStatistics
from models.detection import Face
from models.errors import DegenerateLandmarks, QualityUnvalidated
from models.quality.geometry import FaceGeometry, GeometryRange, geometry_of
from models.quality.norm import quality_scores

Reason = Literal["face_too_small", "low_quality", "extreme_pose", "cut_off"]
Rejectable = Literal["face_too_small", "extreme_pose", "cut_off"]  # low quality is rejected by `min_quality`
REASONS: tuple[Reason, ...] = ("face_too_small", "low_quality", "extreme_pose", "cut_off")


@dataclass(frozen=True, slots=True)
class QualityScale:
    """The map from norm to quality for one embedding contract, and its validation.

    Attributes:
        statistics: Statistics of the norm.
        source: `checkpoint` if the statistics come from the checkpoint, `measured` if from the calibration.
        validated: Whether measurements have shown that the quality predicts the errors of this model.
        because: Reason why the quality is not validated; None if it is.
        evidence: Measurements of the validation.
        seen: Geometry range of the faces of the calibration; None without a calibration.
    """

    statistics: NormStatistics
    source: Literal["checkpoint", "measured"]
    validated: bool
    because: str | None
    evidence: dict[str, Any]
    seen: GeometryRange | None

    @classmethod
    def of_checkpoint(cls, statistics: NormStatistics, because: str) -> "QualityScale":
        """Return a scale from the statistics of a checkpoint without a calibration. Such a scale cannot be a gate.

        Args:
            statistics: Statistics of the norm, stored in the checkpoint.
            because: Reason why the quality is not validated.
        """
        return cls(statistics, "checkpoint", False, because, {}, None)

    def score(self, norm: float) -> float:
        """Return the quality, 0 to 100, for the norm of an embedding."""
        return float(quality_scores(np.array([norm], np.float32), self.statistics)[0])

    def require_validated(self) -> None:
        """Raise an error unless the quality is validated.

        Raises:
            QualityUnvalidated: The quality is not validated; the message states the reason.
        """
        if not self.validated:
            raise QualityUnvalidated(f"quality cannot be used as a gate with this model: {self.because}")


class Assessment(NamedTuple):
    """The quality and geometry of a face.

    Attributes:
        quality: Quality from 0 to 100, higher is better (ISO/IEC 29794-1); None without a scale or an embedding.
        reasons: Reasons why the face lies outside the ranges of the calibration or below the required quality.
        geometry: Geometry of the face in its photo; None without a scale or if the landmarks are degenerate.
    """

    quality: float | None
    reasons: tuple[Reason, ...]
    geometry: FaceGeometry | None = None


def assess(
    face: Face,
    size: tuple[int, int],
    template: AlignmentTemplate,
    scale: QualityScale | None,
    norm: float | None = None,
    min_quality: float = 0.0,
) -> Assessment:
    """Assess the quality and geometry of a face.

    Args:
        face: Face in pixels of the upright photo.
        size: (width, height) of the upright photo in pixels.
        template: Alignment template of the crop.
        scale: Quality scale of the model; if None, the assessment is empty.
        norm: Norm of the embedding; None if the face was not embedded.
        min_quality: Minimum quality; a face below it has the reason `low_quality`. With a calibration, a face of
            quality 0 always has it: its norm is so low that the calibration has next to no such face.
    """
    if scale is None:
        return Assessment(None, ())
    quality = None if norm is None else scale.score(norm)
    try:
        geometry = geometry_of(face, size, template)
    except DegenerateLandmarks:
        return Assessment(quality, ("extreme_pose",))
    seen = scale.seen
    low = quality is not None and (quality < min_quality or (seen is not None and quality <= 0))
    found: dict[Reason, bool] = {
        "face_too_small": seen is not None and geometry.side_px < seen.min_side_px,
        "low_quality": low,
        "extreme_pose": not face.confirmed or (seen is not None and geometry.pose > seen.max_pose),
        "cut_off": seen is not None and geometry.cut_off > seen.max_cut_off,
    }
    return Assessment(quality, tuple(reason for reason in REASONS if found[reason]), geometry)
