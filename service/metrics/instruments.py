"""The instruments that requests and engine runs write to.

Names and units follow Prometheus (https://prometheus.io/docs/practices/naming/); those of HTTP requests follow the
semantic conventions of OpenTelemetry for HTTP metrics, with their buckets. No label holds a name of a gallery or
subject, a path or the id of a key, so the number of series is bounded by the routes, models and operating points.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics

from models.calibration import Calibration
from models.deadline import Deadline
from models.quality import Assessment
from models.runtime import SessionDescription
from models.runtime.batching import RunObserver
from models.serving.load import Role
from service.audit.records import Action, Event

_HTTP_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
_DURATION_BUCKETS = tuple(0.0005 * 1.5**exponent for exponent in range(24))  # 0.5 ms to 5.6 s
_BATCH_BUCKETS = tuple(2**exponent for exponent in range(8))
_SIMILARITY_BUCKETS = tuple(round(-0.2 + 0.05 * step, 2) for step in range(25))
_QUALITY_BUCKETS = tuple(range(10, 101, 10))
_NO_POINT = "none"

disable_created_metrics()  # type: ignore[no-untyped-call]  # the times at which series began double their number
_OF_TEMPLATES: frozenset[Action] = frozenset(
    {
        "enrol",
        "import",
        "export",
        "erase_gallery",
        "erase_subject",
        "erase_template",
        "expire_subject",
        "expire_template",
    }
)


class Metrics:
    """The instruments of a service. Thread-safe."""

    def __init__(self) -> None:
        """Make the instruments, in a registry of their own."""
        self.registry = CollectorRegistry()
        self._requests = Histogram(
            "http_server_request_duration_seconds",
            "Duration of HTTP requests.",
            ("http_request_method", "http_route", "http_response_status_code"),
            buckets=_HTTP_BUCKETS,
            registry=self.registry,
        )
        self._stages = Histogram(
            "vultus_stage_duration_seconds",
            "Time that a request spent in a stage, over all of its photos; `queue` is the wait for a run of an engine.",
            ("stage",),
            buckets=_DURATION_BUCKETS,
            registry=self.registry,
        )
        self._inference = Histogram(
            "vultus_inference_duration_seconds",
            "Duration of a run of an engine, for one batch.",
            ("model", "engine", "precision"),
            buckets=_DURATION_BUCKETS,
            registry=self.registry,
        )
        self._batches = Histogram(
            "vultus_inference_batch_size",
            "Number of images of a run of an engine.",
            ("model",),
            buckets=_BATCH_BUCKETS,
            registry=self.registry,
        )
        self._refused = Counter(
            "vultus_requests_refused",
            "Requests that were refused because of a limit or of overload, by code of the error.",
            ("code",),
            registry=self.registry,
        )
        self._faces = Counter("vultus_faces_embedded", "Faces that were embedded.", registry=self.registry)
        self._comparisons = Counter(
            "vultus_comparisons",
            "Comparisons of faces with templates, or with subjects if their templates are fused.",
            ("action",),
            registry=self.registry,
        )
        self._decisions = Counter(
            "vultus_decisions",
            "Decisions of verifications and identifications.",
            ("action", "operating_point", "decision"),
            registry=self.registry,
        )
        self._similarities = Histogram(
            "vultus_similarity",
            "Similarity of a verification, or of the best candidate of an identification.",
            ("action",),
            buckets=_SIMILARITY_BUCKETS,
            registry=self.registry,
        )
        self._verified = Counter(
            "vultus_verifications", "Verifications with a calibrated model.", registry=self.registry
        )
        self._between = Counter(
            "vultus_verifications_between_thresholds",
            "Verifications with a similarity between the lowest and the highest measured threshold.",
            registry=self.registry,
        )
        self._thresholds: tuple[float, float] | None = None
        self._quality = Histogram(
            "vultus_face_quality",
            "Quality of faces that were compared or enrolled, 0 to 100.",
            buckets=_QUALITY_BUCKETS,
            registry=self.registry,
        )
        self._templates = Counter(
            "vultus_templates_changed",
            "Templates that were enrolled, imported, exported, erased, or erased by expiry, by action.",
            ("action",),
            registry=self.registry,
        )

    def observe_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an HTTP request.

        Args:
            method: Its method.
            route: Template of its path; empty if it matched none.
            status: Status of the response.
            seconds: Time until the response was sent.
        """
        self._requests.labels(method, route, status).observe(seconds)

    def observe_stages(self, stage_ms: Mapping[str, float]) -> None:
        """Count the milliseconds of each stage of a request."""
        for stage, milliseconds in stage_ms.items():
            self._stages.labels(stage).observe(milliseconds / 1000)

    def run_observer(self, role: Role, session: SessionDescription) -> RunObserver:
        """Return what a batched session calls after each run."""
        duration = self._inference.labels(role, session.engine, session.precision)
        batch = self._batches.labels(role)

        def observe(images: int, seconds: float, _: Sequence[Deadline | None]) -> None:
            duration.observe(seconds)
            batch.observe(images)
            if role == "recognizer":
                self._faces.inc(images)

        return observe

    def count_refusal(self, code: str) -> None:
        """Count a request that was refused because of a limit or of overload."""
        self._refused.labels(code).inc()

    def count_events(self, events: Sequence[Event]) -> None:
        """Count what requests and expiry did."""
        for event in events:
            for outcome in event.outcomes:
                point = event.operating_point or _NO_POINT
                self._decisions.labels(event.action, point, outcome.decision or _NO_POINT).inc()
                if outcome.similarity is not None:
                    self._similarities.labels(event.action).observe(outcome.similarity)
                    if event.action == "verify":
                        self._count_verification(outcome.similarity)
            if event.count is not None and event.action in _OF_TEMPLATES:
                self._templates.labels(event.action).inc(event.count)

    def expect_similarities(self, calibration: Calibration | None) -> None:
        """Compare similarities from now on with those of a calibration; with nothing if it is None."""
        thresholds = [point.threshold for point in calibration.points] if calibration else []
        self._thresholds = (min(thresholds), max(thresholds)) if thresholds else None

    def _count_verification(self, similarity: float) -> None:
        if self._thresholds is not None:
            lowest, highest = self._thresholds
            self._verified.inc()
            self._between.inc(lowest <= similarity < highest)

    def count_comparisons(self, action: Literal["verify", "identify"], comparisons: int) -> None:
        """Count comparisons."""
        self._comparisons.labels(action).inc(comparisons)

    def observe_quality(self, assessments: Iterable[Assessment | None]) -> None:
        """Count the qualities of assessed faces; None, and a face of unknown quality, is ignored."""
        for assessment in assessments:
            if assessment is not None and assessment.quality is not None:
                self._quality.observe(assessment.quality)
