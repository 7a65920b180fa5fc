"""`POST /v1/detect` and `POST /v1/embed`: detect or embed the faces of one or many photos."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from fastapi import APIRouter, Request, Response

from models.deadline import Deadline
from models.errors import VultusError
from models.pipeline import DetectedPhoto, EmbeddedPhoto
from service import errors
from service.api.access import needs
from service.api.backend import Backend, UsesBackend, json_response, server_timing
from service.api.documented_errors import IMAGE_ERRORS, INTAKE_ERRORS, LOAD_ERRORS
from service.api.intake.body import ReceivedRequest
from service.api.intake.members import read_images
from service.api.openapi import embeddings_content, images_body
from service.api.problems import assign_parts, documented_problems, problem_of
from service.api.wire.representations import choose_form, write
from service.api.wire.requests import DetectRequest, EmbedRequest
from service.api.wire.responses import DetectItem, DetectResponse, EmbedItem, EmbedResponse

router = APIRouter(prefix="/v1", tags=["faces"])

Item = TypeVar("Item", DetectItem, EmbedItem)
Outcome = TypeVar("Outcome", DetectedPhoto, EmbeddedPhoto)

_PROBLEMS = documented_problems(*INTAKE_ERRORS, errors.TooManyImages, *IMAGE_ERRORS, *LOAD_ERRORS)


@router.post(
    "/detect",
    response_model=DetectResponse,
    dependencies=[needs("detect")],
    responses=_PROBLEMS,
    openapi_extra=images_body(DetectRequest),
)
async def detect(request: Request, backend: UsesBackend) -> Response:
    """Detect the faces of photos.

    The response has one item for each photo, in order. If the only photo fails, the request fails. With several photos,
    each item has its own status.
    """
    return await backend.answer(request, _detect)


@router.post(
    "/embed",
    response_model=EmbedResponse,
    dependencies=[needs("embed")],
    responses={**_PROBLEMS, **documented_problems(errors.NotAcceptable), 200: embeddings_content(EmbedResponse)},
    openapi_extra=images_body(EmbedRequest),
)
async def embed(request: Request, backend: UsesBackend) -> Response:
    """Embed the faces of photos.

    The response has one item for each photo, in order. If the only photo fails, the request fails. With several photos,
    each item has its own status.

    The header `Accept` chooses how embeddings are written: `application/json` as lists of numbers,
    `application/json; embedding=base64` as base64 of little-endian float32, and `application/msgpack` as the bytes of
    little-endian float32.
    """
    return await backend.answer(request, _embed)


def _detect(backend: Backend, received: ReceivedRequest, deadline: Deadline) -> Response:
    body = read_images(received, DetectRequest, backend.settings.request)
    outcomes = backend.models.pipeline.detect(body.images, body.faces, deadline)
    items = _items(outcomes, partial(DetectItem.of, models=backend.models), DetectItem, received.request_id)
    return json_response(DetectResponse(items=items), deadline)


def _embed(backend: Backend, received: ReceivedRequest, deadline: Deadline) -> Response:
    form = choose_form(",".join(received.headers.getlist("accept")))
    body = read_images(received, EmbedRequest, backend.settings.request)
    outcomes = backend.models.pipeline.embed(body.images, body.faces, deadline)
    items = _items(outcomes, partial(EmbedItem.of, models=backend.models), EmbedItem, received.request_id)
    answer = write(EmbedResponse(contract_id=backend.models.contract_id, items=items).model_dump(), form)
    return Response(answer.content, media_type=answer.media_type, headers=server_timing(deadline))


def _items(
    outcomes: Sequence[Outcome | VultusError], of: Callable[[Outcome], Item], kind: type[Item], request_id: str
) -> list[Item]:
    """Return the item of each photo, or raise the error of the only photo."""
    assign_parts(outcomes, len(outcomes))
    return [
        kind(status="error", problem=problem_of(outcome, request_id))
        if isinstance(outcome, VultusError)
        else of(outcome)
        for outcome in outcomes
    ]
