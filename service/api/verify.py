"""`POST /v1/verify`: whether two photos are of one person, and how often such an answer is wrong."""

from typing import NamedTuple

import numpy as np
from fastapi import APIRouter, Request, Response

from models import errors as core
from models.calibration import OperatingPoint
from models.cropping import FacePolicy, StageTimes
from models.errors import CalibrationUnfit, VultusError
from models.pipeline import EmbeddedFace, EmbeddedPhoto, Pipeline
from service.api.dependencies import Backend, UsesBackend, server_timing
from service.api.detect import IMAGE_ERRORS, INTAKE_ERRORS
from service.api.intake import read_sides
from service.api.openapi import sides_body
from service.api.problems import documented_problems
from service.api.requests import VerifyRequest
from service.api.responses import FaceOut, OperatingPointOut, VerifyResponse

router = APIRouter(prefix="/v1", tags=["faces"])

_SIDES = ("probe", "reference")
_PROBLEMS = documented_problems(*INTAKE_ERRORS, *IMAGE_ERRORS, core.OperatingPointUnknown, core.CalibrationUnfit)


class _BestPair(NamedTuple):
    similarity: float
    comparisons: int
    probe: EmbeddedFace
    reference: EmbeddedFace


@router.post("/verify", responses=_PROBLEMS, openapi_extra=sides_body(VerifyRequest, _SIDES))
async def verify(request: Request, response: Response, backend: UsesBackend) -> VerifyResponse:
    """Compare two photos and decide at a measured operating point.

    Under the policy `all` every face of the one photo is compared with every face of the other and the best pair is
    reported; the more pairs, the likelier a false match, and `false_match_rate` says so.
    """
    body = await read_sides(request, VerifyRequest, _SIDES, backend.settings.request)
    point = _operating_point(backend, body.operating_point)
    times = StageTimes()
    images = (body.probe.image, body.reference.image)
    best = await backend.compute(_compare, backend.models.pipeline, images, body.faces, times)
    response.headers["Server-Timing"] = server_timing(times)
    return VerifyResponse(
        similarity=best.similarity,
        decision=point.decide(best.similarity) if point else None,
        operating_point=OperatingPointOut.of(point) if point else None,
        comparisons=best.comparisons,
        false_match_rate=min(1.0, point.rate * best.comparisons) if point else None,
        uncalibrated_because=backend.models.uncalibrated_because,
        probe=FaceOut.of(best.probe.face),
        reference=FaceOut.of(best.reference.face),
    )


def _operating_point(backend: Backend, wanted: str | float | None) -> OperatingPoint | None:
    calibration = backend.models.calibration
    if calibration is not None:
        return calibration.point(wanted)
    if wanted is not None:
        raise CalibrationUnfit(f"no operating point can be used: {backend.models.uncalibrated_because}")
    return None


def _compare(pipeline: Pipeline, images: tuple[bytes, bytes], policy: FacePolicy, times: StageTimes) -> _BestPair:
    probes, references = (
        _faces(outcome, part) for outcome, part in zip(pipeline.embed(images, policy, times), _SIDES, strict=True)
    )
    similarities = np.stack([face.embedding for face in probes]) @ np.stack([face.embedding for face in references]).T
    probe, reference = np.unravel_index(int(similarities.argmax()), similarities.shape)
    similarity = float(np.clip(similarities[probe, reference], -1.0, 1.0))
    return _BestPair(similarity, similarities.size, probes[probe], references[reference])


def _faces(outcome: EmbeddedPhoto | VultusError, part: str) -> list[EmbeddedFace]:
    if isinstance(outcome, EmbeddedPhoto):
        if outcome.faces:
            return outcome.faces
        outcome = core.NoFace("no face was found in the image")
    outcome.part = part
    raise outcome
