"""`POST /v1/verify`: whether two sides are one person, and how often such an answer is wrong."""

from collections.abc import Iterable
from typing import NamedTuple

from fastapi import APIRouter, Request, Response

from models import errors as core
from models.assembly import Models
from models.cropping import FacePolicy
from models.errors import VultusError
from models.job import Job
from models.pipeline import EmbeddedPhoto
from models.quality import Gate
from service import errors
from service.acquisition import judge_faces
from service.api.body import Sent
from service.api.dependencies import Backend, UsesBackend, written
from service.api.detect import GATE_ERRORS, IMAGE_ERRORS, INTAKE_ERRORS, LOAD_ERRORS
from service.api.enrol import EMBEDDING_ERRORS, template_of
from service.api.intake import read_sides
from service.api.openapi import sides_body
from service.api.problems import documented_problems
from service.api.requests import REPEATED, Embedding, Side, VerifyRequest
from service.api.responses import FaceOut, OperatingPointOut, VerifyResponse
from service.gallery.identification import least_quality, templates_of
from service.gallery.ranking import fused_similarity, pairs_compared
from service.gallery.records import TemplateSet

router = APIRouter(prefix="/v1", tags=["faces"])

_PROBE, _REFERENCE = _SIDES = ("probe", "reference")
_PROBLEMS = documented_problems(
    *INTAKE_ERRORS,
    *IMAGE_ERRORS,
    *EMBEDDING_ERRORS,
    errors.GalleryUnknown,
    errors.SubjectUnknown,
    errors.SubjectEmpty,
    core.OperatingPointUnknown,
    *GATE_ERRORS,
    *LOAD_ERRORS,
    errors.StoreFailed,
)


class _Comparand(NamedTuple):
    """What is compared: a face of a photo, an embedding, or a subject with all its templates."""

    templates: TemplateSet
    face: FaceOut | None


class _BestPair(NamedTuple):
    similarity: float
    comparisons: int
    probe: _Comparand
    reference: _Comparand


@router.post(
    "/verify", response_model=VerifyResponse, responses=_PROBLEMS, openapi_extra=sides_body(VerifyRequest, _SIDES)
)
async def verify(request: Request, backend: UsesBackend) -> Response:
    """Compare two sides and decide at a measured operating point.

    Each is a photo, an embedding, or a subject of a gallery with all its templates.

    Under the policy `all` every face of the one photo is compared with every face of the other and the best pair is
    reported; the more pairs, the likelier a false match, and `false_match_rate` says so.
    """
    return await backend.answer(request, _verify)


def _verify(backend: Backend, sent: Sent, job: Job) -> Response:
    body = read_sides(sent, VerifyRequest, _SIDES, backend.settings.request, REPEATED)
    point = backend.models.operating_point(body.operating_point)
    best = _compare(backend, body, job)
    answer = VerifyResponse(
        similarity=best.similarity,
        decision=point.decide(best.similarity, body.inconclusive) if point else None,
        operating_point=OperatingPointOut.of(point) if point else None,
        comparisons=best.comparisons,
        false_match_rate=min(1.0, point.rate * best.comparisons) if point else None,
        **_likelihood(backend.models, best, body.prior),
        uncalibrated_because=backend.models.uncalibrated_because,
        probe=best.probe.face,
        reference=best.reference.face,
    )
    return written(answer, job)


def _likelihood(models: Models, best: _BestPair, prior: float) -> dict[str, float]:
    """Map the similarity; the best of several comparisons is not what the map was fitted on."""
    if models.calibration is None or best.comparisons > 1:
        return {}
    fitted = models.calibration.score_map
    return {
        "log_likelihood_ratio": fitted.log_likelihood_ratio(best.similarity),
        "probability": fitted.probability(best.similarity, prior),
        "prior": prior,
    }


def _compare(backend: Backend, body: VerifyRequest, job: Job) -> _BestPair:
    sides = dict(zip(_SIDES, (body.probe, body.reference), strict=True))
    others = {part: _given(backend, side, part) for part, side in sides.items() if side.image is None}
    images = {part: side.image for part, side in sides.items() if side.image is not None}
    gate = body.gate().at_least(least_quality(backend.galleries, _galleries(sides.values())))
    backend.models.require_gate(gate)
    photos = _embed(backend, images, body.faces, job)
    probes, references = (
        others[part] if part in others else _faces(photos[part], part, backend.models, gate) for part in _SIDES
    )
    similarity, probe, reference = max(
        (
            (fused_similarity(one.templates, other.templates, body.fusion), one, other)
            for one in probes
            for other in references
        ),
        key=lambda pair: pair[0],
    )
    pairs = sum(pairs_compared(one.templates, other.templates, body.fusion) for one in probes for other in references)
    return _BestPair(min(1.0, max(-1.0, similarity)), pairs, probe, reference)


def _embed(
    backend: Backend, images: dict[str, bytes], policy: FacePolicy, job: Job
) -> dict[str, EmbeddedPhoto | VultusError]:
    """Embed the photos of the sides; a reference that was embedded before is remembered."""
    photos: dict[str, EmbeddedPhoto | VultusError] = {}
    reference = images.get(_REFERENCE)
    if reference is not None and (remembered := backend.references.find(reference, policy)) is not None:
        photos[_REFERENCE] = remembered
    missing = [part for part in images if part not in photos]
    embedded = backend.models.pipeline.embed([images[part] for part in missing], policy, job)
    photos |= zip(missing, embedded, strict=True)
    if reference is not None and _REFERENCE in missing and isinstance(found := photos[_REFERENCE], EmbeddedPhoto):
        backend.references.keep(reference, policy, found)
    return photos


def _given(backend: Backend, side: Side, part: str) -> list[_Comparand]:
    try:
        if side.gallery is not None and side.subject is not None:
            return [_Comparand(templates_of(backend.galleries, side.gallery, side.subject), None)]
        given = Embedding.model_construct(
            embedding=side.embedding, norm=None, quality=None, contract_id=side.contract_id
        )
        return [_Comparand(TemplateSet.of(template_of(given, backend.galleries).embedding), None)]
    except VultusError as error:
        error.part = part
        raise


def _galleries(sides: Iterable[Side]) -> list[str]:
    return [side.gallery for side in sides if side.gallery is not None]


def _faces(outcome: EmbeddedPhoto | VultusError, part: str, models: Models, gate: Gate) -> list[_Comparand]:
    """Take the faces that keep to the gate.

    Raises:
        FaceError: There are none; of several that were refused, why the one with the best score was.
    """
    if not isinstance(outcome, EmbeddedPhoto):
        outcome.part = part
        raise outcome
    judged = judge_faces(models, outcome, gate)
    taken = [
        _Comparand(TemplateSet.of(face.embedding), FaceOut.of(face.face, assessment))
        for face, assessment, refusal in judged
        if refusal is None
    ]
    if not taken:
        refusals = [one.refusal for one in judged if one.refusal is not None]
        error = refusals[0] if refusals else core.NoFace("no face was found in the image")
        error.part = part
        raise error
    return taken
