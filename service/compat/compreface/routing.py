"""Routes that answer errors in CompreFace's form."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from models.errors import RequestCancelled, VultusError
from service.api.problems import note_unexpected
from service.compat.compreface.access import PREFIX
from service.compat.compreface.errors import error_response, internal_error_response


class CompreFaceRoute(APIRoute):
    """A route of CompreFace's API."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of requests, which raises only if no client reads the response."""
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except (ClientDisconnect, RequestCancelled):
                raise
            except VultusError as error:
                return error_response(error, request.scope["state"])
            except Exception as error:
                note_unexpected(error, request.scope["state"])
                return internal_error_response(request.scope["state"])

        return answer


def compreface_router(path: str) -> APIRouter:
    """Return a router for the paths of a service, which the document of the own API does not describe."""
    return APIRouter(prefix=f"{PREFIX}/{path}", route_class=CompreFaceRoute, include_in_schema=False)
