"""`…/templates`: enrol photos and embeddings, several in one request or any number as NDJSON."""

from collections.abc import Sequence
from functools import partial

from fastapi import APIRouter, Request, Response

from models.deadline import Deadline
from models.errors import VultusError
from service import errors
from service.api.access import access_of, client_of, needs
from service.api.backend import Backend, UsesBackend, json_response
from service.api.documented_errors import (
    EMBEDDING_ERRORS,
    GATE_ERRORS,
    IMAGE_ERRORS,
    INTAKE_ERRORS,
    LOAD_ERRORS,
    STORE_ERRORS,
)
from service.api.example_photo import EXAMPLE_PHOTO
from service.api.intake.body import ReceivedRequest
from service.api.intake.members import NDJSON, is_ndjson, read_images, read_query, time_limit, validate
from service.api.intake.ndjson import LineResponse, answer_lines
from service.api.openapi import images_body, line_body
from service.api.problems import assign_parts, documented_problems, problem_of
from service.api.wire.gallery_requests import EnrolLine, EnrolOptions, EnrolRequest
from service.api.wire.gallery_responses import EnrolItem, EnrolResponse
from service.api.wire.requests import REPEATABLE
from service.audit.events import enrolment_event
from service.audit.records import Actor
from service.errors import MediaTypeUnsupported
from service.gallery.records import Gallery
from service.operations.enrol import Enrolled, Entry, Outcome, Prepared, prepare, require_enrolment, store
from service.operations.faces import Content
from service.strict_json import parse_object

router = APIRouter(prefix="/v1/galleries/{gallery}", tags=["galleries"])

_ENTRY_ERRORS = (
    *IMAGE_ERRORS,
    *EMBEDDING_ERRORS,
    errors.GalleryUnknown,
    errors.NameInvalid,
    *GATE_ERRORS,
    errors.DuplicateOfAnother,
    errors.SubjectFull,
    *STORE_ERRORS,
)
_EXAMPLE = {"images": [EXAMPLE_PHOTO], "faces": "single"}


@router.post(
    "/subjects/{subject}/templates",
    name="enrol",
    response_model=EnrolResponse,
    dependencies=[needs("enrol")],
    responses=documented_problems(
        *INTAKE_ERRORS, errors.TooManyImages, errors.TooManyEmbeddings, *_ENTRY_ERRORS, *LOAD_ERRORS
    ),
    openapi_extra=images_body(EnrolRequest, _EXAMPLE),
)
async def enrol_subject(gallery: str, subject: str, request: Request, backend: UsesBackend) -> Response:
    """Enrol photos or embeddings of one subject.

    A missing subject is created. Each photo or embedding becomes one template. If the subject already has it, it is a
    duplicate and is not stored again. If another subject of the gallery has it, it is refused.

    The response has one item for each photo, then one for each embedding, in order. If the only photo or embedding
    fails, the request fails. With several, each item has its own status.
    """
    return await backend.answer_change(
        request, partial(_prepare_subject, gallery, subject), partial(_store_subject, subject)
    )


@router.post(
    "/templates",
    response_class=LineResponse,
    dependencies=[needs("enrol")],
    responses={
        **documented_problems(
            errors.MediaTypeUnsupported,
            errors.BodyTooLarge,
            errors.LinesMissing,
            errors.MemberInvalid,
            errors.MemberUnknown,
            *_ENTRY_ERRORS,
            *LOAD_ERRORS,
        ),
        200: {"description": "One item for each line, in order.", "content": {NDJSON: {"schema": {"type": "string"}}}},
    },
    openapi_extra=line_body(EnrolLine, EnrolOptions),
)
async def enrol_lines(gallery: str, request: Request, backend: UsesBackend) -> LineResponse:
    """Enrol any number of photos or embeddings as NDJSON, one in each line.

    Each line is answered as soon as its template is stored on disk. The response starts before the request body has
    ended, so read it while you send. The time limit applies to each group of lines. Lines that exceed it are answered
    with an error, and the next lines follow. A body without lines is refused.
    """
    if not is_ndjson(request):
        raise MediaTypeUnsupported(f"send one JSON object in each line, with the media type {NDJSON}")
    options = read_query(request, EnrolOptions, REPEATABLE)
    found = await backend.call_gallery(require_enrolment, backend.galleries, backend.models, gallery, options.gate())
    request_id, access, actor = request.state.request_id, access_of(request), backend.auditor.actor(request)
    limit_s = time_limit(request.headers, backend.settings.request)  # applies to each group of lines
    backend.admission.require_room(client_of(request))

    async def answer_group(group: list[bytes], deadline: Deadline) -> bytes:
        backend.guard.recheck(access)
        parsed, prepared = await backend.infer_lines(deadline, _prepare_group, backend, found, group, options, deadline)
        access.grant.require_galleries([prepared.gallery.name])  # it may have been renamed meanwhile
        backend.guard.recheck(access)
        await backend.auditor.require_writable()
        return await backend.change(deadline, _store_group, backend, parsed, prepared, request_id, actor, deadline)

    async def answer_failed(error: VultusError, group: list[bytes]) -> bytes:
        return _line(_item(error, request_id)) * max(1, len(group))

    return await answer_lines(request, backend.settings.request, limit_s, backend.bodies, answer_group, answer_failed)


