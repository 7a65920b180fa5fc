"""`POST /v1/detect` and `POST /v1/embed`: the faces of one or many photos."""

from collections.abc import Callable
from typing import TypeVar

from fastapi import APIRouter, Request, Response

from models import errors as core
from models.errors import VultusError
from models.imaging import Photo
from models.pipeline import StageTimes, choose
from service import errors
from service.api.dependencies import Backend, UsesBackend, server_timing
from service.api.intake import read_images
from service.api.openapi import images_body
from service.api.problems import documented_problems, problem_of
from service.api.schemas import (
    DetectItem,
    DetectRequest,
    DetectResponse,
    EmbeddedFaceOut,
    EmbedItem,
    EmbedRequest,
    EmbedResponse,
    FaceOut,
)

router = APIRouter(prefix="/v1", tags=["faces"])

Item = TypeVar("Item", DetectItem, EmbedItem)

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
_PROBLEMS = documented_problems(*INTAKE_ERRORS, errors.TooManyImages, *IMAGE_ERRORS)


@router.post("/detect", responses=_PROBLEMS, openapi_extra=images_body(DetectRequest))
async def detect(request: Request, response: Response, backend: UsesBackend) -> DetectResponse:
    """Find the faces of photos.

    With one photo, its error is the answer's error; with several, each item has a status of its own.
    """
    body = await read_images(request, DetectRequest, backend.settings.request)
    times = StageTimes()

    def look(photo: Photo) -> DetectItem:
        faces = choose(backend.models.pipeline.detect(photo, times), body.faces, (photo.width, photo.height))
        return DetectItem(
            status="ok", width=photo.width, height=photo.height, faces=[FaceOut.of(face) for face in faces]
        )

    items = await _each(backend, request, body.images, look, DetectItem, times)
    response.headers["Server-Timing"] = server_timing(times)
    return DetectResponse(items=items)


@router.post("/embed", responses=_PROBLEMS, openapi_extra=images_body(EmbedRequest))
async def embed(request: Request, response: Response, backend: UsesBackend) -> EmbedResponse:
    """Embed the faces of photos.

    With one photo, its error is the answer's error; with several, each item has a status of its own.
    """
    body = await read_images(request, EmbedRequest, backend.settings.request)
    times = StageTimes()

    def look(photo: Photo) -> EmbedItem:
        faces = backend.models.pipeline.embed(photo, body.faces, times)
        return EmbedItem(
            status="ok",
            width=photo.width,
            height=photo.height,
            faces=[EmbeddedFaceOut.of_embedded(face) for face in faces],
        )

    items = await _each(backend, request, body.images, look, EmbedItem, times)
    response.headers["Server-Timing"] = server_timing(times)
    return EmbedResponse(contract_id=backend.models.contract_id, items=items)


async def _each(
    backend: Backend,
    request: Request,
    images: tuple[bytes, ...],
    look: Callable[[Photo], Item],
    kind: type[Item],
    times: StageTimes,
) -> list[Item]:
    """Look at each photo in a thread; one bad photo among several fails alone."""

    def attempt(index: int, encoded: bytes) -> Item:
        try:
            return look(backend.models.pipeline.open(encoded, times))
        except VultusError as error:
            error.part = f"images.{index}"
            if len(images) == 1:
                raise
            return kind(status="error", problem=problem_of(error, request.state.request_id))

    return [await backend.compute(attempt, index, encoded) for index, encoded in enumerate(images)]
