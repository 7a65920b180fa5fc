"""The routes of CompreFace's API. Other paths and other methods are answered in its form, too."""

from typing import Any

from fastapi import APIRouter
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from service.api.access import path_of
from service.compat.compreface import detection, examples, recognition, subjects, verification
from service.compat.compreface.access import PREFIX
from service.compat.compreface.errors import error_response
from service.errors import MethodNotAllowed, RouteUnknown

_METHODS = ("GET", "POST", "PUT", "DELETE")
_MAX_SHOWN = 100  # characters of a path in a sentence

_SERVICES = (
    recognition.router,
    subjects.router,
    examples.router,
    examples.static_router,
    detection.router,
    verification.router,
)


class _Others:
    """Refuses what no route is for; as an object and not a function, it is asked for every method there is."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        method, path = scope["method"][:_MAX_SHOWN], path_of(scope)[:_MAX_SHOWN]
        allowed = _methods(scope)
        if allowed:
            error = MethodNotAllowed(f"this path supports {', '.join(allowed)}, not {method}")
            response = error_response(error, scope["state"])
            response.headers["Allow"] = ", ".join(allowed)
        else:
            response = error_response(RouteUnknown(f"{method} {path} is not supported"), scope["state"])
        await response(scope, receive, send)


def _methods(scope: Scope) -> list[str]:
    """Return the methods that the path of a request supports."""
    asked: dict[str, Any] = {name: value for name, value in scope.items() if name not in ("path_params", "endpoint")}
    return [
        method
        for method in _METHODS
        if any(
            route.matches({**asked, "method": method})[0] is Match.FULL
            for router in _SERVICES
            for route in router.routes
        )
    ]


_others = APIRouter(
    routes=[Route(path, _Others(), include_in_schema=False) for path in (PREFIX, f"{PREFIX}/{{path:path}}")]
)

ROUTERS: tuple[APIRouter, ...] = (*_SERVICES, _others)
