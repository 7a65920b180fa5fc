"""`GET /v1/info`: describe the served models."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from models.artefact.card import Card, DetectorCard
from models.calibration import ScoreMap
from models.runtime import SessionDescription
from service.api.access import needs
from service.api.backend import UsesBackend
from service.api.problems import documented_problems
from service.api.wire.responses import (
    BoundOut,
    InfoResponse,
    ModelOut,
    OperatingPointOut,
    QualityOut,
    ScoreMapOut,
    SessionOut,
    TuningOut,
)
from service.version import VERSION

router = APIRouter(tags=["operation"])


@router.get("/v1/info", dependencies=[needs()], responses=documented_problems())
async def info(backend: UsesBackend) -> InfoResponse:
    """Describe what is served: models, embedding contract, engines in use, operating points."""
    models = backend.models
    calibration = models.calibration
    return InfoResponse(
        version=VERSION,
        pack=models.pack,
        contract_id=models.contract_id,
        recognizer=_model(
            models.recognizer.name,
            models.recognizer_pack,
            models.recognizer,
            models.recognizer_training_data,
            models.embedder_session,
        ),
        detector=_model(
            models.detector.family,
            models.detector_pack,
            models.detector,
            models.detector_training_data,
            models.detector_session,
        ),
        dimensions=models.recognizer.dimensions,
        alignment_template=models.recognizer.template,
        operating_points=[OperatingPointOut.of(point) for point in calibration.points] if calibration else [],
        default_operating_point=calibration.default if calibration else None,
        calibration_conditions=calibration.conditions if calibration else None,
        calibration_mismatch=models.calibration_mismatch,
        bound=BoundOut(**asdict(calibration.bound)) if calibration else None,
        score_map=ScoreMapOut(**_described(calibration.score_map)) if calibration else None,
        quality=QualityOut.of(models.quality) if models.quality else None,
        uncalibrated_because=models.uncalibrated_because,
        tuning=TuningOut.of(models.tuning) if models.tuning else None,
        untuned_because=models.untuned_because,
    )


def _described(score_map: ScoreMap) -> dict[str, Any]:
    """Return the members of a score map without its knots."""
    return {name: getattr(score_map, name) for name in ScoreMapOut.model_fields}


def _model(
    name: str, pack: str | None, card: Card | DetectorCard, training_data: str, session: SessionDescription
) -> ModelOut:
    return ModelOut(
        name=name,
        pack=pack,
        licence=card.licence,
        training_data=training_data,
        weights_sha256=card.weights,
        session=SessionOut(**asdict(session)),
    )
