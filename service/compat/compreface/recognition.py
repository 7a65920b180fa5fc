"""`/api/v1/recognition`: who is in a photo, and whether it is the one of an example."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from fastapi import Request, Response
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from models.deadline import Deadline
from models.quality import Gate
from service.api.backend import Backend, UsesBackend
from service.api.intake.body import ReceivedRequest
from service.audit.events import comparison_event, template_search_events
from service.compat.compreface.embeddings import Several, as_vectors, read_embeddings
from service.compat.compreface.examples import example_of
from service.compat.compreface.faces import (
    is_comparable,
    is_comparable_example,
    largest_faces,
    similarity_of,
)
from service.compat.compreface.gallery import UsesGallery
from service.compat.compreface.intake import (
    ALL,
    FaceOptions,
    RecognizeOptions,
    read_options,
    read_photos,
)
from service.compat.compreface.routing import compreface_router
from service.compat.compreface.similarity import SimilarityMap
from service.compat.compreface.wire import face_members, json_answer, matches, rounded, versions
from service.compat.stored_faces import nearest_measured
from service.errors import TooManyCandidates
from service.gallery.administration import read_gallery
from service.gallery.identification import identify_templates, template_vector
from service.gallery.records import TemplateCandidate
from service.operations.identify import MAX_CANDIDATES

router = compreface_router("recognition")

_NOT_COMPARABLE = 0.0


class _Embeddings(BaseModel):
    """Embeddings to search for or to compare."""

    model_config = ConfigDict(extra="ignore")

    embeddings: Several


@router.post("/recognize")
async def recognize(request: Request, backend: UsesBackend, gallery: UsesGallery) -> Response:
    """Search for the faces of a photo; each example of a subject is an answer of its own."""
    return await backend.answer(request, partial(_recognize, gallery))


@router.post("/embeddings/recognize")
async def recognize_embeddings(request: Request, backend: UsesBackend, gallery: UsesGallery) -> Response:
    """Search for embeddings."""
    return await backend.answer(request, partial(_recognize_embeddings, gallery))


@router.post("/faces/{image_id}/verify")
async def verify_example(image_id: str, request: Request, backend: UsesBackend, gallery: UsesGallery) -> Response:
    """Compare each face of a photo with an example."""
    return await backend.answer(request, partial(_verify_example, gallery, image_id))


@router.post("/embeddings/faces/{image_id}/verify")
async def verify_example_embeddings(
    image_id: str, request: Request, backend: UsesBackend, gallery: UsesGallery
) -> Response:
    """Compare embeddings with an example."""
    return await backend.answer(request, partial(_verify_example_embeddings, gallery, image_id))


def _recognize(gallery: str, backend: Backend, received: ReceivedRequest, deadline: Deadline) -> Response:
    options = read_options(received, RecognizeOptions)
    similarity = similarity_of(backend)
    images = read_photos(received, backend.settings.request, ["file"])
    found, _, templates = read_gallery(backend.galleries, gallery)
    (photo,) = largest_faces(backend, images, options, deadline, Gate(found.min_quality))
    searched = [judged for judged in photo.faces if is_comparable(judged, similarity)]
    probes = np.array([judged.face.embedding for judged in searched], np.float32)
    hits = iter(_search(backend, received, gallery, probes, templates, options.prediction_count, similarity, deadline))
    people = [next(hits) if is_comparable(judged, similarity) else [] for judged in photo.faces]
    result = [
        {
            **face_members(judged.face.face, photo.size, options, deadline, judged.face),
            "subjects": matches((hit.template.subject, similarity.of(hit.similarity)) for hit in candidates),
        }
        for judged, candidates in zip(photo.faces, people, strict=True)
    ]
    return json_answer({"result": result, **versions(backend.models, options)}, deadline, similarity)


def _recognize_embeddings(gallery: str, backend: Backend, received: ReceivedRequest, deadline: Deadline) -> Response:
    options = read_options(received, RecognizeOptions)
    similarity = similarity_of(backend)
    body = read_embeddings(received, backend, _Embeddings, "embeddings")
    probes = as_vectors(body.embeddings, backend.galleries.dimensions)
    _, _, templates = read_gallery(backend.galleries, gallery)
    hits = _search(backend, received, gallery, probes, templates, options.prediction_count, similarity, deadline)
    result = [
        {
            "embedding": embedding,
            "similarities": matches((hit.template.subject, similarity.of(hit.similarity)) for hit in candidates),
        }
        for embedding, candidates in zip(body.embeddings, hits, strict=True)
    ]
    return json_answer({"result": result}, deadline, similarity)


def _verify_example(
    gallery: str, image_id: str, backend: Backend, received: ReceivedRequest, deadline: Deadline
) -> Response:
    options = read_options(received, FaceOptions)
    similarity = similarity_of(backend)
    images = read_photos(received, backend.settings.request, ["file"])
    example = example_of(backend.galleries, gallery, image_id)
    reference = template_vector(backend.galleries, gallery, example)
    (photo,) = largest_faces(backend, images, options, deadline)
    cosines = [float(judged.face.embedding @ reference) for judged in photo.faces]
    _record(backend, received, gallery, cosines)
    result: list[dict[str, Any]] = [
        {
            **face_members(judged.face.face, photo.size, options, deadline, judged.face),
            "subject": example.subject,
            "similarity": rounded(similarity.of(cosine))
            if is_comparable(judged, similarity) and is_comparable_example(example, similarity)
            else _NOT_COMPARABLE,
        }
        for judged, cosine in zip(photo.faces, cosines, strict=True)
    ]
    return json_answer({"result": result, **versions(backend.models, options)}, deadline, similarity)


def _verify_example_embeddings(
    gallery: str, image_id: str, backend: Backend, received: ReceivedRequest, deadline: Deadline
) -> Response:
    similarity = similarity_of(backend)
    body = read_embeddings(received, backend, _Embeddings, "embeddings")
    probes = as_vectors(body.embeddings, backend.galleries.dimensions)
    example = example_of(backend.galleries, gallery, image_id)
    reference = template_vector(backend.galleries, gallery, example)
    cosines = (probes @ reference).tolist()
    _record(backend, received, gallery, cosines)
    comparable = is_comparable_example(example, similarity)
    result = [
        {"embedding": embedding, "similarity": rounded(similarity.of(cosine)) if comparable else _NOT_COMPARABLE}
        for embedding, cosine in zip(body.embeddings, cosines, strict=True)
    ]
    return json_answer({"result": result}, deadline, similarity)


def _search(
    backend: Backend,
    received: ReceivedRequest,
    gallery: str,
    probes: NDArray[np.float32],
    templates: int,
    wanted: int,
    similarity: SimilarityMap,
    deadline: Deadline,
) -> list[list[TemplateCandidate]]:
    """Search for faces, and record it.

    Raises:
        TooManyCandidates: The answer would have more examples than a search returns.
    """
    k = templates if wanted == ALL else min(wanted, templates)
    if k * len(probes) > MAX_CANDIDATES:
        raise TooManyCandidates(
            f"{k:,} examples of each of {len(probes)} faces are too many; a search returns at most "
            f"{MAX_CANDIDATES:,}, so send a smaller prediction_count"
        )
    with deadline.stage("search"):
        found: list[list[TemplateCandidate]] = [[] for _ in probes]
        if k and len(probes):
            if similarity.is_measured:
                found = nearest_measured(backend.galleries, gallery, probes, k, templates, deadline=deadline)
            else:
                found = identify_templates(backend.galleries, gallery, probes, k, deadline=deadline)
    received.events.extend(template_search_events(backend.galleries, gallery, found))
    backend.metrics.count_comparisons("identify", templates * len(probes))
    return found


def _record(backend: Backend, received: ReceivedRequest, gallery: str, cosines: Sequence[float]) -> None:
    received.events.append(comparison_event(backend.galleries, cosines, gallery))
    backend.metrics.count_comparisons("verify", len(cosines))
