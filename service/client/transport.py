"""Attempts as requests of httpx, and its errors as failures."""

import ssl
from typing import Any

import httpx2

from service.client.address import Address
from service.client.steps import Attempt, Failure
from service.version import VERSION

ERRORS = (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL)
"""The errors of httpx."""

_UNSENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
_PHOTO = "application/octet-stream"  # the service recognises the format by the bytes
_MAX_LIMIT_MS = 10**9 - 1  # the most that the service reads


def client_options(address: Address, tls: ssl.SSLContext | None, trust_env: bool) -> dict[str, Any]:
    """Return the arguments of a client of httpx."""
    headers = {"User-Agent": f"vultus-client/{VERSION}"}
    if address.key is not None:
        headers["Authorization"] = f"Bearer {address.key}"
    verify: ssl.SSLContext | bool = True if tls is None else tls
    # A redirect is not followed: it would carry photos of people to another address.
    return {
        "base_url": address.url,
        "headers": headers,
        "verify": verify,
        "trust_env": trust_env,
        "follow_redirects": False,
    }


def request_arguments(attempt: Attempt) -> dict[str, Any]:
    """Return the arguments of `build_request`."""
    call = attempt.call
    limit_ms = min(_MAX_LIMIT_MS, max(1, int(attempt.left_s * 1000)))
    arguments: dict[str, Any] = {
        "method": call.method,
        "url": call.path,
        "params": call.query,
        "headers": {"Accept": call.accept, "X-Request-Timeout-Ms": str(limit_ms)},
        "timeout": attempt.left_s,
    }
    if call.parts:
        arguments["files"] = [
            (part.name, (part.name, part.content, _PHOTO) if part.is_file else (None, part.content))
            for part in call.parts
        ]
    elif call.content is not None:
        arguments["content"] = call.content
        arguments["headers"]["Content-Type"] = call.media_type
    return arguments


def failure_of(error: Exception) -> Failure:
    """Return the failure of an error of httpx."""
    return Failure(f"{type(error).__name__}: {error}".rstrip(": "), isinstance(error, _UNSENT))


def time_ran_out() -> Failure:
    """Return the failure of a response that did not end in time."""
    return Failure("the response did not end within the time limit")
