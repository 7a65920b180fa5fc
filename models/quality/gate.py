"""Reject faces by quality and geometry."""

from collections.abc import Sequence
from dataclasses import dataclass

from models.errors import CalibrationUnfit, CutOff, ExtremePose, FaceError, FaceTooSmall, LowQuality
from models.quality.assessment import Assessment, QualityScale, Reason, Rejectable


@dataclass(frozen=True, slots=True)
class Gate:
    """Requirements on the quality and geometry of a face.

    Attributes:
        min_quality: Minimum quality, 0 to 100; 0 accepts every quality.
        reject: Reasons for which a face outside the ranges of the calibration is rejected.
    """

    min_quality: float = 0.0
    reject: tuple[Rejectable, ...] = ()

    def with_min_quality(self, min_quality: float) -> "Gate":
        """Return the gate with its minimum quality raised to at least `min_quality`."""
        return Gate(max(self.min_quality, min_quality), self.reject)

    def require_usable(self, scale: QualityScale | None, uncalibrated_because: str | None) -> None:
        """Raise an error if the gate requires measurements that the model does not have.

        Args:
            scale: Quality scale of the model, if it has one.
            uncalibrated_because: Reason why the model has no calibration.

        Raises:
            CalibrationUnfit: The model has no calibration.
            QualityUnvalidated: The gate has a minimum quality, but the quality of the model is not validated.
        """
        if self.min_quality <= 0 and not self.reject:
            return
        if scale is None or (self.reject and scale.seen is None):
            raise CalibrationUnfit(f"faces cannot be gated without a calibration: {uncalibrated_because}")
        if self.min_quality > 0:
            scale.require_validated()

    def refusal(self, assessment: Assessment, scale: QualityScale | None) -> FaceError | None:
        """Return the error with which a face is rejected, or None if it is accepted."""
        if scale is None:
            return None
        reasons: Sequence[Reason] = [reason for reason in assessment.reasons if reason in self.reject]
        if assessment.quality is not None and assessment.quality < self.min_quality:
            return LowQuality(
                f"the face's quality is {assessment.quality:.0f}; at least {self.min_quality:g} is required"
            )
        if "face_too_small" in reasons and assessment.geometry is not None and scale.seen is not None:
            minimum = scale.seen.min_side_px
            return FaceTooSmall(
                f"the shorter side of the face's box has {assessment.geometry.side_px:.0f} pixels; "
                f"the calibration has no face below {minimum:.0f}"
            )
        if "extreme_pose" in reasons:
            return ExtremePose("the face is turned or tilted further than the faces of the calibration")
        if "cut_off" in reasons:
            return CutOff("more of the face lies outside the photo than for the faces of the calibration")
        return None


NO_GATE = Gate()
