"""Users, who are subjects: faces are associated with them by moving their templates."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.deadline import Deadline
from service.api.backend import Backend
from service.api.intake.body import ReceivedRequest
from service.audit.records import Event
from service.compat.face_ids import find_faces
from service.compat.rekognition.naming import FACE, faces_without_user, users_among
from service.compat.rekognition.requests import AssociateFaces, ChangeOfUser, CreateUser, DisassociateFaces, ListUsers
from service.compat.rekognition.routing import (
    Answer,
    add_changing,
    add_reading,
    as_read,
    rekognition_router,
    scale_of,
)
from service.compat.rekognition.tokens import last_key, token_of
from service.errors import SubjectUnknown
from service.gallery.administration import (
    create_subject,
    merge_subjects,
    read_gallery,
    read_subject,
)
from service.gallery.galleries import Galleries
from service.gallery.identification import template_vector, templates_of
from service.gallery.pseudonyms import pseudonyms_of_names
from service.gallery.ranking import greatest_similarity
from service.gallery.records import OwnedTemplate, Subject
from service.gallery.single_templates import dissolve_subject, list_others, separate_templates

router = rekognition_router()

_ACTIVE, _CREATED = "ACTIVE", "CREATED"


def status_of(templates: int) -> str:
    """Return the status of a user with some number of faces."""
    return _ACTIVE if templates else _CREATED


def require_user(galleries: Galleries, collection: str, user_id: str) -> Subject:
    """Return a user, who may have been named by another surface.

    Raises:
        GalleryUnknown: The collection does not exist.
        SubjectUnknown: The collection has no such user.
    """
    subject, _ = read_subject(galleries, collection, user_id, limit=0)
    if not users_among(galleries, collection, [(subject.key, subject.name)]):
        raise SubjectUnknown("this is a face without a user")
    return subject


def _create(backend: Backend, body: CreateUser, received: ReceivedRequest, deadline: Deadline) -> Answer:
    create_subject(backend.galleries, body.collection_id, body.user_id, deadline=deadline)
    pseudonyms = pseudonyms_of_names(backend.galleries, body.collection_id, [body.user_id])
    received.events.append(Event("create_subject", [body.collection_id], pseudonyms))
    return {}


def _list(backend: Backend, body: ListUsers, _received: ReceivedRequest, _deadline: Deadline) -> Answer:
    gallery, _, _ = read_gallery(backend.galleries, body.collection_id)
    after = last_key(body.next_token, gallery.key)
    found = list_others(backend.galleries, body.collection_id, FACE, after, body.max_results + 1)
    page = found[: body.max_results]
    answer: Answer = {"Users": [{"UserId": name, "UserStatus": status_of(templates)} for _, name, templates in page]}
    if len(found) > len(page):
        answer["NextToken"] = token_of(gallery.key, str(page[-1][0]))
    return answer


def _delete(backend: Backend, body: ChangeOfUser, received: ReceivedRequest, deadline: Deadline) -> Answer:
    """Delete a user, whose faces stay in the collection."""
    galleries, collection = backend.galleries, body.collection_id
    with galleries.database.exclusive(deadline):
        subject = require_user(galleries, collection, body.user_id)
        pseudonyms = pseudonyms_of_names(galleries, collection, [subject.name])
        dissolve_subject(galleries, collection, subject.name, FACE)
    received.events.append(Event("erase_subject", [collection], pseudonyms, count=0))
    return {}


def _associate(backend: Backend, body: AssociateFaces, received: ReceivedRequest, deadline: Deadline) -> Answer:
    galleries, collection = backend.galleries, body.collection_id
    associated: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    moved: list[str] = []
    with galleries.database.exclusive(deadline):
        subject = require_user(galleries, collection, body.user_id)
        found = find_faces(galleries, collection, body.face_ids)
        alone = faces_without_user(galleries, collection, found.values())
        comparison = _Comparison(backend, collection, subject, body.user_match_threshold)
        for wanted in dict.fromkeys(body.face_ids):
            template = found.get(wanted)
            refusal: dict[str, Any] | None = None
            if template is None:
                refusal = {"Reasons": ["FACE_NOT_FOUND"]}
            elif template.subject_key == subject.key:
                pass
            elif template.key not in alone:
                refusal = {"UserId": template.subject, "Reasons": ["ASSOCIATED_TO_A_DIFFERENT_USER"]}
            else:
                refusal = comparison.refusal(template, deadline)
                if refusal is None:
                    moved.append(template.subject)
            if refusal is None:
                associated.append({"FaceId": wanted})
            else:
                failed.append({"FaceId": wanted, **refusal})
        subject = merge_subjects(galleries, collection, subject.name, moved)
        pseudonyms = pseudonyms_of_names(galleries, collection, [subject.name])
    received.events.append(Event("merge_subjects", [collection], pseudonyms))
    return {
        "AssociatedFaces": associated,
        "UnsuccessfulFaceAssociations": failed,
        "UserStatus": status_of(subject.template_count),
    }


class _Comparison:
    """Compares faces with those of a user, and each with those that were accepted before it."""

    def __init__(self, backend: Backend, collection: str, user: Subject, threshold: float) -> None:
        self._backend, self._collection = backend, collection
        self._user, self._threshold = user, threshold
        self._faces: list[NDArray[np.float32]] = []

    def refusal(self, template: OwnedTemplate, deadline: Deadline) -> dict[str, Any] | None:
        """Return why a face is not associated with the user; None if it is."""
        galleries = self._backend.galleries
        if not self._faces and self._user.template_count:
            templates = templates_of(galleries, self._collection, self._user.name)
            self._faces.append(templates.vectors[templates.measured])
        vector = template_vector(galleries, self._collection, template)[None]
        if self._faces:
            others, similarity = np.concatenate(self._faces), 0.0  # of faces that are hardly recognisable
            if template.is_measured and len(others):
                similarity = scale_of(self._backend).similarity(greatest_similarity(others, vector, deadline))
            if similarity < self._threshold:
                return {"UserId": self._user.name, "Confidence": similarity, "Reasons": ["LOW_MATCH_CONFIDENCE"]}
        self._faces.append(vector if template.is_measured else vector[:0])
        return None


def _disassociate(backend: Backend, body: DisassociateFaces, received: ReceivedRequest, deadline: Deadline) -> Answer:
    galleries, collection = backend.galleries, body.collection_id
    disassociated: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    moved: list[OwnedTemplate] = []
    with galleries.database.exclusive(deadline):
        subject = require_user(galleries, collection, body.user_id)
        found = find_faces(galleries, collection, body.face_ids)
        alone = faces_without_user(galleries, collection, found.values())
        for wanted in dict.fromkeys(body.face_ids):
            template = found.get(wanted)
            if template is None or template.key in alone:
                failed.append({"FaceId": wanted, "Reasons": ["FACE_NOT_FOUND"]})
            elif template.subject_key != subject.key:
                reasons = ["ASSOCIATED_TO_A_DIFFERENT_USER"]
                failed.append({"FaceId": wanted, "UserId": template.subject, "Reasons": reasons})
            else:
                moved.append(template)
                disassociated.append({"FaceId": wanted})
        separate_templates(galleries, collection, moved, FACE)
        pseudonyms = pseudonyms_of_names(galleries, collection, [subject.name])
    received.events.append(Event("change_subject", [collection], pseudonyms))
    return {
        "DisassociatedFaces": disassociated,
        "UnsuccessfulFaceDisassociations": failed,
        "UserStatus": status_of(subject.template_count - len(moved)),
    }


add_changing(router, "CreateUser", CreateUser, "enrol", as_read, _create)
add_reading(router, "ListUsers", ListUsers, "read", _list)
add_changing(router, "DeleteUser", ChangeOfUser, "erase", as_read, _delete)
add_changing(router, "AssociateFaces", AssociateFaces, "enrol", as_read, _associate)
add_changing(router, "DisassociateFaces", DisassociateFaces, "enrol", as_read, _disassociate)
