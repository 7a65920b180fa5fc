"""What faces must keep to, beyond being found."""

from collections.abc import Sequence
from dataclasses import dataclass

from models.errors import CalibrationUnfit, CutOff, ExtremePose, FaceError, FaceTooSmall, LowQuality
from models.quality.assessment import Assessment, QualityScale, Reason, Rejectable


@dataclass(frozen=True, slots=True)
class Gate:
    """What is asked of a face.

    Attributes:
        min_quality: Least quality, 0 to 100; 0 asks for nothing.
        reject: Reasons for which a face is refused: it lies outside of what the calibration saw.
    """

    min_quality: float = 0.0
    reject: tuple[Rejectable, ...] = ()

    def at_least(self, min_quality: float) -> "Gate":
        """Return a gate that asks for that quality too."""
        return Gate(max(self.min_quality, min_quality), self.reject)

    def require_usable(self, scale: QualityScale | None, uncalibrated_because: str | None) -> None:
        """Refuse to gate by what was not measured.

        Raises:
            CalibrationUnfit: There is no calibration.
            QualityUnvalidated: Quality was not shown to order this model's errors.
        """
        if self.min_quality <= 0 and not self.reject:
            return
        if scale is None or (self.reject and scale.seen is None):
            raise CalibrationUnfit(f"faces cannot be gated: {uncalibrated_because}")
        if self.min_quality > 0:
            scale.require_validated()

    def refusal(self, face: Assessment, scale: QualityScale | None) -> FaceError | None:
        """Say why a face is refused; None if it is not."""
        if scale is None:
            return None
        reasons: Sequence[Reason] = [reason for reason in face.reasons if reason in self.reject]
        if face.quality is not None and face.quality < self.min_quality:
            return LowQuality(f"the face's quality is {face.quality:.0f}; at least {self.min_quality:g} is asked for")
        if "face_too_small" in reasons and face.geometry is not None and scale.seen is not None:
            least = scale.seen.min_side_px
            return FaceTooSmall(
                f"the face is {face.geometry.side_px:.0f} pixels across; none below {least:.0f} was measured"
            )
        if "extreme_pose" in reasons:
            return ExtremePose("the face is turned away further than any that was measured")
        if "cut_off" in reasons:
            return CutOff("more of the face lies beyond the photo than of any that was measured")
        return None


NO_GATE = Gate()
