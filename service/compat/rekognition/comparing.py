"""`CompareFaces` and `DetectFaces`: photos without a collection."""

from models.deadline import Deadline
from models.errors import NoFace, VultusError
from service.api.backend import Backend
from service.api.intake.body import ReceivedRequest
from service.audit.events import comparison_event
from service.compat.rekognition.images import photo_of
from service.compat.rekognition.indexing import MAX_FACES
from service.compat.rekognition.quality import gate_of
from service.compat.rekognition.requests import CompareFaces, DetectFaces
from service.compat.rekognition.routing import Answer, add_reading, rekognition_router, scale_of
from service.compat.rekognition.search import is_measured
from service.compat.rekognition.wire import bounding_box, confidence, face_detail
from service.operations.photo_faces import PhotoFaces, faces_of_photos

router = rekognition_router()

_UNMEASURED = -1.0  # below every threshold


def _compare(backend: Backend, body: CompareFaces, received: ReceivedRequest, deadline: Deadline) -> Answer:
    scale = scale_of(backend)
    buckets = backend.settings.compat.s3_directory
    images = [photo_of(image, buckets) for image in (body.source_image, body.target_image)]
    gate = gate_of(backend.models, body.quality_filter)
    source, target = map(_usable, faces_of_photos(backend.models, images, deadline, gate))
    probe = source.faces[0]
    matched, unmatched, cosines = [], [], []
    for judged in target.faces[:MAX_FACES]:
        cosine = float(probe.face.embedding @ judged.face.embedding)
        similarity = scale.similarity(cosine) if is_measured(probe) and is_measured(judged) else _UNMEASURED
        cosines.append(cosine)
        detail = face_detail(judged.face.face, target.size)
        if similarity >= body.similarity_threshold:
            matched.append({"Similarity": similarity, "Face": detail})
        else:
            unmatched.append(detail)
    matched.sort(key=lambda match: -float(match["Similarity"]))  # type: ignore[arg-type]
    received.events.append(comparison_event(backend.galleries, cosines))
    backend.metrics.count_comparisons("verify", len(cosines))
    backend.metrics.observe_quality(judged.assessment for photo in (source, target) for judged in photo.faces)
    return {
        "SourceImageFace": {
            "BoundingBox": bounding_box(probe.face.face.box, source.size),
            "Confidence": confidence(probe.face.face),
        },
        "FaceMatches": matched,
        "UnmatchedFaces": unmatched,
    }


def _usable(photo: PhotoFaces | VultusError) -> PhotoFaces:
    """Return the faces of a photo that the filter accepts.

    Raises:
        NoFace: There is none.
        VultusError: The photo cannot be used.
    """
    if isinstance(photo, VultusError):
        raise photo
    accepted = [judged for judged in photo.faces if judged.refusal is None]
    if not accepted:
        raise NoFace("no face was found in the image")
    return PhotoFaces(photo.width, photo.height, accepted)


def _detect(backend: Backend, body: DetectFaces, _received: ReceivedRequest, deadline: Deadline) -> Answer:
    image = photo_of(body.image, backend.settings.compat.s3_directory)
    (photo,) = backend.models.pipeline.detect([image], "all", deadline)
    if isinstance(photo, VultusError):
        raise photo
    faces = sorted(photo.faces, key=lambda face: -face.area)[:MAX_FACES]
    return {"FaceDetails": [face_detail(face, (photo.width, photo.height)) for face in faces]}


add_reading(router, "CompareFaces", CompareFaces, "verify", _compare)
add_reading(router, "DetectFaces", DetectFaces, "detect", _detect)
