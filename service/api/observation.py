"""Observation of requests, for metrics, the access log and traces."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.deadline import Deadline
from service.api.access import is_public, path_of
from service.api.request_state import ACCESS, DEADLINE, PROBLEM, REQUEST_ID, TRACE
from service.errors import INTERNAL_CODE, RetryLater
from service.metrics.instruments import Metrics
from service.tracing.tracer import RequestTrace, Tracer


@dataclass(frozen=True, slots=True)
class Answered:
    """A request that was answered.

    Attributes:
        request_id: Its id.
        method: Its method.
        route: Template of its path; empty if it matched none.
        status: Status of the response.
        seconds: Time until the response was sent.
        stage_ms: Milliseconds by stage.
        problem: Code of the error, or None.
        key: Id of the key, or None.
        trace: Id of the trace, or None.
    """

    request_id: str
    method: str
    route: str
    status: int
    seconds: float
    stage_ms: Mapping[str, float]
    problem: str | None
    key: str | None
    trace: str | None


Observer = Callable[[Answered], None]

_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
_OTHER_METHOD = "_OTHER"  # of OpenTelemetry's conventions: a client may send any word, and each would be a series
_PROBES = frozenset({"/healthz", "/livez", "/readyz", "/startupz"})  # asked every few seconds
_OK = 200
_INTERNAL = 500
_REFUSALS = frozenset(error.code for error in RetryLater.__subclasses__())

_log = logging.getLogger("vultus.access")


def known_method(method: str) -> str:
    """Return a method of HTTP as it is, and any other word as `_OTHER`."""
    return method if method in _METHODS else _OTHER_METHOD


def count_answer(metrics: Metrics, answered: Answered) -> None:
    """Count an answered request."""
    metrics.observe_request(known_method(answered.method), answered.route, answered.status, answered.seconds)
    metrics.observe_stages(answered.stage_ms)
    if answered.problem in _REFUSALS:
        metrics.count_refusal(answered.problem)


def log_answer(answered: Answered) -> None:
    """Write the access line of an answered request, without anything personal; of a passed probe only for debugging."""
    is_quiet = answered.route in _PROBES and answered.status == _OK
    level = logging.DEBUG if is_quiet else logging.INFO
    if not _log.isEnabledFor(level):
        return
    members = {
        "request_id": answered.request_id,
        "method": answered.method,
        "route": answered.route,
        "status": answered.status,
        "ms": round(answered.seconds * 1000, 2),
        "stages": {stage: round(spent, 2) for stage, spent in answered.stage_ms.items()} or None,
        "problem": answered.problem,
        "key": answered.key,
        "trace_id": answered.trace,
    }
    _log.log(level, "answered", extra=members)


class ObservationMiddleware:
    """ASGI middleware that tells observers of each answered request, and traces it. It does not touch bodies."""

    def __init__(self, app: ASGIApp, observers: Sequence[Observer], tracer: Tracer | None = None) -> None:
        self._app = app
        self._observers = observers
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and observe it unless its client has left before the response began.

        Requests other than probes and those for the pages of the API have a span, which `traceresponse` names.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 0
        trace: RequestTrace | None = None
        if self._tracer is not None and not is_public(path_of(scope)):
            trace = scope["state"][TRACE] = self._tracer.begin(Headers(scope=scope))

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if trace is not None:
                    MutableHeaders(scope=message)["traceresponse"] = trace.response_header
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except Exception:  # the server answers it, outside of all middleware
            status = status or _INTERNAL
            scope["state"].setdefault(PROBLEM, INTERNAL_CODE)
            raise
        finally:
            answered = _answered(scope, status, time.perf_counter() - began)
            for observe in self._observers if status else ():
                observe(answered)
            if trace is not None:
                method = known_method(answered.method)
                trace.end(method, answered.route, scope["scheme"], status, answered.problem, answered.request_id)


def _answered(scope: Scope, status: int, seconds: float) -> Answered:
    state = scope["state"]
    route = scope.get("route")
    deadline: Deadline | None = state.get(DEADLINE)
    access = state.get(ACCESS)
    trace: RequestTrace | None = state.get(TRACE)
    return Answered(
        request_id=state[REQUEST_ID],
        method=scope["method"],
        route=getattr(route, "path", ""),
        status=status,
        seconds=seconds,
        stage_ms={} if deadline is None else deadline.stage_ms,
        problem=state.get(PROBLEM),
        key=access.key.id if access is not None and access.key is not None else None,
        trace=None if trace is None else trace.trace_id,
    )
