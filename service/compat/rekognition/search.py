"""`SearchFaces` and `SearchFacesByImage`: stored faces that resemble a face."""

import numpy as np
from numpy.typing import NDArray

from models.deadline import Deadline
from models.errors import NoFace, VultusError
from service.api.backend import Backend
from service.api.intake.body import ReceivedRequest
from service.audit.events import template_search_events
from service.compat.rekognition.faces import require_face
from service.compat.rekognition.images import photo_of
from service.compat.rekognition.naming import faces_without_user
from service.compat.rekognition.quality import gate_of
from service.compat.rekognition.requests import Image, QualityFilter, SearchFaces, SearchFacesByImage
from service.compat.rekognition.routing import Answer, add_reading, rekognition_router, scale_of
from service.compat.rekognition.wire import bounding_box, confidence, stored_face
from service.compat.stored_faces import nearest_measured
from service.gallery.administration import read_gallery
from service.gallery.identification import template_vector
from service.gallery.template_reading import metadata_of_templates
from service.operations.faces import JudgedFace
from service.operations.photo_faces import PhotoFaces, faces_of_photos

router = rekognition_router()


def faces_in(backend: Backend, image: Image, wanted: QualityFilter, deadline: Deadline, collection: str) -> PhotoFaces:
    """Return the faces of a photo that is to be searched for; at least the largest can be compared.

    Raises:
        NoFace: The photo has no face, or the largest does not meet the filter.
        VultusError: The photo cannot be used, or the engine failed.
    """
    gallery, _, _ = read_gallery(backend.galleries, collection)
    content = photo_of(image, backend.settings.compat.s3_directory)
    gate = gate_of(backend.models, wanted, gallery.min_quality)
    (photo,) = faces_of_photos(backend.models, [content], deadline, gate)
    if isinstance(photo, VultusError):
        raise photo
    backend.metrics.observe_quality(judged.assessment for judged in photo.faces)
    if not photo.faces or photo.faces[0].refusal is not None:
        raise NoFace("no face was found in the image")
    return photo


def is_measured(judged: JudgedFace) -> bool:
    """Return whether the scale of similarities holds for a face.

    Strangers whose faces are hardly recognisable resemble each other, so nothing was measured for such faces. Of a
    stored face, `OwnedTemplate.is_measured` says it.
    """
    return "low_quality" not in judged.assessment.reasons


def _search_face(backend: Backend, body: SearchFaces, received: ReceivedRequest, deadline: Deadline) -> Answer:
    searched = require_face(backend.galleries, body.collection_id, body.face_id)
    probe = template_vector(backend.galleries, body.collection_id, searched)
    found = _matches(
        *(backend, body.collection_id, probe, body.max_faces if searched.is_measured else 0),
        *(body.face_match_threshold, received, deadline, searched.key),
    )
    return {"SearchedFaceId": body.face_id, **found}


def _search_photo(backend: Backend, body: SearchFacesByImage, received: ReceivedRequest, deadline: Deadline) -> Answer:
    photo = faces_in(backend, body.image, body.quality_filter, deadline, body.collection_id)
    largest = photo.faces[0]
    found = _matches(
        *(backend, body.collection_id, largest.face.embedding, body.max_faces if is_measured(largest) else 0),
        *(body.face_match_threshold, received, deadline),
    )
    return {
        "SearchedFaceBoundingBox": bounding_box(largest.face.face.box, photo.size),
        "SearchedFaceConfidence": confidence(largest.face.face),
        **found,
    }


def _matches(
    backend: Backend,
    collection: str,
    probe: NDArray[np.float32],
    most: int,
    threshold: float,
    received: ReceivedRequest,
    deadline: Deadline,
    without: int | None = None,
) -> Answer:
    """Return the faces that resemble a probe, and record the search.

    Args:
        backend: The backend.
        collection: Name of the collection.
        probe: (D,) float32 of length 1.
        most: Maximum number of faces.
        threshold: Minimum similarity, 0 to 100.
        received: The request.
        deadline: Its deadline.
        without: Key of a template that is not an answer, because it is the probe.
    """
    galleries, scale = backend.galleries, scale_of(backend)
    gallery, _, templates = read_gallery(galleries, collection)
    wanted = min(most + (without is not None), templates) if most else 0
    found = []
    if wanted:
        with deadline.stage("search"):
            (found,) = nearest_measured(
                galleries, collection, probe[None], wanted, templates, scale.cosine(threshold), deadline
            )
    found = [candidate for candidate in found if candidate.template.key != without][:most]
    received.events.extend(template_search_events(galleries, collection, [found]))
    backend.metrics.count_comparisons("identify", templates)
    metadata = metadata_of_templates(galleries, collection, [candidate.template.key for candidate in found])
    alone = faces_without_user(galleries, collection, [candidate.template for candidate in found])
    return {
        "FaceMatches": [
            {
                "Similarity": scale.similarity(candidate.similarity),
                "Face": stored_face(candidate.template, metadata, gallery.contract_id, alone),
            }
            for candidate in found
        ],
        "FaceModelVersion": gallery.contract_id,
    }


add_reading(router, "SearchFaces", SearchFaces, "identify", _search_face)
add_reading(router, "SearchFacesByImage", SearchFacesByImage, "identify", _search_photo)
