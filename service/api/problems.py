"""Errors as `application/problem+json` (RFC 9457): a stable code, a sentence and the request id; no traceback."""

import logging
from collections.abc import MutableMapping, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from models.errors import CancellationError, InferenceFailed, RequestCancelled, VultusError
from service.api.request_id import HEADER
from service.api.request_state import PROBLEM, REQUEST_ID
from service.api.wire.responses import Problem
from service.errors import (
    HTTP_STATUS,
    INTERNAL_CODE,
    AccessError,
    BodyTooSlow,
    DuplicateOfAnother,
    KeyMissing,
    MethodNotAllowed,
    RateExceeded,
    RetryLater,
    RouteUnknown,
    ScopeMissing,
    TooManyAtOnce,
    http_status,
)

MEDIA_TYPE = "application/problem+json"

_KEY_ERRORS = (
    *(error for error in AccessError.__subclasses__() if not error.code.startswith("signature_")),
    RateExceeded,
    TooManyAtOnce,
)
"""Errors of keys of the own API, whose requests are not signed."""

_INTERNAL = 500
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")

_log = logging.getLogger("vultus")


def problem_of(error: VultusError, request_id: str | None = None) -> Problem:
    """Return the problem document of an error."""
    return Problem(
        type=f"urn:vultus:problem:{error.code}",
        title=_title(type(error)),
        status=http_status(error),
        code=error.code,
        detail=_sendable(str(error)),
        part=None if error.part is None else _sendable(error.part),
        request_id=request_id,
        duplicate_of=error.subject if isinstance(error, DuplicateOfAnother) else None,
    )


def assign_parts(outcomes: Sequence[object], images: int) -> None:
    """Set the `part` of each error to the image or embedding that caused it.

    Args:
        outcomes: Outcomes of the images, then of the embeddings, in order. Outcomes that are not errors are skipped.
        images: Number of images.

    Raises:
        VultusError: The only outcome is an error.
    """
    for position, outcome in enumerate(outcomes):
        if isinstance(outcome, VultusError):
            outcome.part = f"images.{position}" if position < images else f"embeddings.{position - images}"
            if len(outcomes) == 1:
                raise outcome


def install_problem_handlers(app: FastAPI) -> None:
    """Answer every error of the application with a problem document."""
    app.add_exception_handler(VultusError, _on_vultus_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(ClientDisconnect, _on_disconnected_client)
    app.add_exception_handler(RequestCancelled, _on_disconnected_client)
    app.add_exception_handler(Exception, _on_unexpected)


def documented_problems(*errors: type[VultusError], needs_key: bool = True) -> dict[int | str, dict[str, Any]]:
    """Describe the error responses of an operation for the OpenAPI document.

    Args:
        errors: Errors of the operation.
        needs_key: Whether the operation needs a key, and so has the errors of keys too.
    """
    by_status: dict[int, list[type[VultusError]]] = {}
    for error in dict.fromkeys((*errors, *(_KEY_ERRORS if needs_key else ()))):
        by_status.setdefault(HTTP_STATUS[error], []).append(error)
    return {
        status: {
            "description": "; ".join(f"`{error.code}`: {_title(error)}" for error in causes),
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status, causes in sorted(by_status.items())
    }


def _sendable(text: str) -> str:
    """Replace unpaired surrogates, which a request may contain and UTF-8 cannot encode."""
    return text.encode("utf-8", "replace").decode()


def _title(error: type[VultusError]) -> str:
    return (error.__doc__ or "").split("\n")[0].rstrip(".")


def problem_response(error: VultusError, state: MutableMapping[str, Any]) -> JSONResponse:
    """Return the response for an error, also outside of the application, where its exception handlers do not apply.

    Args:
        error: The error.
        state: State of the request, in which the code of the error is noted.
    """
    note_error(error, state)
    return _respond(problem_of(error, state[REQUEST_ID]), _headers_of(error))


def note_error(error: VultusError, state: MutableMapping[str, Any]) -> None:
    """Note the code of an error in the state of its request, and log it if the service caused it."""
    state[PROBLEM] = error.code
    if http_status(error) >= _INTERNAL and not isinstance(error, CancellationError):  # an ended request is no failure
        cause = error.__cause__ if isinstance(error, InferenceFailed) else None  # the error of the engine
        _log.error("%s %s: %s", state[REQUEST_ID], type(error).__name__, error, exc_info=cause)


def note_unexpected(error: Exception, state: MutableMapping[str, Any]) -> None:
    """Log an exception that is a fault of the program."""
    _log.error("%s unexpected %s", state[REQUEST_ID], type(error).__name__, exc_info=error)


def _headers_of(error: VultusError) -> dict[str, str]:
    if isinstance(error, RetryLater):
        return {"Retry-After": str(error.retry_after_s)}
    if isinstance(error, BodyTooSlow):  # otherwise the connection stays open for the rest of the body
        return {"Connection": "close"}
    if isinstance(error, ScopeMissing):
        return {"WWW-Authenticate": _challenge("insufficient_scope")}
    if isinstance(error, AccessError) and http_status(error) == HTTP_STATUS[KeyMissing]:
        return {"WWW-Authenticate": _challenge(None if isinstance(error, KeyMissing) else "invalid_token")}
    return {}


def _challenge(fault: str | None) -> str:
    """Return a challenge for a key, with the fault of the one that was sent (RFC 6750, section 3.1)."""
    return 'Bearer realm="vultus"' + (f', error="{fault}"' if fault else "")


def _respond(problem: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    content = problem.model_dump(exclude_none=True)
    headers = {HEADER: problem.request_id or "", **(headers or {})}  # unexpected errors bypass the middleware
    return JSONResponse(content, status_code=problem.status, media_type=MEDIA_TYPE, headers=headers)


async def _on_vultus_error(request: Request, error: Exception) -> JSONResponse:
    return problem_response(error, request.scope["state"])  # type: ignore[arg-type]  # registered for VultusError only


async def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    """Answer a request that the router refuses."""
    status: int = getattr(error, "status_code", 500)
    if status == HTTP_STATUS[RouteUnknown]:
        return _respond(problem_of(RouteUnknown("no resource exists at this path"), request.state.request_id))
    if status == HTTP_STATUS[MethodNotAllowed]:
        allowed = ", ".join(_methods(request))
        refused = MethodNotAllowed(f"this path supports {allowed}, not {request.method}")
        return _respond(problem_of(refused, request.state.request_id), {"Allow": allowed})
    return await _on_unexpected(request, error)


def _methods(request: Request) -> list[str]:
    """Return the methods that the path of a request supports; the router itself names those of one route only."""
    return [
        method
        for method in _METHODS
        if any(
            route.matches({**request.scope, "method": "GET" if method == "HEAD" else method})[0] is Match.FULL
            for route in request.app.routes
        )
    ]


async def _on_disconnected_client(_request: Request, _error: Exception) -> Response:
    """Return an empty response, which no client reads; a disconnected client is not an error of the service."""
    return Response(status_code=400)


async def _on_unexpected(request: Request, error: Exception) -> JSONResponse:
    note_unexpected(error, request.scope["state"])
    return _respond(
        Problem(
            type=f"urn:vultus:problem:{INTERNAL_CODE}",
            title="An internal error occurred",
            status=500,
            code=INTERNAL_CODE,
            detail="an internal error occurred; the log contains the cause under this request id",
            part=None,
            request_id=request.state.request_id,
        )
    )
