"""The routes of CompreFace's API. A path that does not exist is answered in its form, too."""

from fastapi import APIRouter, Request, Response

from service.compat.compreface import detection, examples, recognition, subjects, verification
from service.compat.compreface.routing import compreface_router
from service.errors import RouteUnknown

_others = compreface_router("{path:path}")


@_others.api_route("", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
async def unknown(path: str, request: Request) -> Response:
    """Refuse a path that does not exist."""
    raise RouteUnknown(f"{request.method} {path[:100]} is not supported")


ROUTERS: tuple[APIRouter, ...] = (
    recognition.router,
    subjects.router,
    examples.router,
    examples.static_router,
    detection.router,
    verification.router,
    _others,
)
