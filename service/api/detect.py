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
from service.api.dependencies import UsesBackend, server_timing
from service.api.intake import read_images
from service.api.openapi import images_body
from service.api.problems import documented_problems, name_parts, problem_of
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
_PROBLEMS = documented_problems(*INTAKE_ERRORS, errors.TooManyImages, *IMAGE_ERRORS)


@router.post("/detect", responses=_PROBLEMS, openapi_extra=images_body(DetectRequest))
async def detect(request: Request, response: Response, backend: UsesBackend) -> DetectResponse:
    """Find the faces of photos.

    With one photo, its error is the answer's error; with several, each item has a status of its own.
    """
    body = await read_images(request, DetectRequest, backend.settings.request)
    job = Job()
    outcomes = await backend.compute(backend.models.pipeline.detect, body.images, body.faces, job)
    response.headers["Server-Timing"] = server_timing(job)
    return DetectResponse(items=_items(outcomes, partial(DetectItem.of, models=backend.models), DetectItem, request))


@router.post("/embed", responses=_PROBLEMS, openapi_extra=images_body(EmbedRequest))
async def embed(request: Request, response: Response, backend: UsesBackend) -> EmbedResponse:
    """Embed the faces of photos.

    With one photo, its error is the answer's error; with several, each item has a status of its own.
    """
    body = await read_images(request, EmbedRequest, backend.settings.request)
    job = Job()
    outcomes = await backend.compute(backend.models.pipeline.embed, body.images, body.faces, job)
    response.headers["Server-Timing"] = server_timing(job)
    items = _items(outcomes, partial(EmbedItem.of, models=backend.models), EmbedItem, request)
    return EmbedResponse(contract_id=backend.models.contract_id, items=items)


def _items(
    outcomes: Sequence[Outcome | VultusError], of: Callable[[Outcome], Item], kind: type[Item], request: Request
) -> list[Item]:
    """Give each photo its item; the error of an only photo is raised instead."""
    name_parts(outcomes, len(outcomes))
    return [
        kind(status="error", problem=problem_of(outcome, request.state.request_id))
        if isinstance(outcome, VultusError)
        else of(outcome)
        for outcome in outcomes
    ]
