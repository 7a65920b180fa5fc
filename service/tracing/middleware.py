"""ASGI middleware that traces requests, except probes and the pages of the API."""

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.access import PUBLIC_PATHS, path_of
from service.api.observation import INTERNAL_STATUS, known_method
from service.api.request_state import PROBLEM, REQUEST_ID, TRACE
from service.errors import INTERNAL_CODE
from service.tracing.tracer import Tracer


class TracingMiddleware:
    """Begins the span of a request and ends it after the answer. It does not touch bodies."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request in a span of its own, and name the span in the header `traceresponse`."""
        if scope["type"] != "http" or path_of(scope) in PUBLIC_PATHS:
            await self._app(scope, receive, send)
            return
        trace = self._tracer.begin(Headers(scope=scope))
        scope["state"][TRACE] = trace
        status = 0

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["traceresponse"] = trace.response_header
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except Exception:  # the server answers it, outside of all middleware
            status = status or INTERNAL_STATUS
            scope["state"].setdefault(PROBLEM, INTERNAL_CODE)
            raise
        finally:
            state, method = scope["state"], known_method(scope["method"])
            route = getattr(scope.get("route"), "path", "")
            trace.end(method, route, scope["scheme"], status, state.get(PROBLEM), state[REQUEST_ID])
