"""The served models: pipeline, cards, calibration, tuning and engine sessions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from models.artefact.card import Card, DetectorCard
from models.calibration import Calibration, OperatingPoint, closest, differences
from models.detection import Face
from models.errors import CalibrationUnfit, EngineStopped
from models.packs.manifest import NOT_STATED
from models.pipeline import Pipeline
from models.quality import Assessment, Gate, QualityScale, assess
from models.runtime import BatchedSession, SessionDescription
from models.runtime.batching import RunProgress
from models.serving.tuning import Tuning
from models.serving.warmup import DetectorWarmUp

_SHOWN_DIGITS = 12  # of the SHA-256 of weights among the conditions of a measurement


@dataclass(frozen=True, slots=True)
class Models:
    """The models of a service, loaded and warmed up.

    Attributes:
        pipeline: Warmed-up pipeline of detector and recognizer.
        pack: Name of the pack that is configured.
        recognizer_pack: Name of the pack of the recognizer; None for an exported artefact.
        detector_pack: Name of the pack of the detector.
        recognizer, detector: Cards of the two models.
        recognizer_training_data, detector_training_data: Faces on which the models were trained, by the manifest of the
            pack. An exported artefact does not state it.
        contract_id: Embedding contract of the pipeline's embeddings.
        calibration: Calibration of this contract, or None.
        uncalibrated_because: Reason why `calibration` is None, else None.
        embedder_session, detector_session: Actual configuration of the two sessions.
        shared: Batched sessions of recognizer and detector, if requests share runs; else empty.
        tuning: Tuning of this machine in use, or None.
        untuned_because: Reason why `tuning` is None, if it was looked for.
        warm_up: Warm-up of the detector that may still run, or None.
        proof: Content of the recognizer's `parity.json`; empty for models without files.
        proof_row: Precision and engine of the row of the proof that allows what runs, or None.
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
    warm_up: DetectorWarmUp | None = None
    recognizer_pack: str | None = None
    detector_pack: str | None = None
    recognizer_training_data: str = NOT_STATED
    detector_training_data: str = NOT_STATED
    proof: Mapping[str, Any] = field(default_factory=dict)
    proof_row: tuple[str, str] | None = None

    def progress(self) -> tuple[RunProgress, ...]:
        """Return the progress of recognizer and detector, if requests share runs."""
        return tuple(session.progress() for session in self.shared)

    def moved_since(self, earlier: tuple[RunProgress, ...]) -> bool:
        """Return whether each session that has work has ended a run since an earlier `progress`.

        Without shared runs nothing is known, and the result is False.
        """
        return bool(earlier) and all(
            now.completed_runs > before.completed_runs or not now.busy
            for before, now in zip(earlier, self.progress(), strict=True)
        )

    def require_alive(self) -> None:
        """Raise an error unless every worker of the engines is alive.

        Raises:
            EngineStopped: A worker has ended.
        """
        if not all(session.alive for session in self.shared):
            raise EngineStopped("a worker of an engine has ended; restart the service")

    def close(self) -> None:
        """Finish the accepted work and end the workers of the pipeline and of the engines."""
        if self.warm_up is not None:
            self.warm_up.stop()
        self.pipeline.close()  # first, because its accepted work runs on the engines
        for session in self.shared:
            session.close()

    @property
    def quality(self) -> QualityScale | None:
        """Calibrated mapping from norm to quality, else the unvalidated mapping of the checkpoint, else None."""
        if self.calibration is not None:
            return self.calibration.quality
        statistics = self.recognizer.single_view_statistics
        return QualityScale.of_checkpoint(statistics, str(self.uncalibrated_because)) if statistics else None

    @property
    def calibration_mismatch(self) -> str | None:
        """Return how the calibration's conditions differ from what runs, or None."""
        if self.calibration is None:
            return None
        found = differences(self.calibration, self.running)
        if found:
            return f"the calibration was measured with {'; '.join(found.values())}"
        if self.detector_pack not in (None, self.pack) and "detector_weights" not in self.calibration.conditions:
            return f"the calibration does not state its detector, now that of the pack {self.detector_pack}"
        return None

    def calibrated(self, calibrations: Sequence[Calibration], uncalibrated_because: str | None) -> "Models":
        """Return these models with the calibration whose conditions differ least from what runs.

        Args:
            calibrations: Calibrations of this contract, each measured under other conditions; may be empty.
            uncalibrated_because: Reason why there is none.
        """
        calibration = closest(calibrations, self.running) if calibrations else None
        return replace(self, calibration=calibration, uncalibrated_because=uncalibrated_because)

    @property
    def running(self) -> dict[str, Any]:
        """The actual configuration, with the keys of a calibration's conditions."""
        recognizer, detector = self.embedder_session, self.detector_session
        return {
            "engine": recognizer.engine,
            "engine_version": recognizer.version,
            "precision": recognizer.precision,
            "detector": self.detector.family,
            "detector_weights": self.detector.weights[:_SHOWN_DIGITS],
            "detector_precision": detector.precision,
            "detector_max_side_px": self.pipeline.detector.max_side_px,
        }

    def assess(
        self, face: Face, size: tuple[int, int], norm: float | None = None, min_quality: float = 0.0
    ) -> Assessment:
        """Assess a face in a photo of `size` (width, height) in pixels; see `models.quality.assess`."""
        return assess(face, size, self.pipeline.template, self.quality, norm, min_quality)

    def require_gate(self, gate: Gate) -> None:
        """Raise an error if a gate depends on something that was not measured for this model.

        Raises:
            CalibrationUnfit: The gate depends on a calibration, and the model is not calibrated.
            QualityUnvalidated: The gate has a minimum quality, and this model's quality scale is not validated.
        """
        gate.require_usable(self.quality, self.uncalibrated_because)

    def operating_point(self, wanted: str | float | None) -> OperatingPoint | None:
        """Return an operating point by name or rate, or the default one.

        Args:
            wanted: Name or rate of the operating point; None selects the default.

        Returns:
            The operating point; None if the model is not calibrated and `wanted` is None.

        Raises:
            OperatingPointUnknown: The calibration does not contain the operating point.
            CalibrationUnfit: An operating point is requested, and the model is not calibrated.
        """
        if self.calibration is not None:
            return self.calibration.point(wanted)
        if wanted is not None:
            raise CalibrationUnfit(f"no operating point is available: {self.uncalibrated_because}")
        return None
