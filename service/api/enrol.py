"""`…/templates`: photos and embeddings into a gallery, a few at once or line by line."""

from collections.abc import Sequence
from functools import partial

from fastapi import APIRouter, Request, Response

from models.errors import VultusError
from models.job import Job
from service import errors
from service.acquisition import Requirements
from service.api.body import Sent
from service.api.dependencies import Backend, UsesBackend, written
from service.api.detect import GATE_ERRORS, IMAGE_ERRORS, INTAKE_ERRORS, LOAD_ERRORS
from service.api.galleries import STORE_ERRORS
from service.api.gallery_requests import EnrolLine, EnrolOptions, EnrolRequest
from service.api.gallery_responses import EnrolItem, EnrolResponse
from service.api.intake import NDJSON, is_ndjson, read_images, read_query, time_limit, validate
from service.api.ndjson import LineResponse, answer_lines
from service.api.openapi import images_body, line_body
from service.api.problems import documented_problems, name_parts, problem_of
from service.api.requests import REPEATED, Embedding
from service.api.responses import FaceOut
from service.enrolment import Enrolled, Entry, enrol_entries
from service.errors import MediaTypeUnsupported
from service.gallery.galleries import Galleries
from service.gallery.identification import least_quality
from service.gallery.records import NewTemplate
from service.gallery.vectors import source_of, unit_vector
from service.strict_json import parse_object

router = APIRouter(prefix="/v1/galleries/{gallery}", tags=["galleries"])

EMBEDDING_ERRORS = (
    errors.EmbeddingWrongDimension,
    errors.EmbeddingNotFinite,
    errors.EmbeddingZero,
    errors.ContractMismatch,
)
_ENTRY_ERRORS = (
    *IMAGE_ERRORS,
    *EMBEDDING_ERRORS,
    errors.GalleryUnknown,
    errors.NameInvalid,
    *GATE_ERRORS,
    errors.DuplicateOfAnother,
    *STORE_ERRORS,
)
_EXAMPLE = {"images": ["<base64 of a JPEG>"], "faces": "single"}


@router.post(
    "/subjects/{subject}/templates",
    response_model=EnrolResponse,
    responses=documented_problems(
        *INTAKE_ERRORS, errors.TooManyImages, errors.TooManyEmbeddings, *_ENTRY_ERRORS, *LOAD_ERRORS
    ),
    openapi_extra=images_body(EnrolRequest, _EXAMPLE),
)
async def enrol(gallery: str, subject: str, request: Request, backend: UsesBackend) -> Response:
    """Enrol photos or embeddings of a subject, which is made if it is not there. The same photo is enrolled once.

    With one photo, its error is the answer's error; with several, each item has a status of its own.
    """
    return await backend.answer(request, partial(_enrol_few, gallery, subject))


@router.post(
    "/templates",
    response_class=LineResponse,
    responses={
        **documented_problems(
            errors.MediaTypeUnsupported, errors.MemberInvalid, errors.MemberUnknown, *_ENTRY_ERRORS, *LOAD_ERRORS
        ),
        200: {"description": "One item for each line, in order.", "content": {NDJSON: {"schema": {"type": "string"}}}},
    },
    openapi_extra=line_body(EnrolLine, EnrolOptions),
)
async def enrol_lines(gallery: str, request: Request, backend: UsesBackend) -> LineResponse:
    """Enrol any number of photos or embeddings, one in each line; each is answered as soon as it is on the disk.

    Read the answer while you send: its lines come before yours have ended.
    """
    if not is_ndjson(request):
        raise MediaTypeUnsupported(f"send one JSON object in each line, as {NDJSON}")
    options = read_query(request, EnrolOptions, REPEATED)
    least = await backend.consult(least_quality, backend.galleries, [gallery])
    backend.models.require_gate(options.gate().at_least(least))  # now, not in every line
    request_id = request.state.request_id
    limit_s = time_limit(request.headers, backend.settings.request)  # of each group of lines
    backend.admission.require_room()

    async def deal(group: list[bytes]) -> bytes:
        job = Job(limit_s)
        return await backend.compute(job, _enrol_group, backend, gallery, group, options, request_id, job, granted=True)

    return answer_lines(request, backend.settings.request, deal, lambda error: _line(_item(error, request_id)))


