"""Users, who are subjects: faces are associated with them by moving their templates."""

from typing import Any

from models.deadline import Deadline
from service.api.backend import Backend
from service.api.intake.body import ReceivedRequest
from service.audit.records import Event
from service.compat.face_ids import face_id, find_faces
from service.compat.rekognition.naming import FACE, is_user, own_subject
from service.compat.rekognition.requests import AssociateFaces, ChangeOfUser, DisassociateFaces, ListUsers
from service.compat.rekognition.routing import (
    Answer,
    add_changing,
    add_reading,
    as_read,
    rekognition_router,
    scale_of,
)
from service.compat.rekognition.tokens import last_key, token_of
from service.gallery.administration import (
    create_subject,
    list_other_subjects,
    merge_subjects,
    read_gallery,
    read_subject,
    separate_template,
)
from service.gallery.erasure import erase_subject
from service.gallery.galleries import Galleries
from service.gallery.identification import template_vector, templates_of
from service.gallery.pseudonyms import pseudonyms_of_names
from service.gallery.ranking import greatest_similarity
from service.gallery.records import OwnedTemplate
from service.gallery.template_reading import list_templates

router = rekognition_router()

_ACTIVE, _CREATED = "ACTIVE", "CREATED"


def status_of(templates: int) -> str:
    """Return the status of a user with some number of faces."""
    return _ACTIVE if templates else _CREATED


def _create(backend: Backend, body: ChangeOfUser, received: ReceivedRequest, deadline: Deadline) -> Answer:
    create_subject(backend.galleries, body.collection_id, body.user_id, deadline=deadline)
    pseudonyms = pseudonyms_of_names(backend.galleries, body.collection_id, [body.user_id])
    received.events.append(Event("create_subject", [body.collection_id], pseudonyms))
    return {}


def _list(backend: Backend, body: ListUsers, _received: ReceivedRequest, _deadline: Deadline) -> Answer:
    gallery, _, _ = read_gallery(backend.galleries, body.collection_id)
    after = last_key(body.next_token, gallery.key)
    found = list_other_subjects(backend.galleries, body.collection_id, FACE, after, body.max_results + 1)
    page = found[: body.max_results]
    answer: Answer = {"Users": [{"UserId": name, "UserStatus": status_of(templates)} for _, name, templates in page]}
    if len(found) > len(page):
        answer["NextToken"] = token_of(gallery.key, str(page[-1][0]))
    return answer


def _delete(backend: Backend, body: ChangeOfUser, received: ReceivedRequest, deadline: Deadline) -> Answer:
    """Delete a user, whose faces stay in the collection."""
    galleries, collection = backend.galleries, body.collection_id
    with galleries.database.exclusive(deadline):
        subject, _ = read_subject(galleries, collection, body.user_id, limit=0)
        pseudonyms = pseudonyms_of_names(galleries, collection, [subject.name])
        for template in list_templates(galleries, collection, -1, subject=subject)[0]:
            _separate(galleries, collection, template)
        erase_subject(galleries, collection, subject.name)
    received.events.append(Event("erase_subject", [collection], pseudonyms, count=0))
    return {}


def _associate(backend: Backend, body: AssociateFaces, received: ReceivedRequest, deadline: Deadline) -> Answer:
    galleries, collection = backend.galleries, body.collection_id
    associated: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    with galleries.database.exclusive(deadline):
        subject, _ = read_subject(galleries, collection, body.user_id, limit=0)
        found = find_faces(galleries, collection, body.face_ids)
        for wanted in dict.fromkeys(body.face_ids):
            refusal = _refusal(backend, body, found.get(wanted), deadline)
            if refusal is not None:
                failed.append({"FaceId": wanted, **refusal})
                continue
            if found[wanted].subject != subject.name:
                merge_subjects(galleries, collection, subject.name, found[wanted].subject)
            associated.append({"FaceId": wanted})
        subject, _ = read_subject(galleries, collection, body.user_id, limit=0)
        pseudonyms = pseudonyms_of_names(galleries, collection, [subject.name])
    received.events.append(Event("merge_subjects", [collection], pseudonyms))
    return {
        "AssociatedFaces": associated,
        "UnsuccessfulFaceAssociations": failed,
        "UserStatus": status_of(subject.template_count),
    }


def _refusal(
    backend: Backend, body: AssociateFaces, template: OwnedTemplate | None, deadline: Deadline
) -> dict[str, Any] | None:
    """Return why a face is not associated with a user; None if it is."""
    if template is None:
        return {"Reasons": ["FACE_NOT_FOUND"]}
    if template.subject == body.user_id:
        return None
    if is_user(template.subject):
        return {"UserId": template.subject, "Reasons": ["ASSOCIATED_TO_A_DIFFERENT_USER"]}
    subject, _ = read_subject(backend.galleries, body.collection_id, body.user_id, limit=0)
    if not subject.template_count:
        return None
    scale, similarity = scale_of(backend), 0.0  # of faces that are hardly recognisable
    templates = templates_of(backend.galleries, body.collection_id, body.user_id)
    faces = templates.vectors[templates.measured]
    if template.is_measured and len(faces):
        vector = template_vector(backend.galleries, body.collection_id, template)
        similarity = scale.similarity(greatest_similarity(faces, vector[None], deadline))
    if similarity >= body.user_match_threshold:
        return None
    return {"UserId": body.user_id, "Confidence": similarity, "Reasons": ["LOW_MATCH_CONFIDENCE"]}


def _disassociate(backend: Backend, body: DisassociateFaces, received: ReceivedRequest, deadline: Deadline) -> Answer:
    galleries, collection = backend.galleries, body.collection_id
    disassociated: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    with galleries.database.exclusive(deadline):
        read_subject(galleries, collection, body.user_id, limit=0)
        found = find_faces(galleries, collection, body.face_ids)
        for wanted in dict.fromkeys(body.face_ids):
            template = found.get(wanted)
            if template is None or not is_user(template.subject):
                failed.append({"FaceId": wanted, "Reasons": ["FACE_NOT_FOUND"]})
            elif template.subject != body.user_id:
                reasons = ["ASSOCIATED_TO_A_DIFFERENT_USER"]
                failed.append({"FaceId": wanted, "UserId": template.subject, "Reasons": reasons})
            else:
                _separate(galleries, collection, template)
                disassociated.append({"FaceId": wanted})
        subject, _ = read_subject(galleries, collection, body.user_id, limit=0)
        pseudonyms = pseudonyms_of_names(galleries, collection, [subject.name])
    received.events.append(Event("change_subject", [collection], pseudonyms))
    return {
        "DisassociatedFaces": disassociated,
        "UnsuccessfulFaceDisassociations": failed,
        "UserStatus": status_of(subject.template_count),
    }


def _separate(galleries: Galleries, collection: str, template: OwnedTemplate) -> None:
    separate_template(galleries, collection, template, own_subject(face_id(template.source)))


add_changing(router, "CreateUser", ChangeOfUser, "enrol", as_read, _create)
add_reading(router, "ListUsers", ListUsers, "read", _list)
add_changing(router, "DeleteUser", ChangeOfUser, "erase", as_read, _delete)
add_changing(router, "AssociateFaces", AssociateFaces, "enrol", as_read, _associate)
add_changing(router, "DisassociateFaces", DisassociateFaces, "enrol", as_read, _disassociate)
