"""Writing of large responses in the worker that read them, because the event loop must not spend time on megabytes."""

from fastapi import Response
from pydantic import BaseModel


def written(content: BaseModel) -> Response:
    """Return a response of JSON, so that FastAPI neither validates nor serialises the content on the event loop."""
    return Response(content.model_dump_json(), media_type="application/json")
