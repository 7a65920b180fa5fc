"""Collections, which are the galleries that the key reaches."""

import re

from models.deadline import Deadline
from service.api.backend import Backend
from service.api.intake.body import ReceivedRequest
from service.audit.records import Event
from service.compat.rekognition.naming import FACE
from service.compat.rekognition.requests import CreateCollection, InCollection, ListCollections
from service.compat.rekognition.routing import Answer, add_changing, add_reading, as_read, rekognition_router
from service.compat.rekognition.tokens import last_entry, token_of
from service.errors import ScopeMissing
from service.gallery.administration import create_gallery, list_galleries, read_gallery
from service.gallery.erasure import erase_gallery
from service.gallery.single_templates import count_subjects

router = rekognition_router()

_ID = re.compile(r"[a-zA-Z0-9_.\-]{1,255}")  # galleries with other names cannot be named by clients
_ARN = "arn:aws:rekognition:local:000000000000:collection/"
_NO_COLLECTION = 0
_OK = 200


def _create(backend: Backend, body: CreateCollection, received: ReceivedRequest, deadline: Deadline) -> Answer:
    name = body.collection_id
    if not received.grant.reaches(name):
        raise ScopeMissing("this access key does not reach a collection of this name")
    created = create_gallery(
        backend.galleries, name, metadata={"tags": body.tags} if body.tags else {}, deadline=deadline
    )
    received.events.append(Event("create_gallery", [created.name]))
    return {"StatusCode": _OK, "CollectionArn": _ARN + name, "FaceModelVersion": created.contract_id}


def _list(backend: Backend, body: ListCollections, received: ReceivedRequest, _deadline: Deadline) -> Answer:
    after = last_entry(body.next_token, _NO_COLLECTION)

    def is_listed(name: str) -> bool:
        return received.grant.reaches(name) and _ID.fullmatch(name) is not None

    found = list_galleries(backend.galleries, after, body.max_results + 1, is_listed)
    page = [gallery for gallery, _, _ in found[: body.max_results]]
    answer: Answer = {
        "CollectionIds": [gallery.name for gallery in page],
        "FaceModelVersions": [gallery.contract_id for gallery in page],
    }
    if page and len(found) > len(page):
        answer["NextToken"] = token_of(_NO_COLLECTION, page[-1].name)
    return answer


def _describe(backend: Backend, body: InCollection, _received: ReceivedRequest, _deadline: Deadline) -> Answer:
    gallery, _, faces = read_gallery(backend.galleries, body.collection_id)
    _, users = count_subjects(backend.galleries, body.collection_id, FACE)
    return {
        "FaceCount": faces,
        "UserCount": users,
        "FaceModelVersion": gallery.contract_id,
        "CollectionARN": _ARN + gallery.name,
        "CreationTimestamp": gallery.created,
    }


def _delete(backend: Backend, body: InCollection, received: ReceivedRequest, deadline: Deadline) -> Answer:
    receipt = erase_gallery(backend.galleries, body.collection_id, deadline)
    received.events.append(Event("erase_gallery", [body.collection_id], count=receipt.template_count))
    return {"StatusCode": _OK}


add_changing(router, "CreateCollection", CreateCollection, "enrol", as_read, _create)
add_reading(router, "ListCollections", ListCollections, "read", _list)
add_reading(router, "DescribeCollection", InCollection, "read", _describe)
add_changing(router, "DeleteCollection", InCollection, "erase", as_read, _delete)
