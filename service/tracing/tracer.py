"""The tracer: spans of requests, of their stages and of runs of engines, sent to an OTLP receiver.

Names of attributes follow the semantic conventions of OpenTelemetry for HTTP spans. No attribute holds a path, a name
of a gallery or subject, or an address.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from models.deadline import Deadline, StageObserver
from models.extras import require_extra
from models.runtime import SessionDescription
from models.runtime.batching import RunObserver
from models.serving.load import Role
from service.settings import TraceSettings
from service.version import VERSION

if TYPE_CHECKING:  # the extra `tracing`, which is imported only if traces are on
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

_CLOSE_S = 3.0
_SHARED = 2  # requests
_SHORTEST_MS = 0.5  # of a stage that has a span: a span takes 0.1 ms
_NS = 1_000_000_000
_SERVER_ERROR = 500
_UNNAMED = "request"  # until its route is known


class Tracer:
    """Makes spans and sends them in the background. Thread-safe."""

    def __init__(self, settings: TraceSettings, exporter: "SpanExporter | None" = None) -> None:
        """Begin.

        Args:
            settings: Where spans go, and the share of requests that have some.
            exporter: Receives the spans; None sends them to the address in the settings.

        Raises:
            ExtraMissing: The packages of OpenTelemetry are not installed.
        """
        require_extra("tracing")
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBasedTraceIdRatio
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        described = Resource.create().merge(Resource({"service.name": "vultus", "service.version": VERSION}))
        resource = described.merge(OTELResourceDetector().detect())  # the variables of OpenTelemetry win
        processor = BatchSpanProcessor(exporter or OTLPSpanExporter(endpoint=settings.endpoint))
        self._provider = TracerProvider(ParentBasedTraceIdRatio(settings.share), resource)
        runs = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False)  # of requests that are traced
        for provider in (self._provider, runs):
            provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("vultus", VERSION)
        self._runs = runs.get_tracer("vultus", VERSION)
        self._propagator = TraceContextTextMapPropagator()

    def close(self) -> None:
        """Send what is left, within some seconds; a receiver that hangs does not keep the service from ending."""
        closing = threading.Thread(target=self._provider.shutdown, name="close-traces", daemon=True)
        closing.start()
        closing.join(_CLOSE_S)

    def begin(self, headers: Mapping[str, str]) -> "RequestTrace":
        """Begin the span of a request, in the trace that its W3C headers name.

        Args:
            headers: Headers of the request by their names in lower case.
        """
        from opentelemetry.trace import SpanKind, set_span_in_context

        parent = self._propagator.extract(headers)
        span = self._tracer.start_span(_UNNAMED, context=parent, kind=SpanKind.SERVER)
        return RequestTrace(self, span, set_span_in_context(span))

    def span(self, name: str, context: "Context", seconds: float) -> None:
        """Record a span that has just ended."""
        end = time.time_ns()
        self._tracer.start_span(name, context=context, start_time=end - int(seconds * _NS)).end(end)

    def run_observer(self, role: Role, session: SessionDescription) -> RunObserver:
        """Return what a batched session calls after each run.

        It records a run that several requests share as a trace of its own, with a link to each of them. The run of one
        request is what the stage of this request says.
        """
        from opentelemetry.context import Context
        from opentelemetry.trace import Link

        described = {"vultus.model": role, "vultus.engine": session.engine, "vultus.precision": session.precision}

        def observe(images: int, seconds: float, deadlines: Sequence[Deadline | None]) -> None:
            requests = [deadline for deadline in dict.fromkeys(deadlines) if deadline is not None]
            observers = [request.observer for request in requests]
            traces = [each for each in observers if isinstance(each, RequestTrace) and each.is_sampled]
            if len(requests) < _SHARED or not traces:
                return
            end = time.time_ns()
            span = self._runs.start_span(
                f"run {role}",
                context=Context(),
                links=[Link(trace.span.get_span_context()) for trace in traces],
                start_time=end - int(seconds * _NS),
                attributes={**described, "vultus.batch_size": images, "vultus.requests": len(requests)},
            )
            span.end(end)

        return observe


class RequestTrace(StageObserver):
    """The span of one request, and of its stages."""

    def __init__(self, tracer: Tracer, span: "Span", context: "Context") -> None:
        """Take the span of a request and the context of what belongs to it."""
        self._tracer = tracer
        self.span = span
        self.context = context

    @property
    def is_sampled(self) -> bool:
        """Whether the spans of the request are recorded."""
        return self.span.is_recording()

    @property
    def trace_id(self) -> str:
        """Id of the trace, in hexadecimal, as log lines have it."""
        return format(self.span.get_span_context().trace_id, "032x")

    @property
    def response_header(self) -> str:
        """Value of the header `traceresponse` of W3C Trace Context."""
        context = self.span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"

    def stage(self, name: str, milliseconds: float) -> None:
        """See `StageObserver.stage`."""
        if milliseconds >= _SHORTEST_MS and self.is_sampled:
            self._tracer.span(name, self.context, milliseconds / 1000)

    def end(self, method: str, route: str, scheme: str, status: int, problem: str | None, request_id: str) -> None:
        """End the span of the request.

        Args:
            method: Method of the request; `_OTHER` for one that HTTP does not know.
            route: Template of its path; empty if it matched none.
            scheme: `http` or `https`.
            status: Status of the response; 0 if the client left before.
            problem: Code of the error with which it was answered.
            request_id: Id of the request.
        """
        from opentelemetry.trace import StatusCode

        self.span.update_name(f"{method} {route}".rstrip())
        self.span.set_attributes({"http.request.method": method, "url.scheme": scheme, "vultus.request_id": request_id})
        if route:
            self.span.set_attributes({"http.route": route, "url.path": route})
        if status:
            self.span.set_attribute("http.response.status_code", status)
        if problem is not None or status >= _SERVER_ERROR:
            self.span.set_attribute("error.type", problem or str(status))
        if status >= _SERVER_ERROR:
            self.span.set_status(StatusCode.ERROR)
        self.span.end()
