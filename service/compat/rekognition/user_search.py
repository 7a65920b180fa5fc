"""`SearchUsers` and `SearchUsersByImage`: users whose fused templates resemble a face."""

import numpy as np
from numpy.typing import NDArray

from models.deadline import Deadline
from models.fusion import fuse
from service.api.backend import Backend
from service.api.intake.body import ReceivedRequest
from service.audit.records import Event, Outcome
from service.compat.rekognition.faces import require_face
from service.compat.rekognition.naming import FACE, users_among
from service.compat.rekognition.requests import SearchUsers, SearchUsersByImage
from service.compat.rekognition.routing import Answer, add_reading, rekognition_router, scale_of
from service.compat.rekognition.search import faces_in, is_measured
from service.compat.rekognition.users import require_user, status_of
from service.compat.rekognition.wire import face_detail
from service.gallery.administration import read_gallery
from service.gallery.identification import identify, template_vector, templates_of
from service.gallery.pseudonyms import pseudonyms_of
from service.gallery.records import Candidate, Fusion
from service.gallery.single_templates import estimate_others
from service.gallery.template_reading import measured_subjects

router = rekognition_router()

_FUSION: Fusion = "quality-weighted"
_GROWTH = 4  # of the number of subjects to look at, while too few of them are users


def _search_user(backend: Backend, body: SearchUsers, received: ReceivedRequest, deadline: Deadline) -> Answer:
    galleries, collection = backend.galleries, body.collection_id
    user = None
    if body.user_id is not None:
        user = require_user(galleries, collection, body.user_id).name
        searched: Answer = {"SearchedUser": {"UserId": user}}
        templates = templates_of(galleries, collection, user)
        probe = fuse(templates.vectors, templates.weights)
        is_searched = bool(templates.measured.any())
    else:
        template = require_face(galleries, collection, str(body.face_id))
        searched = {"SearchedFace": {"FaceId": body.face_id}}
        probe = template_vector(galleries, collection, template)
        is_searched = template.is_measured
    found = _matches(
        *(backend, collection, probe, body.max_users if is_searched else 0, body.user_match_threshold),
        *(received, deadline, user),
    )
    return {**searched, **found}


def _search_photo(backend: Backend, body: SearchUsersByImage, received: ReceivedRequest, deadline: Deadline) -> Answer:
    photo = faces_in(backend, body.image, body.quality_filter, deadline, body.collection_id)
    largest, *others = photo.faces
    found = _matches(
        *(backend, body.collection_id, largest.face.embedding, body.max_users if is_measured(largest) else 0),
        *(body.user_match_threshold, received, deadline),
    )
    return {
        **found,
        "SearchedFace": {"FaceDetail": face_detail(largest.face.face, photo.size)},
        "UnsearchedFaces": [
            {"FaceDetails": face_detail(judged.face.face, photo.size), "Reasons": ["FACE_NOT_LARGEST"]}
            for judged in others
        ],
    }


def _matches(
    backend: Backend,
    collection: str,
    probe: NDArray[np.float32],
    most: int,
    threshold: float,
    received: ReceivedRequest,
    deadline: Deadline,
    without: str | None = None,
) -> Answer:
    """Return the users who resemble a probe, and record the search.

    Args:
        backend: The backend.
        collection: Name of the collection.
        probe: (D,) float32 of length 1.
        most: Maximum number of users.
        threshold: Minimum similarity, 0 to 100.
        received: The request.
        deadline: Its deadline.
        without: A user who is not an answer, because it is the probe.
    """
    galleries, scale = backend.galleries, scale_of(backend)
    gallery, _, _ = read_gallery(galleries, collection)
    with deadline.stage("search"):
        found = _nearest(backend, collection, probe, most, scale.cosine(threshold), deadline, without) if most else []
    pseudonyms = pseudonyms_of(galleries, [found[0].key]) if found else {}
    best = Outcome(None, found[0].similarity, pseudonyms.get(found[0].key)) if found else Outcome(None)
    received.events.append(Event("identify", [collection], outcomes=[best], contract_id=galleries.contract_id))
    backend.metrics.count_comparisons("identify", estimate_others(galleries, collection, FACE))
    return {
        "UserMatches": [
            {
                "Similarity": scale.similarity(candidate.similarity),
                "User": {"UserId": candidate.subject, "UserStatus": status_of(1)},
            }
            for candidate in found
        ],
        "FaceModelVersion": gallery.contract_id,
    }


def _nearest(
    backend: Backend,
    collection: str,
    probe: NDArray[np.float32],
    most: int,
    floor: float,
    deadline: Deadline,
    without: str | None,
) -> list[Candidate]:
    """Return the nearest users.

    Passed over are faces without a user, which lie in the same index, and users all of whose faces are hardly
    recognisable.
    """
    depth = most + 1
    while True:
        (found,) = identify(backend.galleries, [collection], probe[None], depth, _FUSION, floor, deadline)
        named = users_among(backend.galleries, collection, [(candidate.key, candidate.subject) for candidate in found])
        users = [candidate for candidate in found if candidate.key in named and candidate.subject != without]
        measured = measured_subjects(backend.galleries, [candidate.key for candidate in users])
        users = [candidate for candidate in users if candidate.key in measured]
        if len(users) >= most or len(found) < depth:
            return users[:most]
        depth *= _GROWTH


add_reading(router, "SearchUsers", SearchUsers, "identify", _search_user)
add_reading(router, "SearchUsersByImage", SearchUsersByImage, "identify", _search_photo)
