"""The faces of photos with their embeddings, largest first, as clients of other products expect them."""

from collections.abc import Sequence
from dataclasses import dataclass

from models.deadline import Deadline
from models.errors import VultusError
from models.pipeline import EmbeddedPhoto
from models.quality import NO_GATE, Gate
from models.serving.models import Models
from service.operations.faces import JudgedFace, judge_faces


@dataclass(frozen=True, slots=True, eq=False)
class PhotoFaces:
    """A photo and its faces.

    Attributes:
        width, height: Size of the upright photo in pixels.
        faces: Faces with their embeddings and assessments, largest box first.
    """

    width: int
    height: int
    faces: list[JudgedFace]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright photo in pixels."""
        return self.width, self.height


def faces_of_photos(
    models: Models,
    images: Sequence[bytes],
    deadline: Deadline,
    gate: Gate = NO_GATE,
    min_score: float = 0.0,
    keep_crops: bool = False,
) -> list[PhotoFaces | VultusError]:
    """Detect, embed and assess all faces of photos.

    Args:
        models: Models that detect, embed and assess faces.
        images: Encoded images.
        deadline: Deadline of the request; stage times are added to it.
        gate: Requirements of faces; a face that does not meet them has a refusal.
        min_score: Detection score in [0, 1] that a face must exceed.
        keep_crops: Whether the faces are returned with their crops.

    Returns:
        For each photo, in order, its faces or the error that it caused. A photo may have no face.

    Raises:
        CalibrationUnfit: The gate depends on a calibration, and the model is not calibrated.
        QualityUnvalidated: The gate has a minimum quality, and quality was not validated for this model.
        InferenceFailed: The engine failed.
        RequestCancelled: The client disconnected.
        DeadlineExceeded: The deadline passed.
    """
    models.require_gate(gate)
    photos = models.pipeline.embed(images, "all", deadline, keep_crops=keep_crops)
    return [_faces(models, photo, gate, min_score) if isinstance(photo, EmbeddedPhoto) else photo for photo in photos]


def _faces(models: Models, photo: EmbeddedPhoto, gate: Gate, min_score: float) -> PhotoFaces:
    judged = [found for found in judge_faces(models, photo, gate) if found.face.face.score > min_score]
    judged.sort(key=lambda found: -found.face.face.area)
    return PhotoFaces(photo.width, photo.height, judged)
