"""`GET /v1/calibration`: the calibration that runs, with all that it was measured on."""

from fastapi import APIRouter, Response

from models.errors import CalibrationUnfit
from models.serving.models import Models
from service.api.access import needs
from service.api.backend import UsesBackend
from service.api.problems import documented_problems
from service.api.wire.calibration_responses import CalibrationResponse
from service.api.written import written

router = APIRouter(tags=["operation"])


@router.get(
    "/v1/calibration",
    name="describe_calibration",
    response_model=CalibrationResponse,
    dependencies=[needs()],
    responses=documented_problems(CalibrationUnfit),
)
async def calibration(backend: UsesBackend) -> Response:
    """Describe the calibration that runs: operating points, score map, distribution of similarities and quality."""
    return await backend.call_gallery(_describe, backend.models)


def _describe(models: Models) -> Response:
    if models.calibration is None:
        raise CalibrationUnfit(f"this model is not calibrated: {models.uncalibrated_because}")
    return written(CalibrationResponse.of(models.calibration, models.calibration_mismatch))
