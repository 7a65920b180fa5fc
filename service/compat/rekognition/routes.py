"""The routes of Rekognition's operations. One that does not exist is answered in its form, too."""

from fastapi import APIRouter, Request, Response

from service.compat.rekognition import collections, comparing, faces, indexing, search, user_search, users
from service.compat.rekognition.routing import rekognition_router
from service.errors import RouteUnknown

_others = rekognition_router()
_OTHER_METHODS = ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS")


@_others.api_route("/{operation}", methods=["POST", *_OTHER_METHODS])
async def unknown(operation: str, request: Request) -> Response:
    """Refuse an operation that does not exist, or a request by another method than POST."""
    if request.method != "POST":
        raise RouteUnknown(f"operations are called by POST, not by {request.method}")
    raise RouteUnknown(f"the operation {operation[:64]} is not supported")


ROUTERS: tuple[APIRouter, ...] = (
    collections.router,
    indexing.router,
    faces.router,
    search.router,
    comparing.router,
    users.router,
    user_search.router,
    _others,
)
