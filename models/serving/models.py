"""What is served: the pipeline with its models, their calibration and their engines."""

from dataclasses import dataclass
from typing import Any

from models.artefact.card import Card, DetectorCard
from models.calibration import Calibration, OperatingPoint
from models.detection import Face
from models.errors import CalibrationUnfit, EngineStopped
from models.pipeline import Pipeline
from models.quality import Assessment, Gate, QualityScale, assess
from models.runtime import BatchedSession, SessionDescription
from models.serving.tuning import Tuning


@dataclass(frozen=True, slots=True)
class Models:
    """What is served.

    Attributes:
        pipeline: Ready to run, warmed up.
        pack: Name of the pack.
        recognizer, detector: Their cards.
        contract_id: Of the embeddings that the pipeline gives.
        calibration: Operating points, or None.
        uncalibrated_because: Why there are none.
        embedder_session, detector_session: What really runs.
        shared: Recognizer and detector, where their runs are shared between requests.
        tuning: What was measured on this machine and is used, or None.
        untuned_because: Why there is none.
    """

    pipeline: Pipeline
    pack: str
    recognizer: Card
    detector: DetectorCard
    contract_id: str
    calibration: Calibration | None
    uncalibrated_because: str | None
    embedder_session: SessionDescription
    detector_session: SessionDescription
    shared: tuple[BatchedSession, ...] = ()
    tuning: Tuning | None = None
    untuned_because: str | None = None

    def require_alive(self) -> None:
        """Refuse to go on where a thread that runs an engine is gone.

        Raises:
            EngineStopped: One is.
        """
        if not all(session.alive for session in self.shared):
            raise EngineStopped("a thread that ran an engine is gone; restart the service")

    def close(self) -> None:
        """Finish what was taken and end the threads that run the engines."""
        for session in self.shared:
            session.close()

    @property
    def quality(self) -> QualityScale | None:
        """How norms become quality: as calibrated, else by the checkpoint's own statistics, never validated."""
        if self.calibration is not None:
            return self.calibration.quality
        statistics = self.recognizer.single_view_statistics
        return QualityScale.of_checkpoint(statistics, str(self.uncalibrated_because)) if statistics else None

    @property
    def calibration_mismatch(self) -> str | None:
        """Say in what the calibration was measured otherwise than it is served; None if in nothing."""
        if self.calibration is None:
            return None
        measured = self.calibration.conditions
        differ = [
            f"{name} {measured[name]}, now {value}"
            for name, value in self.running.items()
            if name != "engine_version" and measured.get(name, value) != value
        ]
        return f"the calibration was measured with {'; '.join(differ)}" if differ else None

    @property
    def running(self) -> dict[str, Any]:
        """What really runs, in the words of a calibration's conditions."""
        recognizer, detector = self.embedder_session, self.detector_session
        return {
            "engine": recognizer.engine,
            "engine_version": recognizer.version,
            "precision": recognizer.precision,
            "detector": self.detector.family,
            "detector_precision": detector.precision,
            "detector_max_side_px": self.pipeline.detector.max_side_px,
        }

    def assess(
        self, face: Face, size: tuple[int, int], norm: float | None = None, min_quality: float = 0.0
    ) -> Assessment:
        """Judge a face of a photo of `size` (width, height); see `models.quality.assess`."""
        return assess(face, size, self.pipeline.template, self.quality, norm, min_quality)

    def require_gate(self, gate: Gate) -> None:
        """Refuse a gate by what was not measured.

        Raises:
            CalibrationUnfit, QualityUnvalidated: It cannot be used with this model.
        """
        gate.require_usable(self.quality, self.uncalibrated_because)

    def operating_point(self, wanted: str | float | None) -> OperatingPoint | None:
        """Find the operating point that is wanted, or the default one; None if there is none and none is wanted.

        Raises:
            OperatingPointUnknown: It was not measured.
            CalibrationUnfit: One is wanted, and this model has none.
        """
        if self.calibration is not None:
            return self.calibration.point(wanted)
        if wanted is not None:
            raise CalibrationUnfit(f"no operating point can be used: {self.uncalibrated_because}")
        return None
