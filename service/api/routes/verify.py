"""`POST /v1/verify`: decide whether two sides show the same person, with the error rate of the decision."""

from fastapi import APIRouter, Request, Response

from models import errors as core
from models.deadline import Deadline
from service import errors
from service.api.access import needs
from service.api.backend import Backend, UsesBackend, json_response
from service.api.documented_errors import EMBEDDING_ERRORS, GATE_ERRORS, IMAGE_ERRORS, INTAKE_ERRORS, LOAD_ERRORS
from service.api.intake.body import ReceivedRequest
from service.api.intake.members import read_sides
from service.api.openapi import sides_body
from service.api.problems import documented_problems
from service.api.wire.requests import REPEATABLE, VerifyRequest
from service.api.wire.responses import VerifyResponse
from service.audit.events import verification_event
from service.operations.verify import PARTS, verify

router = APIRouter(prefix="/v1", tags=["faces"])

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
    errors.AuditStopped,
    errors.StoreFailed,
)


@router.post(
    "/verify",
    name="verify",
    response_model=VerifyResponse,
    dependencies=[needs("verify")],
    responses=_PROBLEMS,
    openapi_extra=sides_body(VerifyRequest, PARTS),
)
async def verify_sides(request: Request, backend: UsesBackend) -> Response:
    """Compare two sides and decide at a measured operating point.

    Each side is a photo, an embedding, or a subject of a gallery with all its templates.

    With `faces` set to `all`, every face of one photo is compared with every face of the other, and the best pair is
    reported. More pairs make a false match more likely, and `false_match_rate` includes their number.
    """
    return await backend.answer(request, _verify)


def _verify(backend: Backend, received: ReceivedRequest, deadline: Deadline) -> Response:
    body = read_sides(received, VerifyRequest, PARTS, backend.settings.request, REPEATABLE)
    comparison = body.comparison()
    for part, gallery in comparison.galleries.items():
        received.grant.require_galleries([gallery], part)
    verification = verify(backend.galleries, backend.models, backend.references, comparison, deadline)
    received.events.append(verification_event(backend.galleries, comparison, verification))
    backend.metrics.count_comparisons("verify", verification.comparisons)
    sides = (verification.probe, verification.reference)
    backend.metrics.observe_quality(side.assessment for side in sides if side is not None)
    return json_response(VerifyResponse.of(verification, body.prior, backend.models.uncalibrated_because), deadline)