def _prepare_subject(
    gallery: str, subject: str, backend: Backend, received: ReceivedRequest, deadline: Deadline
) -> tuple[Prepared, int]:
    """Return the prepared enrolment and its number of photos."""
    body = read_images(received, EnrolRequest, backend.settings.request, REPEATABLE)
    contents: list[Content] = [*body.images, *(embedding.received() for embedding in body.embeddings)]
    entries = [Entry(subject, content) for content in contents]
    prepared = prepare(backend.galleries, backend.models, gallery, entries, body.requirements(), deadline)
    return prepared, len(body.images)


def _store_subject(
    subject: str,
    backend: Backend,
    prepared: tuple[Prepared, int],
    received: ReceivedRequest,
    deadline: Deadline,
) -> Response:
    enrolment, images = prepared
    outcomes = store(backend.galleries, enrolment, deadline)
    names = [subject] * len(outcomes)
    received.events.append(enrolment_event(backend.galleries, enrolment.gallery.name, names, outcomes))
    backend.metrics.observe_quality(outcome.assessment for outcome in outcomes if isinstance(outcome, Enrolled))
    assign_parts(outcomes, images)
    items = [_item(outcome, received.request_id) for outcome in outcomes]
    return json_response(EnrolResponse(gallery=enrolment.gallery.name, subject=subject, items=items), deadline)


def _prepare_group(
    backend: Backend, gallery: Gallery, lines: Sequence[bytes], options: EnrolOptions, deadline: Deadline
) -> tuple[list[Entry | VultusError], Prepared]:
    """Return each line as its entry or its error, and the prepared enrolment of the entries."""
    parsed = [_parse_line(line) for line in lines]
    entries = [line for line in parsed if isinstance(line, Entry)]
    return parsed, prepare(backend.galleries, backend.models, gallery, entries, options.requirements(), deadline)


def _store_group(
    backend: Backend,
    parsed: Sequence[Entry | VultusError],
    prepared: Prepared,
    request_id: str,
    actor: Actor,
    deadline: Deadline,
) -> bytes:
    stored = store(backend.galleries, prepared, deadline)
    names = [line.subject for line in parsed if isinstance(line, Entry)]
    backend.auditor.write([enrolment_event(backend.galleries, prepared.gallery.name, names, stored)], actor)
    outcomes = iter(stored)
    answers = (next(outcomes) if isinstance(line, Entry) else line for line in parsed)
    return b"".join(_line(_item(outcome, request_id)) for outcome in answers)


def _parse_line(line: bytes) -> Entry | VultusError:
    try:
        entry = validate(EnrolLine, parse_object(line))
    except VultusError as error:
        return error
    return Entry(entry.subject, entry.content(), entry.expires)


def _item(outcome: Outcome, request_id: str) -> EnrolItem:
    if isinstance(outcome, VultusError):
        problem = problem_of(outcome, request_id)
        return EnrolItem(status="error", duplicate_of=problem.duplicate_of, problem=problem)
    return EnrolItem.of(outcome)


def _line(item: EnrolItem) -> bytes:
    return item.model_dump_json(exclude_none=True).encode() + b"\n"
