"""`IndexFaces`: store the faces of a photo, each as a subject of its own until it is associated with a user."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from models.deadline import Deadline
from models.errors import VultusError
from service.api.backend import Backend
from service.api.intake.body import ReceivedRequest
from service.audit.records import Event
from service.compat.face_ids import face_id
from service.compat.rekognition.images import photo_of
from service.compat.rekognition.naming import faces_without_user, own_subject
from service.compat.rekognition.quality import gate_of, reasons_of
from service.compat.rekognition.requests import IndexFaces
from service.compat.rekognition.routing import Answer, add_changing, rekognition_router
from service.compat.rekognition.wire import bounding_box, confidence, face_detail, stored_face
from service.gallery.galleries import Galleries
from service.gallery.pseudonyms import pseudonyms_of_names
from service.gallery.records import Gallery, NewTemplate, OwnedTemplate
from service.gallery.single_templates import free_names
from service.gallery.template_reading import find_templates, metadata_of_templates
from service.gallery.templates import store_templates
from service.operations.acquire import face_template, image_source
from service.operations.faces import JudgedFace
from service.operations.photo_faces import PhotoFaces, faces_of_photos

router = rekognition_router()

MAX_FACES = 100
"""Maximum number of faces of a photo, the largest first."""

_EXCEEDS = "EXCEEDS_MAX_FACES"


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """The faces of a photo.

    Attributes:
        gallery: The collection.
        photo: Size of the photo.
        stored: Faces to store with their templates.
        refused: The other faces, with the reasons.
    """

    gallery: Gallery
    photo: PhotoFaces
    stored: list[tuple[JudgedFace, NewTemplate]]
    refused: list[tuple[JudgedFace, list[str]]]


def _prepare(backend: Backend, body: IndexFaces, _received: ReceivedRequest, deadline: Deadline) -> _Prepared:
    galleries = backend.galleries
    with galleries.database.reading() as connection:
        gallery = galleries.find(connection, body.collection_id)
    image = photo_of(body.image, backend.settings.compat.s3_directory)
    gate = gate_of(backend.models, body.quality_filter, gallery.min_quality)
    (photo,) = faces_of_photos(backend.models, [image], deadline, gate, keep_crops=gallery.keep_crops)
    if isinstance(photo, VultusError):
        raise photo
    backend.metrics.observe_quality(judged.assessment for judged in photo.faces)
    most = min(body.max_faces or MAX_FACES, MAX_FACES)
    prepared = _Prepared(gallery, photo, [], [])
    for position, judged in enumerate(photo.faces):  # among all faces, so that a filter does not change their ids
        if judged.refusal is not None:
            prepared.refused.append((judged, reasons_of(judged)))
        elif len(prepared.stored) == most:
            prepared.refused.append((judged, [_EXCEEDS]))
        else:
            template = _template(judged, photo, image, body.external_image_id, position)
            prepared.stored.append((judged, template))
    return prepared


def _template(
    judged: JudgedFace, photo: PhotoFaces, image: bytes, external_image_id: str | None, position: int
) -> NewTemplate:
    """Return the template of a face. The same photo with the same external id gives the same faces again."""
    of_image = hashlib.sha256(image_source(image) + (external_image_id or "").encode())
    source = hashlib.sha256(b"rekognition" + of_image.digest() + position.to_bytes(2, "big")).digest()
    metadata = {
        "BoundingBox": bounding_box(judged.face.face.box, photo.size),
        "Confidence": confidence(judged.face.face),
        "ImageId": face_id(of_image.digest()),
        **({} if external_image_id is None else {"ExternalImageId": external_image_id}),
    }
    return face_template(judged, source, metadata)


def _store(backend: Backend, prepared: _Prepared, received: ReceivedRequest, deadline: Deadline) -> Answer:
    gallery = prepared.gallery
    templates = [template for _, template in prepared.stored]
    with deadline.stage("store"), backend.galleries.database.exclusive(deadline):
        entries = list(zip(_subjects(backend.galleries, gallery, templates), templates, strict=True))
        outcomes = store_templates(backend.galleries, gallery, entries) if entries else []
    new = [name for (name, _), outcome in zip(entries, outcomes, strict=True) if outcome.outcome == "enrolled"]
    pseudonyms = pseudonyms_of_names(backend.galleries, gallery.name, new)
    received.events.append(Event("enrol", [gallery.name], pseudonyms, contract_id=gallery.contract_id, count=len(new)))
    return {
        "FaceRecords": _records(backend.galleries, gallery, prepared),
        "FaceModelVersion": gallery.contract_id,
        "UnindexedFaces": [
            {"Reasons": reasons, "FaceDetail": face_detail(judged.face.face, prepared.photo.size)}
            for judged, reasons in prepared.refused
        ],
    }


def _subjects(galleries: Galleries, gallery: Gallery, templates: Sequence[NewTemplate]) -> list[str]:
    """Return the names of the subjects of faces: those they have, or new ones that no other template has."""
    sources = [template.source for template in templates]
    stored = {known.source: known.subject for known in find_templates(galleries, gallery.name, sources)}
    free = free_names(galleries, gallery, [own_subject(source) for source in sources])
    return [stored.get(source, name) for source, name in zip(sources, free, strict=True)]


def _records(galleries: Galleries, gallery: Gallery, prepared: _Prepared) -> list[Answer]:
    """Return the stored faces, also those that were stored before."""
    prefixes = [template.source for _, template in prepared.stored]
    found: dict[bytes, OwnedTemplate] = {
        template.source: template for template in find_templates(galleries, gallery.name, prefixes)
    }
    metadata = metadata_of_templates(galleries, gallery.name, [template.key for template in found.values()])
    alone = faces_without_user(galleries, gallery.name, found.values())
    return [
        {
            "Face": stored_face(found[template.source], metadata, gallery.contract_id, alone),
            "FaceDetail": face_detail(judged.face.face, prepared.photo.size),
        }
        for judged, template in prepared.stored
        if template.source in found
    ]


add_changing(router, "IndexFaces", IndexFaces, "enrol", _prepare, _store)
