"""`POST /v1/identify`: whose faces are in photos."""

from collections.abc import Sequence

from fastapi import APIRouter, Request, Response

from models import errors as core
from models.deadline import Deadline
from models.errors import VultusError
from service import errors
from service.api.backend import Backend, UsesBackend, json_response
from service.api.documented_errors import EMBEDDING_ERRORS, IMAGE_ERRORS, INTAKE_ERRORS, LOAD_ERRORS
from service.api.intake.body import ReceivedRequest
from service.api.intake.members import is_ndjson, read_images, read_query, time_limit, validate
from service.api.intake.ndjson import LineResponse, answer_lines
from service.api.openapi import images_body
from service.api.problems import documented_problems, name_parts, problem_of
from service.api.wire.gallery_requests import IdentifyLine, IdentifyOptions, IdentifyRequest
from service.api.wire.gallery_responses import IdentifyItem, IdentifyLineItem, IdentifyResponse
from service.api.wire.requests import REPEATED
from service.operations.acquire import Content
from service.operations.identify import IdentifiedProbe, identify, require_search
from service.strict_json import parse_object

router = APIRouter(prefix="/v1", tags=["faces"])

_MANY = {"gallery", *REPEATED}
_EXAMPLE = {"images": ["<base64 of a JPEG>"], "gallery": ["staff"], "k": 3, "operating_point": "fmr_1e-3"}
_PROBLEMS = documented_problems(
    *INTAKE_ERRORS,
    errors.TooManyImages,
    errors.TooManyEmbeddings,
    *IMAGE_ERRORS,
    *EMBEDDING_ERRORS,
    errors.GalleryUnknown,
    core.OperatingPointUnknown,
    core.CalibrationUnfit,
    core.QualityUnvalidated,
    *LOAD_ERRORS,
    errors.StoreFailed,
)


@router.post(
    "/identify",
    response_model=IdentifyResponse,
    responses=_PROBLEMS,
    openapi_extra=images_body(IdentifyRequest, _EXAMPLE, IdentifyLine),
)
async def identify_faces(request: Request, backend: UsesBackend) -> Response:
    """Look for the faces of photos, or for embeddings, in one or several galleries.

    Candidates are subjects, best first, that reach the operating point; with none the decision is `unknown`. With one
    photo, its error is the answer's error; with several, each item has a status of its own. As lines of JSON there may
    be any number; each is answered as soon as it is dealt with, so read while you send.
    """
    if is_ndjson(request):
        return await _answer_lines(request, backend)
    return await backend.answer(request, _identify)


def _identify(backend: Backend, received: ReceivedRequest, deadline: Deadline) -> Response:
    body = read_images(received, IdentifyRequest, backend.settings.request, _MANY)
    contents: list[Content] = [*body.images, *(embedding.received() for embedding in body.embeddings)]
    found = identify(backend.galleries, backend.models, contents, body.search(), deadline)
    name_parts(found.probes, len(body.images))
    items = [_item(probe, received.request_id) for probe in found.probes]
    return json_response(IdentifyResponse.of(found, items, backend.models.uncalibrated_because), deadline)


async def _answer_lines(request: Request, backend: Backend) -> LineResponse:
    options = read_query(request, IdentifyOptions, _MANY)
    await backend.call_gallery(require_search, backend.galleries, backend.models, options.search())  # not in every line
    request_id = request.state.request_id
    limit_s = time_limit(request.headers, backend.settings.request)  # of each group of lines
    backend.admission.require_room()

    async def deal(group: list[bytes]) -> bytes:
        deadline = Deadline(limit_s)
        return await backend.infer(
            deadline, _identify_group, backend, group, options, request_id, deadline, admitted=True
        )

    return answer_lines(request, backend.settings.request, deal, lambda error: _line(None, _item(error, request_id)))


def _identify_group(
    backend: Backend, lines: Sequence[bytes], options: IdentifyOptions, request_id: str, deadline: Deadline
) -> bytes:
    read = [_read_line(line) for line in lines]
    contents = [one[1] for one in read if not isinstance(one, VultusError)]
    probes = iter(identify(backend.galleries, backend.models, contents, options.search(), deadline).probes)
    return b"".join(
        _line(None, _item(one, request_id))
        if isinstance(one, VultusError)
        else _line(one[0], _item(next(probes), request_id))
        for one in read
    )


def _read_line(line: bytes) -> tuple[str | None, Content] | VultusError:
    try:
        entry = validate(IdentifyLine, parse_object(line))
    except VultusError as error:
        return error
    return entry.id, entry.content()


def _item(probe: IdentifiedProbe | VultusError, request_id: str) -> IdentifyItem:
    if isinstance(probe, VultusError):
        return IdentifyItem(status="error", problem=problem_of(probe, request_id))
    return IdentifyItem.of(probe)


def _line(own_id: str | None, item: IdentifyItem) -> bytes:
    line = IdentifyLineItem(id=own_id, **{name: getattr(item, name) for name in IdentifyItem.model_fields})
    return line.model_dump_json(exclude_none=True).encode() + b"\n"
