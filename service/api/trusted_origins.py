"""Refuse requests of web pages that do not belong to this service.

A page of another site can make the browser of a user send requests to a service on the user's own machine or network. A
page whose name the attacker's name server points at this machine (DNS rebinding) is even of the same origin for the
browser; only the header `Host` reveals it. Programs send no `Origin`, so they are not affected.
"""

import ipaddress
import re
from collections.abc import Callable, Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.problems import problem_response
from service.errors import HostUntrusted, HttpMalformed, OriginRefused, RequestError

ANY = "*"
_LOOPBACK_NAMES = ("localhost", "*.localhost")  # RFC 6761, section 6.3: no name server can point them elsewhere
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS", "TRACE")  # RFC 9110, section 9.2.1
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_AUTHORITY = re.compile(r"(?:https?://)?(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::([0-9]{1,5}))?", re.IGNORECASE)
_SAME_SITE = ("same-origin", "none")  # `none`: typed by the user


class TrustedOriginsMiddleware:
    """ASGI middleware that checks `Host` in all requests and `Origin` in requests that may change something."""

    def __init__(
        self,
        app: ASGIApp,
        hosts: Sequence[str],
        origins: Sequence[str],
        needs_key: Sequence[Callable[[Scope], bool]] = (),
    ) -> None:
        """Accept loopback names, IP addresses and the given names.

        Args:
            app: The application.
            hosts: Names in `Host` that are trusted; `*.example.org` stands for all names below it, `*` for all names.
            origins: Origins of other sites whose pages may send requests, such as `https://example.org`; `*` for all.
            needs_key: Return whether a request is one that is refused without a key even on a service that is open. Its
                host may have any name, because a page that was led here by a name server has no key.
        """
        self._app = app
        self._hosts = tuple(name.lower().rstrip(".") for name in (*_LOOPBACK_NAMES, *hosts))
        self._needs_key = tuple(needs_key)
        self._origins = tuple(origin.lower().rstrip("/") for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        error = self._refusal(scope) if scope["type"] == "http" else None
        if error is None:
            await self._app(scope, receive, send)
            return
        await problem_response(error, scope["state"])(scope, receive, send)

    def _refusal(self, scope: Scope) -> RequestError | None:
        headers = Headers(scope=scope)
        if len(headers.getlist("host")) > 1:  # RFC 9112, section 3.2: a proxy may have checked the other one
            return HttpMalformed("the request has several headers `Host`")
        host = headers.get("host", "")  # HTTP/1.0 needs none, and every browser sends one
        any_host = any(is_for(scope) for is_for in self._needs_key)
        if host and not any_host and not self._trusts(_authority(host)[0]):
            return HostUntrusted(
                f"the host {host[:100]!r} is not trusted; add its name to VULTUS_HTTP__TRUSTED_HOSTS"
                " if it is a name of this service"
            )
        if scope["method"] in _SAFE_METHODS:
            return None
        origin = headers.get("origin")
        foreign = headers.get("sec-fetch-site", "none") not in _SAME_SITE if origin is None else True
        if foreign and not self._allows(origin, host):
            return OriginRefused(
                f"requests of pages of {(origin or 'another site')[:100]!r} are refused; "
                "add the origin to VULTUS_HTTP__CORS_ORIGINS if its pages may use this service"
            )
        return None

    def _trusts(self, name: str) -> bool:
        if ANY in self._hosts or _is_address(name):  # a name server cannot point an address elsewhere
            return True
        return any(
            name == trusted or (trusted.startswith("*.") and name.endswith(trusted[1:])) for trusted in self._hosts
        )

    def _allows(self, origin: str | None, host: str) -> bool:
        if ANY in self._origins:
            return True
        if origin is None:
            return False
        return origin.lower() in self._origins or _is_same(origin, host)


def _is_same(origin: str, host: str) -> bool:
    """Return whether an origin is that of a host; a host without port may be one of HTTP or, behind a proxy, HTTPS."""
    name, port = _authority(origin)
    own_name, own_port = _authority(host)
    scheme = origin.partition(":")[0].lower()
    port = port or _DEFAULT_PORTS.get(scheme)
    return (
        name != "" and name == own_name and (port in _DEFAULT_PORTS.values() if own_port is None else port == own_port)
    )


def _authority(text: str) -> tuple[str, str | None]:
    """Return the name in lower case and the port, if any, of a `Host` or `Origin`; an empty name if it is malformed."""
    parts = _AUTHORITY.fullmatch(text)
    if parts is None:
        return "", None
    return parts[1].lower().strip("[]").rstrip("."), parts[2]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
