"""`GET /metrics`: what the service answers and holds, for Prometheus."""

from fastapi import APIRouter, Response
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from service.api.access import needs
from service.api.backend import UsesBackend
from service.api.problems import documented_problems

router = APIRouter(tags=["operation"])


@router.get(
    "/metrics",
    dependencies=[needs("metrics")],
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {}}, "description": "Metrics in the text format of Prometheus."},
        **documented_problems(),
    },
)
async def metrics(backend: UsesBackend) -> Response:
    """Return the metrics in the text format of Prometheus.

    Nothing in them names a person, gallery or key.
    """
    content = await backend.call_gallery(generate_latest, backend.metrics.registry)
    return Response(content, media_type=CONTENT_TYPE_LATEST)
