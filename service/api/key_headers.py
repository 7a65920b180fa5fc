"""The keys of the own API: in a header, and never in the query."""

import ipaddress
from collections.abc import Mapping
from contextlib import ExitStack
from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope

from models.errors import VultusError
from service.api.problems import problem_response
from service.errors import KeyInQuery, KeyMalformed, SeveralKeys
from service.security.guard import Access, Guard
from service.security.keys.tokens import TOKEN

_BEARER = "bearer "
_PROXY_HEADERS = {"forwarded", "via", "x-forwarded", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip"}
_PROXY_PREFIX = "x-forwarded-"  # who sends such headers speaks for others
_QUERY_NAMES = frozenset({"key", "token", "api_key", "apikey", "api-key", "x-api-key", "access_token", "authorization"})


class KeyHeaders:
    """Admits requests by the headers `Authorization: Bearer` and `X-Api-Key`."""

    def __init__(self, guard: Guard) -> None:
        """Admit what a guard admits."""
        self._guard = guard

    def is_for(self, _scope: Scope) -> bool:
        """Return True: what no other scheme is for is a request of the own API."""
        return True

    async def admit(self, scope: Scope, receive: Receive, _held: ExitStack) -> tuple[Access, Receive]:
        """Return what a request may do.

        Raises:
            AccessError: The request has no key that permits it; the subclass says why.
            StoreFailed: The file system refused a read.
        """
        headers = Headers(scope=scope)
        _refuse_key_in_query(scope["query_string"])
        return self._guard.admit(_sent_key(headers), _is_from_loopback(scope, headers)), receive

    def refusal(self, error: VultusError, scope: Scope) -> Response:
        """Return the response for a request that is not admitted."""
        return problem_response(error, scope["state"])


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


def _is_from_loopback(scope: Scope, headers: Mapping[str, str]) -> bool:
    """Return whether a program on this machine has sent a request for itself."""
    if any(name in _PROXY_HEADERS or name.startswith(_PROXY_PREFIX) for name in headers):
        return False
    try:
        return ipaddress.ip_address((scope.get("client") or ("",))[0]).is_loopback
    except ValueError:
        return False
