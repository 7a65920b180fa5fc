"""What the routes with photos share: the faces of a photo, and similarities of the configured meaning."""

from collections.abc import Sequence

from models.deadline import Deadline
from models.errors import CalibrationUnfit, NoFace, SeveralFaces, VultusError
from models.quality import NO_GATE, Gate
from service.api.backend import Backend
from service.compat.compreface.intake import FaceOptions
from service.compat.compreface.similarity import SimilarityMap, similarity_map
from service.gallery.records import OwnedTemplate
from service.operations.faces import JudgedFace
from service.operations.photo_faces import PhotoFaces, faces_of_photos


def similarity_of(backend: Backend) -> SimilarityMap:
    """Return the configured map of similarities.

    Raises:
        CalibrationUnfit: It is the probability, and the model is not calibrated.
    """
    found = similarity_map(
        backend.settings.compat.compreface_similarity,
        backend.models.calibration.score_map if backend.models.calibration else None,
    )
    if found is None:
        raise CalibrationUnfit(
            f"there is no probability of the same person, so set VULTUS_COMPAT__COMPREFACE_SIMILARITY: "
            f"{backend.models.uncalibrated_because}"
        )
    return found


def largest_faces(
    backend: Backend, images: Sequence[bytes], options: FaceOptions, deadline: Deadline, gate: Gate = NO_GATE
) -> list[PhotoFaces]:
    """Return the faces of photos, as many of the largest as the options allow; each photo has at least one.

    Raises:
        NoFace: A photo has no face.
        VultusError: A photo cannot be used, or the engine failed.
    """
    found = []
    for photo in faces_of_photos(backend.models, images, deadline, gate, options.min_score):
        if isinstance(photo, VultusError):
            raise photo
        if not photo.faces:
            raise NoFace("no face was found in the image")
        faces = photo.faces[: options.limit] if options.limit else photo.faces
        found.append(PhotoFaces(photo.width, photo.height, faces))
        backend.metrics.observe_quality(face.assessment for face in faces)
    return found


def only_face(photo: PhotoFaces) -> JudgedFace:
    """Return the face of a photo.

    Raises:
        SeveralFaces: The photo has several.
    """
    if len(photo.faces) > 1:
        raise SeveralFaces(f"{len(photo.faces)} faces were found in the image; exactly one is required")
    return photo.faces[0]


def is_comparable(judged: JudgedFace, similarity: SimilarityMap) -> bool:
    """Return whether a similarity of a face means what its map says.

    Strangers whose faces are hardly recognisable resemble each other, so no probability was measured for such faces.
    """
    return judged.refusal is None and not (similarity.is_measured and "low_quality" in judged.assessment.reasons)


def is_comparable_example(example: OwnedTemplate, similarity: SimilarityMap) -> bool:
    """Return whether a similarity to an example means what its map says, as `is_comparable` for a face of a photo."""
    return example.is_measured or not similarity.is_measured