def _enrol_few(gallery: str, subject: str, backend: Backend, sent: Sent, job: Job) -> Response:
    body = read_images(sent, EnrolRequest, backend.settings.request, REPEATED)
    contents: list[bytes | Embedding] = [*body.images, *body.embeddings]
    outcomes = _enrol(backend, gallery, [(subject, content) for content in contents], body, job)
    name_parts(outcomes, len(body.images))
    items = [_item(outcome, sent.request_id) for outcome in outcomes]
    return written(EnrolResponse(gallery=gallery, subject=subject, items=items), job)


def _enrol(
    backend: Backend,
    gallery: str,
    contents: Sequence[tuple[str, bytes | Embedding]],
    options: EnrolOptions,
    job: Job,
) -> list[Enrolled | VultusError]:
    """Enrol what can be read as an image or an embedding, and give every entry its outcome, in order."""
    outcomes: list[Enrolled | VultusError | None] = []
    entries: list[Entry] = []
    for subject, content in contents:
        try:
            ready = content if isinstance(content, bytes) else template_of(content, backend.galleries)
        except VultusError as error:
            outcomes.append(error)
            continue
        entries.append(Entry(subject, ready))
        outcomes.append(None)
    requirements = Requirements(options.faces, options.min_face_px, options.min_norm, options.gate())
    dealt_with = iter(enrol_entries(backend.galleries, backend.models, gallery, entries, requirements, job))
    return [next(dealt_with) if outcome is None else outcome for outcome in outcomes]


def template_of(given: Embedding, galleries: Galleries) -> NewTemplate:
    """Make a template of an embedding that came over the wire.

    Raises:
        ContractMismatch, EmbeddingWrongDimension, EmbeddingNotFinite, EmbeddingZero: It cannot be compared.
    """
    if given.contract_id is not None:
        galleries.require_contract(given.contract_id, "the embedding is")
    vector, length = unit_vector(given.embedding, galleries.dimensions)
    norm = length if given.norm is None else given.norm
    return NewTemplate(vector, source_of(vector), norm, given.quality)


def _enrol_group(
    backend: Backend, gallery: str, lines: Sequence[bytes], options: EnrolOptions, request_id: str, job: Job
) -> bytes:
    read: list[tuple[str, bytes | Embedding] | VultusError] = [_read_line(line) for line in lines]
    good = [one for one in read if not isinstance(one, VultusError)]
    outcomes = iter(_enrol(backend, gallery, good, options, job))
    answered = (one if isinstance(one, VultusError) else next(outcomes) for one in read)
    return b"".join(_line(_item(outcome, request_id)) for outcome in answered)


def _read_line(line: bytes) -> tuple[str, bytes | Embedding] | VultusError:
    try:
        entry = validate(EnrolLine, parse_object(line))
    except VultusError as error:
        return error
    if entry.image is not None:
        return entry.subject, entry.image
    return entry.subject, Embedding.model_construct(
        embedding=entry.embedding, norm=entry.norm, quality=entry.quality, contract_id=entry.contract_id
    )


def _item(outcome: Enrolled | VultusError, request_id: str) -> EnrolItem:
    if isinstance(outcome, VultusError):
        problem = problem_of(outcome, request_id)
        return EnrolItem(status="error", duplicate_of=problem.duplicate_of, problem=problem)
    face = None
    if outcome.face is not None and outcome.assessment is not None:
        face = FaceOut.of(outcome.face.face, outcome.assessment)
    return EnrolItem(status=outcome.outcome, template=outcome.template, face=face, norm=outcome.norm)


def _line(item: EnrolItem) -> bytes:
    return item.model_dump_json(exclude_none=True).encode() + b"\n"
