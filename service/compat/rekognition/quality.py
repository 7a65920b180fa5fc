"""`QualityFilter`: a minimum of the validated quality, and of what the calibration has seen."""

from typing import get_args

from models.errors import QualityUnvalidated
from models.quality import Gate, Reason, Rejectable
from models.serving.models import Models
from service.compat.rekognition.requests import QualityFilter
from service.operations.faces import JudgedFace

_MIN_QUALITY: dict[QualityFilter, float] = {"NONE": 0.0, "AUTO": 10.0, "LOW": 10.0, "MEDIUM": 30.0, "HIGH": 50.0}
"""Minimum quality, 0 to 100, of which 50 is that of an average face of the calibration."""

_REASONS: dict[Reason, str] = {
    "face_too_small": "SMALL_BOUNDING_BOX",
    "low_quality": "LOW_FACE_QUALITY",
    "extreme_pose": "EXTREME_POSE",
    "cut_off": "LOW_FACE_QUALITY",
}

_REJECTED: tuple[Rejectable, ...] = get_args(Rejectable)


def gate_of(models: Models, wanted: QualityFilter, min_quality: float = 0.0) -> Gate:
    """Return the requirements of a filter.

    With `AUTO`, a model whose quality is not validated has no minimum; the other filters need a validated quality.

    Args:
        models: Models that assess faces.
        wanted: The filter.
        min_quality: Minimum quality of the collection.

    Raises:
        QualityUnvalidated: The filter needs a validated quality, and that of the model is not.
    """
    if wanted == "NONE":
        return Gate(min_quality)
    scale = models.quality
    is_validated = scale is not None and scale.validated
    if not is_validated and wanted != "AUTO":
        because = scale.because if scale else models.uncalibrated_because
        raise QualityUnvalidated(f"QualityFilter {wanted} cannot be used with this model: {because}")
    needed = max(min_quality, _MIN_QUALITY[wanted] if is_validated else 0.0)
    return Gate(needed, _REJECTED if scale is not None and scale.seen is not None else ())


def reasons_of(judged: JudgedFace) -> list[str]:
    """Return why a face was refused."""
    return list(dict.fromkeys(_REASONS[reason] for reason in judged.assessment.reasons)) or ["LOW_FACE_QUALITY"]
