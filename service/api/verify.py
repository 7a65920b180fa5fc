"""`POST /v1/verify`: whether two photos are of one person, and how often such an answer is wrong."""

from typing import NamedTuple

import numpy as np
from fastapi import APIRouter, Request, Response

from models import errors as core
from models.calibration import OperatingPoint
from models.errors import CalibrationUnfit, VultusError
from models.pipeline import EmbeddedFace, FacePolicy, Pipeline, StageTimes
from service.api.dependencies import Backend, UsesBackend, server_timing
from service.api.detect import IMAGE_ERRORS, INTAKE_ERRORS
from service.api.intake import read_sides
from service.api.openapi import sides_body
from service.api.problems import documented_problems
from service.api.schemas import FaceOut, OperatingPointOut, VerifyRequest, VerifyResponse

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
    sides = [_faces(pipeline, encoded, policy, part, times) for part, encoded in zip(_SIDES, images, strict=True)]
    probes, references = (np.stack([face.embedding for face in faces]) for faces in sides)
    similarities = np.clip(probes @ references.T, -1.0, 1.0)
    probe, reference = np.unravel_index(int(similarities.argmax()), similarities.shape)
    return _BestPair(float(similarities[probe, reference]), similarities.size, sides[0][probe], sides[1][reference])


def _faces(pipeline: Pipeline, encoded: bytes, policy: FacePolicy, part: str, times: StageTimes) -> list[EmbeddedFace]:
    try:
        faces = pipeline.embed(pipeline.open(encoded, times), policy, times)
        if not faces:
            raise core.NoFace("no face was found in the image")
    except VultusError as error:
        error.part = part
        raise
    return faces
