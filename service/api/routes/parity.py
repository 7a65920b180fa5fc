"""`GET /v1/parity`: the parity proof of the served recognizer."""

from fastapi import APIRouter

from service.api.access import needs
from service.api.backend import UsesBackend
from service.api.problems import documented_problems
from service.api.wire.parity_responses import ParityResponse

router = APIRouter(tags=["operation"])


@router.get("/v1/parity", name="describe_parity", dependencies=[needs()], responses=documented_problems())
async def parity(backend: UsesBackend) -> ParityResponse:
    """Describe how closely the served recognizer reproduces its source network, by precision and engine.

    The proof was measured when the model was exported or its pack was fetched. A model whose proof did not pass is not
    served.
    """
    return ParityResponse.of(backend.models)
