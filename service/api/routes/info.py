"""`GET /v1/info`, `/healthz`, `/readyz`: describe the served models and check the service."""

from dataclasses import asdict
from typing import Any

import numpy as np
from fastapi import APIRouter

from models.artefact.card import Card, DetectorCard
from models.calibration import ScoreMap
from models.deadline import Deadline
from models.errors import DeadlineExceeded, EngineStopped, InferenceFailed
from models.pipeline import Pipeline
from models.runtime import SessionDescription
from models.synthetic import synthetic_pictures
from service.api.access import needs
from service.api.backend import PROBE_S, UsesBackend
from service.api.problems import documented_problems
from service.api.wire.responses import (
    BoundOut,
    Health,
    InfoResponse,
    ModelOut,
    OperatingPointOut,
    QualityOut,
    ScoreMapOut,
    SessionOut,
    TuningOut,
)
from service.errors import NotReady
from service.version import VERSION

router = APIRouter(tags=["operation"])

_UNIT_TOLERANCE = 1e-2  # bf16 arithmetic normalises to within a few thousandths


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
            models.recognizer.name, models.recognizer, models.recognizer_training_data, models.embedder_session
        ),
        detector=_model(
            models.detector.family, models.detector, models.detector_training_data, models.detector_session
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


@router.get("/healthz")
async def healthz() -> Health:
    """Report that the process is alive."""
    return Health(status="alive")


@router.get("/readyz", responses=documented_problems(NotReady, needs_key=False))
async def readyz(backend: UsesBackend) -> Health:
    """Report whether inference works.

    Each call runs the detector and the recognizer on a synthetic picture and checks their outputs. Under a load that
    leaves no time for this within five seconds, the service is ready as long as the engines end runs.
    """
    models = backend.models
    earlier = models.progress()
    try:
        models.require_alive()
        await backend.probe(_try_inference, models.pipeline)
    except (NotReady, DeadlineExceeded) as error:
        if not models.moved_since(earlier):
            raise NotReady(f"inference did not answer within {PROBE_S:g} s, and no run ended meanwhile") from error
    except (InferenceFailed, EngineStopped) as error:
        raise NotReady(f"inference does not work: {error}") from error
    return Health(status="ready")


def _try_inference(pipeline: Pipeline) -> None:
    template = pipeline.embedder.template
    (picture,) = synthetic_pictures(1, template.height, template.width)
    deadline = Deadline(PROBE_S)
    pipeline.detector.detect(picture, deadline)
    embedding, _ = pipeline.embedder.embed(picture[None], deadline)
    if abs(float(np.linalg.norm(embedding)) - 1) > _UNIT_TOLERANCE:
        raise InferenceFailed("the recognizer returned an embedding whose length is not 1")


def _described(score_map: ScoreMap) -> dict[str, Any]:
    """Return the members of a score map without its knots."""
    return {name: getattr(score_map, name) for name in ScoreMapOut.model_fields}


def _model(name: str, card: Card | DetectorCard, training_data: str, session: SessionDescription) -> ModelOut:
    return ModelOut(
        name=name,
        licence=card.licence,
        training_data=training_data,
        weights_sha256=card.weights,
        session=SessionOut(**asdict(session)),
    )
