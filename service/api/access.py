"""Access of requests: their keys, the scope of each route, and the limits of keys."""

import ipaddress
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer, SecurityScopes
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as AsgiScope

from models.errors import VultusError
from service.api.problems import problem_response
from service.api.request_state import ACCESS
from service.errors import KeyInQuery, KeyMalformed, SeveralKeys
from service.security.guard import Access, Guard
from service.security.keys.tokens import TOKEN
from service.security.limits import KeyLimits
from service.security.scopes import Grant, Scope

PUBLIC_PATHS = frozenset(
    {
        *("/healthz", "/livez", "/readyz", "/startupz", "/openapi.json"),
        *("/docs", "/docs/start.js", "/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js"),
    }
)
"""Paths that need no key: probes, and the description of the API, which is the same for all installations."""

_BEARER_SCHEME = HTTPBearer(
    scheme_name="bearer", description="A key, as `Authorization: Bearer <key>`.", auto_error=False
)
_API_KEY_SCHEME = APIKeyHeader(
    name="X-Api-Key", scheme_name="apiKey", description="A key, as `X-Api-Key: <key>`.", auto_error=False
)
_BEARER = "bearer "
_PROXY_HEADERS = {"forwarded", "via", "x-forwarded", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip"}
_PROXY_PREFIX = "x-forwarded-"  # who sends such headers speaks for others
_QUERY_NAMES = frozenset({"key", "token", "api_key", "apikey", "api-key", "x-api-key", "access_token", "authorization"})


class AccessMiddleware:
    """ASGI middleware that admits requests by their keys and counts them against the limits of the keys."""

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        """Guard an application."""
        self._app = app
        self._guard = guard
        self._limits = KeyLimits()

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it before anything of its body is read."""
        if scope["type"] != "http" or path_of(scope) in PUBLIC_PATHS:
            await self._app(scope, receive, send)
            return
        with ExitStack() as in_progress:
            try:
                headers = Headers(scope=scope)
                _refuse_key_in_query(scope["query_string"])
                access = self._guard.admit(_sent_key(headers), _is_from_loopback(scope, headers))
                scope["state"][ACCESS] = access
                if access.key is not None:
                    counted = await self._limits.count(access.key)
                    send = _with_headers(send, counted.headers) if counted.headers else send
                    if counted.refusal is not None:
                        raise counted.refusal
                    in_progress.enter_context(self._limits.in_progress(access.key))
            except VultusError as error:
                await problem_response(error, scope["state"])(scope, receive, send)
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


def path_of(scope: AsgiScope) -> str:
    """Return the path of a request as the routes see it."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _sent_key(headers: Headers) -> str | None:
    """Return the key that a request has sent, if any.

    Raises:
        KeyMalformed: The header `Authorization` has another scheme.
        SeveralKeys: The request has several keys.
    """
    keys = headers.getlist("x-api-key")
    for value in headers.getlist("authorization"):
        if not value.lower().startswith(_BEARER):
            raise KeyMalformed("the header `Authorization` has another scheme than `Bearer`")
        keys.append(value[len(_BEARER) :])
    if len(keys) > 1:
        raise SeveralKeys("the request has several keys; send one, in one header")
    return keys[0].strip() if keys else None


def _refuse_key_in_query(query: bytes) -> None:
    """Refuse a key in the query.

    Raises:
        KeyInQuery: The query has a key, or a parameter that is meant for one.
    """
    if not query:
        return
    parameters = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    if any(name.lower() in _QUERY_NAMES or TOKEN.search(name) or TOKEN.search(value) for name, value in parameters):
        raise KeyInQuery("send the key in a header; a key in the query is written to logs, so revoke it if it was one")


def _is_from_loopback(scope: AsgiScope, headers: Mapping[str, str]) -> bool:
    """Return whether a program on this machine has sent a request for itself."""
    if any(name in _PROXY_HEADERS or name.startswith(_PROXY_PREFIX) for name in headers):
        return False
    try:
        return ipaddress.ip_address((scope.get("client") or ("",))[0]).is_loopback
    except ValueError:
        return False


def _with_headers(send: Send, headers: Mapping[str, str]) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(headers)
        await send(message)

    return send_with_headers
