"""`ListFaces` and `DeleteFaces`: the stored faces, each of which is a template."""

from collections.abc import Sequence

from models.deadline import Deadline
from service.api.backend import Backend
from service.api.intake.body import ReceivedRequest
from service.audit.records import Event
from service.compat.face_ids import face_id, find_faces
from service.compat.rekognition.naming import faces_without_user
from service.compat.rekognition.requests import DeleteFaces, ListFaces
from service.compat.rekognition.routing import Answer, add_changing, add_reading, as_read, rekognition_router
from service.compat.rekognition.tokens import last_key, token_of
from service.compat.rekognition.users import require_user
from service.compat.rekognition.wire import stored_face
from service.errors import TemplateUnknown
from service.gallery.administration import read_gallery
from service.gallery.erasure import erase_owners
from service.gallery.galleries import Galleries
from service.gallery.pseudonyms import pseudonyms_of
from service.gallery.records import OwnedTemplate
from service.gallery.template_reading import list_templates, metadata_of_templates

router = rekognition_router()


def require_face(galleries: Galleries, collection: str, wanted: str) -> OwnedTemplate:
    """Return a stored face.

    Raises:
        TemplateUnknown: The collection has no such face.
    """
    for template in find_faces(galleries, collection, [wanted]).values():
        return template
    raise TemplateUnknown(f"faceId was not found in the collection: {wanted}")


def _list(backend: Backend, body: ListFaces, _received: ReceivedRequest, _deadline: Deadline) -> Answer:
    galleries, collection = backend.galleries, body.collection_id
    gallery, _, _ = read_gallery(galleries, collection)
    after = last_key(body.next_token, gallery.key)
    subject = require_user(galleries, collection, body.user_id) if body.user_id else None
    if body.face_ids is None:
        found, _ = list_templates(galleries, collection, body.max_results + 1, after, subject=subject)
    else:
        named: Sequence[OwnedTemplate] = list(find_faces(galleries, collection, body.face_ids).values())
        found = sorted(
            (one for one in named if one.key > after and (subject is None or one.subject_key == subject.key)),
            key=lambda one: one.key,
        )
    page = found[: body.max_results]
    metadata = metadata_of_templates(galleries, collection, [template.key for template in page])
    alone = faces_without_user(galleries, collection, page)
    answer: Answer = {
        "Faces": [stored_face(template, metadata, gallery.contract_id, alone) for template in page],
        "FaceModelVersion": gallery.contract_id,
    }
    if page and len(found) > len(page):
        answer["NextToken"] = token_of(gallery.key, str(page[-1].key))
    return answer


def _delete(backend: Backend, body: DeleteFaces, received: ReceivedRequest, deadline: Deadline) -> Answer:
    galleries, collection = backend.galleries, body.collection_id
    read_gallery(galleries, collection)
    with galleries.database.exclusive(deadline):  # no face is associated or joined by another one meanwhile
        found = find_faces(galleries, collection, body.face_ids)
        alone = faces_without_user(galleries, collection, found.values())
        kept = {one: template.subject for one, template in found.items() if template.key not in alone}
        pseudonyms = pseudonyms_of(galleries, [found[one].subject_key for one in found if one not in kept])
        owned = [template for one, template in found.items() if one not in kept]
        erased = {face_id(template.source) for template in erase_owners(galleries, collection, owned)}
    received.events.append(Event("erase_subject", [collection], list(pseudonyms.values()), count=len(erased)))
    failed = [one for one in dict.fromkeys(body.face_ids) if one not in erased]
    return {
        "DeletedFaces": [one for one in found if one in erased],
        "UnsuccessfulFaceDeletions": [
            {"FaceId": one, "UserId": kept[one], "Reasons": ["ASSOCIATED_TO_AN_EXISTING_USER"]}
            if one in kept
            else {"FaceId": one, "Reasons": ["FACE_NOT_FOUND"]}
            for one in failed
        ],
    }


add_reading(router, "ListFaces", ListFaces, "read", _list)
add_changing(router, "DeleteFaces", DeleteFaces, "erase", as_read, _delete)
