"""`POST /v1/detect` and `POST /v1/embed`: the faces of one or many photos."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from fastapi import APIRouter, Request, Response

from models import errors as core
from models.cropping import DetectedPhoto
from models.errors import VultusError
from models.job import Job
from models.pipeline import EmbeddedPhoto
from service import errors
from service.api.body import Sent
from service.api.dependencies import Backend, UsesBackend, server_timing, written
from service.api.intake import read_images
from service.api.openapi import embeddings_content, images_body
from service.api.problems import documented_problems, name_parts, problem_of
from service.api.representations import choose_form, write
from service.api.requests import DetectRequest, EmbedRequest
from service.api.responses import DetectItem, DetectResponse, EmbedItem, EmbedResponse

router = APIRouter(prefix="/v1", tags=["faces"])

Item = TypeVar("Item", DetectItem, EmbedItem)
Outcome = TypeVar("Outcome", DetectedPhoto, EmbeddedPhoto)

INTAKE_ERRORS = (
    errors.MediaTypeUnsupported,
    errors.BodyTooLarge,
    errors.MultipartMalformed,
    errors.JsonMalformed,
    errors.Base64Malformed,
    errors.MemberMissing,
    errors.MemberUnknown,
    errors.MemberRepeated,
    errors.MemberInvalid,
)
IMAGE_ERRORS = (
    core.ImageEmpty,
    core.ImageUnreadable,
    core.ImageDamaged,
    core.ImageTooManyBytes,
    core.ImageTooManyPixels,
    core.ImageTooSmall,
    core.NoFace,
    core.SeveralFaces,
    core.DegenerateLandmarks,
    core.InferenceFailed,
)
GATE_ERRORS = (
    core.FaceTooSmall,
    core.LowQuality,
    core.ExtremePose,
    core.CutOff,
    core.CalibrationUnfit,
    core.QualityUnvalidated,
)
LOAD_ERRORS = (
    errors.BodyTooSlow,
    errors.Overloaded,
    core.EngineStopped,
    core.DeadlineExceeded,
)
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


def _detect(backend: Backend, sent: Sent, job: Job) -> Response:
    body = read_images(sent, DetectRequest, backend.settings.request)
    outcomes = backend.models.pipeline.detect(body.images, body.faces, job)
    items = _items(outcomes, partial(DetectItem.of, models=backend.models), DetectItem, sent.request_id)
    return written(DetectResponse(items=items), job)


def _embed(backend: Backend, sent: Sent, job: Job) -> Response:
    form = choose_form(",".join(sent.headers.getlist("accept")))
    body = read_images(sent, EmbedRequest, backend.settings.request)
    outcomes = backend.models.pipeline.embed(body.images, body.faces, job)
    items = _items(outcomes, partial(EmbedItem.of, models=backend.models), EmbedItem, sent.request_id)
    answer = write(EmbedResponse(contract_id=backend.models.contract_id, items=items).model_dump(), form)
    return Response(answer.content, media_type=answer.media_type, headers=server_timing(job))


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
