"""`POST /v1/identify`: whose faces these are."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray

from models import errors as core
from models.assembly import Models
from models.calibration import OperatingPoint
from models.errors import FaceError, VultusError
from models.job import Job
from models.pipeline import EmbeddedPhoto
from models.quality import Gate
from service import errors
from service.acquisition import judge_faces
from service.api.body import Sent
from service.api.dependencies import Backend, UsesBackend, written
from service.api.detect import IMAGE_ERRORS, INTAKE_ERRORS, LOAD_ERRORS
from service.api.enrol import EMBEDDING_ERRORS, template_of
from service.api.gallery_requests import IdentifyLine, IdentifyOptions, IdentifyRequest
from service.api.gallery_responses import IdentifiedFaceOut, IdentifyItem, IdentifyLineItem, IdentifyResponse
from service.api.intake import is_ndjson, read_images, read_query, time_limit, validate
from service.api.ndjson import LineResponse, answer_lines
from service.api.openapi import images_body
from service.api.problems import documented_problems, name_parts, problem_of
from service.api.requests import REPEATED, Embedding
from service.api.responses import FaceOut, OperatingPointOut
from service.gallery.identification import LEAST, NO_POINT, comparisons, identify_photos, least_quality
from service.gallery.records import Candidate
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


@dataclass(frozen=True, slots=True, eq=False)
class _Face:
    """A face, what is known of it, and why it is not looked for; of an embedding only that is known."""

    embedding: NDArray[np.float32]
    out: FaceOut | None = None
    norm: float = 0.0
    refusal: FaceError | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Probe:
    """What is looked for: the faces of a photo, or an embedding."""

    faces: Sequence[_Face]
    photo: EmbeddedPhoto | None

    @property
    def vectors(self) -> list[NDArray[np.float32]]:
        """Of the faces that are looked for."""
        return [face.embedding for face in self.faces if face.refusal is None]


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


def _identify(backend: Backend, sent: Sent, job: Job) -> Response:
    body = read_images(sent, IdentifyRequest, backend.settings.request, _MANY)
    point = _operating_point(backend, body.operating_point)
    contents: list[bytes | Embedding] = [*body.images, *body.embeddings]
    outcomes, compared = _look(backend, contents, body, point, job)
    name_parts(outcomes, len(body.images))
    answer = IdentifyResponse(
        items=[_item(outcome, sent.request_id) for outcome in outcomes],
        operating_point=OperatingPointOut.of(point) if point else None,
        comparisons=compared,
        fpir_bound=min(1.0, point.rate * compared) if point else None,
        uncalibrated_because=backend.models.uncalibrated_because,
    )
    return written(answer, job)


async def _answer_lines(request: Request, backend: Backend) -> LineResponse:
    options = read_query(request, IdentifyOptions, _MANY)
    point = _operating_point(backend, options.operating_point)
    least = await backend.consult(least_quality, backend.galleries, options.gallery)
    backend.models.require_gate(options.gate().at_least(least))  # now, not in every line
    request_id = request.state.request_id
    limit_s = time_limit(request.headers, backend.settings.request)  # of each group of lines
    backend.admission.require_room()

    async def deal(group: list[bytes]) -> bytes:
        job = Job(limit_s)
        return await backend.compute(job, _look_group, backend, group, options, point, request_id, job, granted=True)

    return answer_lines(request, backend.settings.request, deal, lambda error: _line(None, _item(error, request_id)))


def _operating_point(backend: Backend, wanted: str | float | None) -> OperatingPoint | None:
    return None if wanted == NO_POINT else backend.models.operating_point(wanted)


def _look(
    backend: Backend,
    contents: Sequence[bytes | Embedding],
    options: IdentifyOptions,
    point: OperatingPoint | None,
    job: Job,
) -> tuple[list[IdentifyItem | VultusError], int]:
    """Look for everything at once: an item or error for every photo and embedding, in order; and count comparisons."""
    compared = comparisons(backend.galleries, options.gallery, options.fusion)
    gate = options.gate().at_least(least_quality(backend.galleries, options.gallery))
    backend.models.require_gate(gate)
    images = [content for content in contents if isinstance(content, bytes)]
    photos = iter(backend.models.pipeline.embed(images, options.faces, job))
    probes = [
        _of_photo(next(photos), backend.models, gate) if isinstance(content, bytes) else _of_embedding(content, backend)
        for content in contents
    ]
    with job.measure("search"):
        found = iter(
            identify_photos(
                backend.galleries,
                options.gallery,
                [probe.vectors for probe in probes if isinstance(probe, _Probe)],
                options.k,
                options.fusion,
                point.threshold if point else LEAST,
                options.assign == "unique",
            )
        )
    items = [
        probe if isinstance(probe, VultusError) else _found(probe, next(found), point is not None) for probe in probes
    ]
    return items, compared


def _of_photo(photo: EmbeddedPhoto | VultusError, models: Models, gate: Gate) -> _Probe | VultusError:
    if isinstance(photo, VultusError):
        return photo
    faces = [
        _Face(face.embedding, FaceOut.of(face.face, assessment), face.norm, refusal)
        for face, assessment, refusal in judge_faces(models, photo, gate)
    ]
    return _Probe(faces, photo)


def _of_embedding(given: Embedding, backend: Backend) -> _Probe | VultusError:
    try:
        return _Probe([_Face(template_of(given, backend.galleries).embedding)], None)
    except VultusError as error:
        return error


def _found(probe: _Probe, candidates: Iterable[list[Candidate]], decides: bool) -> IdentifyItem:
    found = iter(candidates)
    return IdentifyItem(
        status="ok",
        width=probe.photo.width if probe.photo else None,
        height=probe.photo.height if probe.photo else None,
        faces=[
            IdentifiedFaceOut.rejected(face.out, face.norm, face.refusal)
            if face.out and face.refusal
            else IdentifiedFaceOut.of(face.out, face.norm if face.out else None, next(found), decides)
            for face in probe.faces
        ],
    )


def _look_group(
    backend: Backend,
    lines: Sequence[bytes],
    options: IdentifyOptions,
    point: OperatingPoint | None,
    request_id: str,
    job: Job,
) -> bytes:
    read = [_read_line(line) for line in lines]
    contents = [one[1] for one in read if not isinstance(one, VultusError)]
    looked, _ = _look(backend, contents, options, point, job)
    outcomes = iter(looked)
    return b"".join(
        _line(None, _item(one, request_id))
        if isinstance(one, VultusError)
        else _line(one[0], _item(next(outcomes), request_id))
        for one in read
    )


def _read_line(line: bytes) -> tuple[str | None, bytes | Embedding] | VultusError:
    try:
        entry = validate(IdentifyLine, parse_object(line))
    except VultusError as error:
        return error
    if entry.image is not None:
        return entry.id, entry.image
    return entry.id, Embedding.model_construct(embedding=entry.embedding, contract_id=entry.contract_id)


def _item(outcome: IdentifyItem | VultusError, request_id: str) -> IdentifyItem:
    if isinstance(outcome, VultusError):
        return IdentifyItem(status="error", problem=problem_of(outcome, request_id))
    return outcome


def _line(own_id: str | None, item: IdentifyItem) -> bytes:
    line = IdentifyLineItem(id=own_id, **{name: getattr(item, name) for name in IdentifyItem.model_fields})
    return line.model_dump_json(exclude_none=True).encode() + b"\n"
