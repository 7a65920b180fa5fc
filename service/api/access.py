"""Access of requests: their keys, the scope of each route, and the limits of keys."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Annotated, Any, Protocol

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer, SecurityScopes
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as AsgiScope

from models.errors import VultusError
from service.api.request_state import ACCESS
from service.security.guard import Access
from service.security.limits import KeyLimits
from service.security.scopes import Grant, Scope

PUBLIC_PATHS = frozenset(
    {
        *("/healthz", "/livez", "/readyz", "/startupz", "/openapi.json"),
        *("/docs", "/docs/start.js", "/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js"),
    }
)
"""Paths that need no key: probes, and the description of the API, which is the same for all installations."""

PUBLIC_PAGES = "/console"
"""Path of the page for people and beginning of those of its files, which have nothing of any installation in them."""

_BEARER_SCHEME = HTTPBearer(
    scheme_name="bearer", description="A key, as `Authorization: Bearer <key>`.", auto_error=False
)
_API_KEY_SCHEME = APIKeyHeader(
    name="X-Api-Key", scheme_name="apiKey", description="A key, as `X-Api-Key: <key>`.", auto_error=False
)


class AccessScheme(Protocol):
    """How the clients of a protocol show their key, and how they are refused."""

    def is_for(self, scope: AsgiScope) -> bool:
        """Return whether a request is one of this protocol."""

    async def admit(self, scope: AsgiScope, receive: Receive, held: ExitStack) -> tuple[Access, Receive]:
        """Return what a request may do, and what receives its body from now on.

        Args:
            scope: The request.
            receive: Receives its body.
            held: What is held until the request has ended.

        Raises:
            VultusError: The request is not admitted.
        """

    def refusal(self, error: VultusError, scope: AsgiScope) -> Response:
        """Return the response for a request that is not admitted."""


class AccessMiddleware:
    """ASGI middleware that admits requests by their keys and counts them against the limits of the keys."""

    def __init__(self, app: ASGIApp, schemes: Sequence[AccessScheme]) -> None:
        """Guard an application.

        Args:
            app: The application.
            schemes: The schemes of its protocols; the first that is for a request admits it, and the last is for all.
        """
        self._app = app
        self._schemes = schemes
        self._limits = KeyLimits()

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it; before anything of its body is read, unless the body is signed."""
        if scope["type"] != "http" or is_public(path_of(scope)):
            await self._app(scope, receive, send)
            return
        scheme = next(scheme for scheme in self._schemes if scheme.is_for(scope))
        with ExitStack() as held:
            try:
                access, receive = await scheme.admit(scope, receive, held)
                scope["state"][ACCESS] = access
                if access.key is not None:
                    counted = await self._limits.count(access.key)
                    send = _with_headers(send, counted.headers) if counted.headers else send
                    if counted.refusal is not None:
                        raise counted.refusal
                    held.enter_context(self._limits.in_progress(access.key))
            except VultusError as error:
                await scheme.refusal(error, scope)(scope, receive, send)
                return
            await self._app(scope, receive, send)


async def _authorize(
    request: Request,
    needed: SecurityScopes,
    _bearer: Annotated[object, Security(_BEARER_SCHEME)],  # for the OpenAPI document; the middleware reads keys
    _api_key: Annotated[object, Security(_API_KEY_SCHEME)],
) -> None:
    """Refuse a request whose key does not have the scope of the route, or does not reach the gallery of the path.

    Raises:
        ScopeMissing: The key does not have the scope.
        GalleryUnknown: The key does not reach the gallery.
    """
    grant = grant_of(request)
    for scope in needed.scopes:
        grant.require(scope)  # type: ignore[arg-type]  # `needs` accepts scopes only
    if "gallery" in request.path_params:
        grant.require_galleries([request.path_params["gallery"]])


def needs(*scopes: Scope) -> Any:
    """Return the dependency of a route that requires scopes; without scopes, any key."""
    return Security(_authorize, scopes=scopes)


def access_of(request: Request) -> Access:
    """Return what a request was admitted with."""
    access: Access = getattr(request.state, ACCESS)
    return access


def grant_of(request: Request) -> Grant:
    """Return what a request may do."""
    return access_of(request).grant


def client_of(request: Request) -> str:
    """Return who shares the capacity of the service with others: the id of a key, or empty for all without one."""
    key = access_of(request).key
    return key.id if key else ""


def is_public(path: str) -> bool:
    """Return whether a path needs no key."""
    return path in PUBLIC_PATHS or path == PUBLIC_PAGES or path.startswith(f"{PUBLIC_PAGES}/")


def path_of(scope: AsgiScope) -> str:
    """Return the path of a request as the routes see it."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _with_headers(send: Send, headers: Mapping[str, str]) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(headers)
        await send(message)

    return send_with_headers
