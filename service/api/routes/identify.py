"""`POST /v1/identify`: search galleries for the subjects in photos."""

from collections.abc import Iterator, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

from models import errors as core
from models.deadline import Deadline
from models.errors import VultusError
from service import errors
from service.api.access import access_of, client_of, needs
from service.api.backend import Backend, UsesBackend, json_response
from service.api.documented_errors import EMBEDDING_ERRORS, IMAGE_ERRORS, INTAKE_ERRORS, LOAD_ERRORS
from service.api.example_photo import EXAMPLE_PHOTO
from service.api.intake.body import ReceivedRequest
from service.api.intake.members import is_ndjson, read_images, read_query, time_limit, validate
from service.api.intake.ndjson import LineResponse, answer_lines
from service.api.openapi import images_body
from service.api.problems import assign_parts, documented_problems, problem_of
from service.api.wire.gallery_requests import MAX_ID_CHARACTERS, IdentifyLine, IdentifyOptions, IdentifyRequest
from service.api.wire.gallery_responses import IdentifyItem, IdentifyLineItem, IdentifyResponse
from service.api.wire.requests import REPEATABLE
from service.audit.events import identification_events
from service.audit.records import Event
from service.errors import TooManyCandidates
from service.operations.faces import Content
from service.operations.identify import MAX_CANDIDATES, IdentifiedProbe, identify, require_search
from service.strict_json import parse_object

router = APIRouter(prefix="/v1", tags=["faces"])

_MANY = {"gallery", *REPEATABLE}
_EXAMPLE = {"images": [EXAMPLE_PHOTO], "gallery": ["staff"], "k": 3, "operating_point": "fmr_1e-3"}
_PROBLEMS = documented_problems(
    *INTAKE_ERRORS,
    errors.LinesMissing,
    errors.TooManyImages,
    errors.TooManyEmbeddings,
    errors.TooManyCandidates,
    *IMAGE_ERRORS,
    *EMBEDDING_ERRORS,
    errors.GalleryUnknown,
    core.OperatingPointUnknown,
    core.CalibrationUnfit,
    core.QualityUnvalidated,
    *LOAD_ERRORS,
    errors.AuditStopped,
    errors.StoreFailed,
)


@router.post(
    "/identify",
    name="identify",
    response_model=IdentifyResponse,
    dependencies=[needs("identify")],
    responses=_PROBLEMS,
    openapi_extra=images_body(IdentifyRequest, _EXAMPLE, IdentifyLine),
)
async def identify_faces(request: Request, backend: UsesBackend) -> Response:
    """Search one or several galleries for the faces of photos, or for embeddings.

    The candidates of a face are subjects that reach the operating point, best first. A face without candidates has the
    decision `unknown`.

    The response has one item for each photo, then one for each embedding, in order. If the only photo or embedding
    fails, the request fails. With several, each item has its own status.

    A body of NDJSON may have any number of lines, with the options in the query. Each line is answered with one line as
    soon as it is searched for. The response starts before the request body has ended, so read it while you send. A body
    of NDJSON without lines is refused.
    """
    if is_ndjson(request):
        return await _answer_lines(request, backend)
    return await backend.answer(request, _identify)


def _identify(backend: Backend, received: ReceivedRequest, deadline: Deadline) -> Response:
    body = read_images(received, IdentifyRequest, backend.settings.request, _MANY)
    received.grant.require_galleries(body.gallery)
    contents: list[Content] = [*body.images, *(embedding.received() for embedding in body.embeddings)]
    found = identify(backend.galleries, backend.models, contents, body.search(), deadline)
    received.events.extend(identification_events(backend.galleries, body.gallery, found))
    backend.metrics.count_comparisons("identify", found.comparisons * len(found.faces))
    backend.metrics.observe_quality(face.judged.assessment for face in found.faces if face.judged is not None)
    assign_parts(found.probes, len(body.images))
    items = [_item(probe, received.request_id) for probe in found.probes]
    return json_response(IdentifyResponse.of(found, items, backend.models.uncalibrated_because), deadline)


async def _answer_lines(request: Request, backend: Backend) -> LineResponse:
    options = read_query(request, IdentifyOptions, _MANY)
    access = access_of(request)
    access.grant.require_galleries(options.gallery)
    # checked before the first line, so that invalid options are the error of the request
    await backend.call_gallery(require_search, backend.galleries, backend.models, options.search())
    request_id = request.state.request_id
    limit_s = time_limit(request.headers, backend.settings.request)  # applies to each group of lines
    backend.admission.require_room(client_of(request))

    async def answer_group(group: list[bytes], deadline: Deadline) -> bytes:
        backend.guard.recheck(access)
        events: list[Event] = []
        answer = await backend.infer_lines(
            deadline, _identify_group, backend, group, options, request_id, events, deadline
        )
        await backend.auditor.record(request, events)
        return answer

    async def answer_failed(error: VultusError, group: list[bytes]) -> bytes:
        ids = await backend.call_gallery(_ids_of, group) if group else [None]
        return b"".join(_line(line_id, _item(error, request_id)) for line_id in ids)

    return await answer_lines(request, backend.settings.request, limit_s, backend.bodies, answer_group, answer_failed)


def _identify_group(
    backend: Backend,
    lines: Sequence[bytes],
    options: IdentifyOptions,
    request_id: str,
    events: list[Event],
    deadline: Deadline,
) -> bytes:
    parsed = [_parse_line(line) for line in lines]
    contents = [content for _, content in parsed if not isinstance(content, VultusError)]
    most_faces = backend.settings.detection.max_faces
    at_once = max(1, MAX_CANDIDATES // (options.k * most_faces))  # lines, so that each fails only for its own faces
    probes: Iterator[IdentifiedProbe | VultusError] = iter(
        probe
        for start in range(0, len(contents), at_once)
        for probe in _identify_lines(backend, contents[start : start + at_once], options, events, deadline)
    )
    return b"".join(
        _line(line_id, _item(content if isinstance(content, VultusError) else next(probes), request_id))
        for line_id, content in parsed
    )


def _identify_lines(
    backend: Backend, contents: Sequence[Content], options: IdentifyOptions, events: list[Event], deadline: Deadline
) -> Sequence[IdentifiedProbe | VultusError]:
    try:
        found = identify(backend.galleries, backend.models, contents, options.search(), deadline)
    except TooManyCandidates as error:
        return [error] * len(contents)
    events += identification_events(backend.galleries, options.gallery, found)
    return found.probes


def _parse_line(line: bytes) -> tuple[str | None, Content | VultusError]:
    """Return the id of a line, as far as it has one, and its content or what is wrong with the line."""
    try:
        members = parse_object(line)
    except VultusError as error:
        return None, error
    try:
        return _id_of(members), validate(IdentifyLine, members).content()
    except VultusError as error:
        return _id_of(members), error


def _id_of(members: dict[str, Any]) -> str | None:
    line_id = members.get("id")
    return line_id if isinstance(line_id, str) and len(line_id) <= MAX_ID_CHARACTERS else None


def _ids_of(lines: Sequence[bytes]) -> list[str | None]:
    return [_parse_line(line)[0] for line in lines]


def _item(probe: IdentifiedProbe | VultusError, request_id: str) -> IdentifyItem:
    if isinstance(probe, VultusError):
        return IdentifyItem(status="error", problem=problem_of(probe, request_id))
    return IdentifyItem.of(probe)


def _line(line_id: str | None, item: IdentifyItem) -> bytes:
    line = IdentifyLineItem(id=line_id, **{name: getattr(item, name) for name in IdentifyItem.model_fields})
    return line.model_dump_json(exclude_none=True).encode() + b"\n"
