"""Gauges that are read when Prometheus asks: what the service holds and waits for at this moment."""

import platform
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from models.calibration import Calibration
from models.serving.models import Models
from service.api.admission import Admission
from service.audit.log import AuditLog
from service.gallery.galleries import Galleries
from service.version import VERSION


@dataclass(frozen=True, slots=True, eq=False)
class ServiceState(Collector):
    """The parts of a service whose state is shown.

    Attributes:
        models: Returns the models that serve now.
        galleries: The open galleries.
        admission: Admission of requests.
        workers: Number of requests that compute at the same time.
        audit: The audit log, or None.
    """

    models: Callable[[], Models]
    galleries: Galleries
    admission: Admission
    workers: int
    audit: AuditLog | None

    def describe(self) -> Iterable[Metric]:
        """Describe nothing, so that registering the collector reads nothing."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Read the state."""
        yield InfoMetricFamily(
            "vultus_build", "The program.", value={"version": VERSION, "python": platform.python_version()}
        )
        yield from self._of_models()
        yield from self._of_admission()
        yield from self._of_galleries()
        if self.audit is not None:
            lag = "Seconds for which the oldest record of the audit log is not safe from a loss of power."
            yield GaugeMetricFamily("vultus_audit_lag_seconds", lag, self.audit.lag_s)
            stopped = "1 if the audit log cannot be written, so that acts are refused."
            yield GaugeMetricFamily("vultus_audit_stopped", stopped, float(self.audit.is_stopped))

    def _of_models(self) -> Iterator[Metric]:
        models = self.models()
        described = InfoMetricFamily("vultus_model", "The models that serve.", labels=("model",))
        for role, name, session in (
            ("recognizer", models.recognizer.name, models.embedder_session),
            ("detector", models.detector.family, models.detector_session),
        ):
            described.add_metric(
                (role,),
                {
                    "name": name,
                    "engine": session.engine,
                    "engine_version": session.version,
                    "precision": session.precision,
                    "provider": session.provider,
                    "contract_id": models.contract_id if role == "recognizer" else "",
                },
            )
        yield described
        thresholds = GaugeMetricFamily(
            "vultus_threshold", "Threshold of each measured operating point.", labels=("operating_point",)
        )
        for point in models.calibration.points if models.calibration else ():
            thresholds.add_metric((point.name,), point.threshold)
        yield thresholds
        if models.calibration:
            share = "Largest share of mated or non-mated pairs of the calibration between its thresholds."
            yield GaugeMetricFamily("vultus_calibrated_share_between_thresholds", share, _between(models.calibration))

    def _of_admission(self) -> Iterator[Metric]:
        inside = self.admission.inside
        yield GaugeMetricFamily("vultus_admission_places", "Requests that may be admitted.", self.admission.places)
        yield GaugeMetricFamily("vultus_requests_admitted", "Requests that compute or wait to compute.", inside)
        waiting = max(0, inside - self.workers)
        yield GaugeMetricFamily("vultus_queue_length", "Admitted requests that wait to compute.", waiting)

    def _of_galleries(self) -> Iterator[Metric]:
        state = self.galleries.index_state()
        templates = GaugeMetricFamily("vultus_templates", "Templates in indices, by kind of index.", labels=("index",))
        size = GaugeMetricFamily("vultus_index_bytes", "Memory of vectors in indices, by kind.", labels=("index",))
        for kind, count in state.templates.items():
            templates.add_metric((kind,), count)
            size.add_metric((kind,), state.bytes[kind])
        yield templates
        yield size
        yield GaugeMetricFamily("vultus_galleries", "Galleries.", state.galleries)
        building = "Galleries whose index is not built; searches of them scan the store."
        yield GaugeMetricFamily("vultus_indices_missing", building, state.missing)
        yield CounterMetricFamily("vultus_index_builds", "Builds of indices since the start.", state.builds)
        if state.oldest_snapshot is not None:
            age = "Age of the oldest snapshot of an index."
            yield GaugeMetricFamily("vultus_snapshot_age_seconds", age, max(0.0, time.time() - state.oldest_snapshot))
        free = "Free bytes on the disk of the galleries."
        yield GaugeMetricFamily("vultus_disk_free_bytes", free, shutil.disk_usage(self.galleries.directory).free)


def _between(calibration: Calibration) -> float:
    """Return the largest share of mated, or of non-mated, pairs between the lowest and the highest threshold.

    Whatever part of the comparisons is mated, no larger share of them is expected there.
    """
    points = sorted(calibration.points, key=lambda point: point.threshold)
    lowest, highest = points[0], points[-1]
    return max(lowest.rate - highest.rate, highest.fnmr - lowest.fnmr)
