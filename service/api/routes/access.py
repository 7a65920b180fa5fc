"""`GET /v1/access`: what the key of a request may do."""

from fastapi import APIRouter, Request

from service.api.access import access_of, needs
from service.api.problems import documented_problems
from service.api.wire.access_responses import AccessResponse

router = APIRouter(tags=["keys"])


@router.get("/v1/access", name="describe_access", dependencies=[needs()], responses=documented_problems())
async def access(request: Request) -> AccessResponse:
    """Describe what the key of the request may do; of a service that is open, what the request may do without one."""
    return AccessResponse.of(access_of(request))
