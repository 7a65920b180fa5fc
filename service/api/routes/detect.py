"""`POST /v1/detect` and `POST /v1/embed`: the faces of one or many photos."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from fastapi import APIRouter, Request, Response

from models.deadline import Deadline
from models.errors import VultusError
from models.pipeline import DetectedPhoto, EmbeddedPhoto
from service import errors
from service.api.backend import Backend, UsesBackend, json_response, server_timing
from service.api.documented_errors import IMAGE_ERRORS, INTAKE_ERRORS, LOAD_ERRORS
from service.api.intake.body import ReceivedRequest
from service.api.intake.members import read_images
from service.api.openapi import embeddings_content, images_body
from service.api.problems import documented_problems, name_parts, problem_of
from service.api.wire.representations import choose_form, write
from service.api.wire.requests import DetectRequest, EmbedRequest
from service.api.wire.responses import DetectItem, DetectResponse, EmbedItem, EmbedResponse

router = APIRouter(prefix="/v1", tags=["faces"])

Item = TypeVar("Item", DetectItem, EmbedItem)
Outcome = TypeVar("Outcome", DetectedPhoto, EmbeddedPhoto)

_PROBLEMS = documented_problems(*INTAKE_ERRORS, errors.TooManyImages, *IMAGE_ERRORS, *LOAD_ERRORS)


@router.post("/detect", response_model=DetectResponse, responses=_PROBLEMS, openapi_extra=images_body(DetectRequest))
async def detect(request: Request, backend: UsesBackend) -> Response:
    """Find the faces of photos.

    With one photo, its error is the answer's error; with several, each item has a status of its own.
    """
    return await backend.answer(request, _detect)


@router.post(
    "/embed",
    response_model=EmbedResponse,
    responses={**_PROBLEMS, **documented_problems(errors.NotAcceptable), 200: embeddings_content(EmbedResponse)},
    openapi_extra=images_body(EmbedRequest),
)
async def embed(request: Request, backend: UsesBackend) -> Response:
    """Embed the faces of photos.

    With one photo, its error is the answer's error; with several, each item has a status of its own. `Accept` chooses
    how embeddings are written: lists of numbers, base64 of float32, or MessagePack with their bytes.
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
    """Give each photo its item; the error of an only photo is raised instead."""
    name_parts(outcomes, len(outcomes))
    return [
        kind(status="error", problem=problem_of(outcome, request_id))
        if isinstance(outcome, VultusError)
        else of(outcome)
        for outcome in outcomes
    ]
