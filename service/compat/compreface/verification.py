"""`/api/v1/verification`: similarities of the faces of two photos, or of embeddings."""

import numpy as np
from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict

from models.deadline import Deadline
from service.api.backend import Backend, UsesBackend
from service.api.intake.body import ReceivedRequest
from service.audit.events import comparison_event
from service.compat.compreface.embeddings import Numbers, Several, as_vectors, read_embeddings
from service.compat.compreface.faces import is_comparable, largest_faces, only_face, similarity_of
from service.compat.compreface.intake import FaceOptions, read_options, read_photos
from service.compat.compreface.routing import compreface_router
from service.compat.compreface.wire import face_members, json_answer, rounded, versions

router = compreface_router("verification")

_NOT_COMPARABLE = 0.0


class _Embeddings(BaseModel):
    """Embeddings to compare with one."""

    model_config = ConfigDict(extra="ignore")

    source: Numbers
    targets: Several


@router.post("/verify")
async def verify(request: Request, backend: UsesBackend) -> Response:
    """Compare the only face of one photo with each face of another."""
    return await backend.answer(request, _verify)


@router.post("/embeddings/verify")
async def verify_embeddings(request: Request, backend: UsesBackend) -> Response:
    """Compare one embedding with others."""
    return await backend.answer(request, _verify_embeddings)


def _verify(backend: Backend, received: ReceivedRequest, deadline: Deadline) -> Response:
    options = read_options(received, FaceOptions)
    similarity = similarity_of(backend)
    images = read_photos(received, backend.settings.request, ["source_image", "target_image"])
    source, target = largest_faces(backend, images, options, deadline)
    probe = only_face(source)
    matches = []
    cosines = []
    for judged in target.faces:
        cosine = float(probe.face.embedding @ judged.face.embedding)
        cosines.append(cosine)
        comparable = is_comparable(probe, similarity) and is_comparable(judged, similarity)
        members = face_members(judged.face.face, target.size, options, deadline, judged.face)
        matches.append({**members, "similarity": rounded(similarity.of(cosine)) if comparable else _NOT_COMPARABLE})
    matches.sort(key=lambda match: -match["similarity"])
    received.events.append(comparison_event(backend.galleries, cosines))
    backend.metrics.count_comparisons("verify", len(cosines))
    face = face_members(probe.face.face, source.size, options, deadline, probe.face)
    found = {"source_image_face": face, "face_matches": matches, **versions(backend.models, options)}
    return json_answer({"result": [found]}, deadline, similarity)


def _verify_embeddings(backend: Backend, received: ReceivedRequest, deadline: Deadline) -> Response:
    similarity = similarity_of(backend)
    body = read_embeddings(received, backend, _Embeddings, "targets")
    source = as_vectors([body.source], backend.galleries.dimensions)[0]
    targets = as_vectors(body.targets, backend.galleries.dimensions)
    cosines = np.clip(targets @ source, -1, 1).tolist()
    received.events.append(comparison_event(backend.galleries, cosines))
    backend.metrics.count_comparisons("verify", len(cosines))
    found = [
        {"embedding": list(target), "similarity": rounded(similarity.of(cosine))}
        for target, cosine in zip(body.targets, cosines, strict=True)
    ]
    found.sort(key=lambda match: -float(match["similarity"]))  # type: ignore[arg-type]
    return json_answer({"result": found}, deadline, similarity)
