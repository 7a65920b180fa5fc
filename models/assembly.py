"""From a fetched pack to a running pipeline: check, load, warm up."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from models import embedding
from models.alignment import TEMPLATES, align
from models.artefact import CALIBRATION, DETECTOR_GRAPH, Card, DetectorCard, open_artefact, read_card
from models.calibration import Calibration, OperatingPoint, read_calibration
from models.detection import HEADS, AnchorDetector, DetectionOptions, Face, canvases
from models.detection.detector import OUTPUTS as DETECTOR_OUTPUTS
from models.embedding import Embedder
from models.errors import ArtefactUnfit, CalibrationUnfit, EngineError, EngineStopped, ManifestInvalid
from models.imaging import ImageLimits, load_decoders
from models.packs import Manifest, PackStore
from models.packs.build import DETECTOR_DIRECTORY, RECOGNIZER_DIRECTORY
from models.packs.manifest import calibration_file
from models.pipeline import Pipeline
from models.proven import engine_of, proven_runtime, require_parity
from models.quality import Assessment, Gate, QualityScale, assess
from models.runtime import (
    BATCH_BUCKETS,
    BatchedSession,
    Batching,
    RuntimeOptions,
    Session,
    SessionDescription,
    open_session,
)
from models.runtime.loading import TENSORRT_ENGINES
from models.runtime.session import Device
from models.tuning import Subject, Tuning, find_tuning
from models.tuning.graphs import tuning_subject

_WARM_FACES = 8  # larger batches take long enough that their first run does not stand out
_WORKERS = 2  # photos that one caller has prepared side by side


_FACES_AT_ONCE = 8
_PHOTOS_AT_ONCE: dict[Device, int] = {"cpu": 1, "cuda": 16}  # on a CPU a second photo falls out of the cache


class Sharing(NamedTuple):
    """How a service shares engines between its requests.

    Attributes:
        workers: Photos that are prepared side by side.
        wait_s: Longest wait of a run for company.
        largest: Most faces of one run; as tuned if None.
    """

    workers: int
    wait_s: float = 0.002
    largest: int | None = None


class CalibrationPlaces(NamedTuple):
    """Where the user's own calibrations lie.

    Attributes:
        directory: Of all of them, by contract id.
        named: The one to use; it must be of the model that is served.
    """

    directory: Path
    named: Path | None = None


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

    def require_whole(self) -> None:
        """Refuse to go on where a thread that runs an engine is gone.

        Raises:
            EngineStopped: One is.
        """
        if not all(session.whole for session in self.shared):
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
    def calibrated_otherwise(self) -> str | None:
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


def load_models(
    store: PackStore,
    manifest: Manifest,
    runtime: RuntimeOptions | None = None,
    detection: DetectionOptions | None = None,
    limits: ImageLimits | None = None,
    model: Path | None = None,
    calibrations: CalibrationPlaces | None = None,
    sharing: Sharing | None = None,
    tunings: Path | None = None,
) -> Models:
    """Check a pack and load it into an engine. Never downloads.

    Args:
        store: Where packs lie.
        manifest: The pack.
        runtime: How graphs are run.
        detection: How closely photos are looked at.
        limits: What to refuse before decoding.
        model: An exported artefact whose recognizer takes the place of the pack's.
        calibrations: Where the user's own lie; without it those with the artefact and with the program.
        sharing: How runs are shared between requests; without it every caller runs alone.
        tunings: Where lies what was measured on this machine; it is used where `runtime` leaves all to us.

    Raises:
        PackMissing, PackDamaged, ArtefactUnfit: The pack or the artefact cannot be served.
        EngineMissing, EngineConflict, PrecisionUnsupported: The engine cannot be had.
        CalibrationUnfit: The calibration that was named is not of this model.
    """
    runtime, detection = runtime or RuntimeOptions(), detection or DetectionOptions()
    path = _verified(store, manifest)
    directory = model or path / RECOGNIZER_DIRECTORY
    card, proof = open_artefact(directory)
    detector_card = read_card(path / DETECTOR_DIRECTORY, DetectorCard)
    subject = tuning_subject(card, detector_card, detection, runtime.device)
    tuning, untuned_because = _tuning(tunings, runtime, subject)
    try:
        engines = _open_engines(path, directory, card, proof, runtime, detection, tuning)
    except (ArtefactUnfit, EngineError) as error:
        if tuning is None:
            raise
        tuning, untuned_because = None, f"what was tuned cannot be used any more, run vultus tune: {error}"
        engines = _open_engines(path, directory, card, proof, runtime, detection, None)
    embedder_session, detector_session = engines.recognizer, engines.detector
    shared = _share(engines, sharing, tuning, runtime.device) if sharing else ()
    if shared:
        embedder_session, detector_session = shared
    detector = AnchorDetector(detector_session, HEADS[detector_card.family], detection)
    embedder = Embedder(embedder_session, TEMPLATES[card.template])
    _warm_up(detector, embedder, detection)
    contract_id = card.contract_id(detector_card.family)
    calibration, because = _calibration(directory, None if model else manifest.name, contract_id, calibrations)
    return Models(
        pipeline=Pipeline(detector, embedder, limits, sharing.workers if sharing else _WORKERS),
        pack=manifest.name,
        recognizer=card,
        detector=detector_card,
        contract_id=contract_id,
        calibration=calibration,
        uncalibrated_because=because,
        embedder_session=embedder_session.describe(),
        detector_session=detector.session.describe(),
        shared=shared,
        tuning=tuning,
        untuned_because=untuned_because,
    )


def load_detector(store: PackStore, manifest: Manifest, detection: DetectionOptions | None = None) -> AnchorDetector:
    """Load the detector of a pack alone.

    Raises:
        PackMissing, PackDamaged: The pack is not here or not whole.
    """
    detection = detection or DetectionOptions()
    path = _verified(store, manifest)
    card = read_card(path / DETECTOR_DIRECTORY, DetectorCard)
    return AnchorDetector(_open_detector(path, RuntimeOptions(), detection), HEADS[card.family], detection)


def _verified(store: PackStore, manifest: Manifest) -> Path:
    if manifest.kind != "models":
        raise ManifestInvalid(f"the pack {manifest.name} holds {manifest.kind}, not models that could be served")
    return store.verify(manifest)


class _Engines(NamedTuple):
    """Graphs in their engines, and the runs that each makes side by side."""

    recognizer: Session
    recognizer_streams: int
    detector: Session
    detector_streams: int


def _open_engines(
    pack: Path,
    recognizer: Path,
    card: Card,
    proof: dict[str, Any],
    runtime: RuntimeOptions,
    detection: DetectionOptions,
    tuning: Tuning | None,
) -> _Engines:
    """Load both graphs as tuned, else as `runtime` says."""
    wanted = tuning.recognizer.way.options(runtime.engines) if tuning else runtime
    detector_runtime = tuning.detector.way.options(runtime.engines) if tuning else runtime
    embedder_runtime, session = _open_recognizer(recognizer, card, proof, wanted)
    detector = _open_detector(pack, detector_runtime, detection)
    return _Engines(session, embedder_runtime.streams or 1, detector, detector_runtime.streams or 1)


def _share(
    engines: _Engines, sharing: Sharing, tuning: Tuning | None, device: Device
) -> tuple[BatchedSession, BatchedSession]:
    """Share the runs of recognizer and detector."""
    faces = sharing.largest or (tuning.recognizer.largest if tuning else _FACES_AT_ONCE)
    photos = tuning.detector.largest if tuning else _PHOTOS_AT_ONCE[device]
    return (
        BatchedSession(engines.recognizer, Batching(faces, engines.recognizer_streams, sharing.wait_s)),
        BatchedSession(engines.detector, Batching(photos, engines.detector_streams, sharing.wait_s)),
    )


def _open_recognizer(
    directory: Path, card: Card, proof: dict[str, Any], wanted: RuntimeOptions
) -> tuple[RuntimeOptions, Session]:
    graph, runtime = proven_runtime(card, proof, wanted)
    file = engine_of(directory, graph) if runtime.engine == "tensorrt" else directory / graph
    session = open_session(file, embedding.OUTPUTS, ((card.height, card.width),), runtime)
    if runtime.engine in TENSORRT_ENGINES:
        require_parity(session, directory / graph, card)
    return runtime, session


def _open_detector(pack: Path, runtime: RuntimeOptions, detection: DetectionOptions) -> Session:
    if runtime.precision in ("fp16", "int8"):  # of the recognizer; the detector has one graph
        runtime = replace(runtime, precision="auto")
    if runtime.engine in TENSORRT_ENGINES:  # whose engines are made for one size of picture; photos have several
        runtime = replace(runtime, engine="onnxruntime")
    graph = pack / DETECTOR_DIRECTORY / DETECTOR_GRAPH
    return open_session(graph, DETECTOR_OUTPUTS, canvases(detection), runtime, one_by_one=runtime.device == "cpu")


def _tuning(directory: Path | None, wanted: RuntimeOptions, subject: Subject) -> tuple[Tuning | None, str | None]:
    """Find what was measured for this machine and model, unless the user says how to run."""
    if directory is None:
        return None, None
    if wanted != RuntimeOptions(device=wanted.device, engines=wanted.engines):
        return None, "the settings say how to run"
    found = find_tuning(directory, subject)
    return found, None if found else "this model was never tuned on this machine: run vultus tune"


def _warm_up(detector: AnchorDetector, embedder: Embedder, options: DetectionOptions) -> None:
    """Run every size once and load all decoders, so that no request pays for the first time."""
    load_decoders()
    for height, width in canvases(options):
        detector.session.run(np.zeros((1, height, width, 3), np.uint8))
    template = embedder.template
    picture = np.zeros((template.height, template.width, 3), np.uint8)
    for count in (bucket for bucket in BATCH_BUCKETS if bucket <= _WARM_FACES):
        embedder.embed(align(picture, np.array([template.points] * count, np.float32), template))


def own_calibration(directory: Path, contract_id: str) -> Path:
    """Tell where the user's own calibration of a contract lies in the directory of all of them."""
    return directory / f"{contract_id}.json"


def _calibration(
    artefact: Path, pack: str | None, contract_id: str, places: CalibrationPlaces | None
) -> tuple[Calibration | None, str | None]:
    """Read the calibration that was named, else one with the artefact, the user's own, one with the program."""
    if places is not None and places.named is not None:
        return read_calibration(places.named, contract_id), None
    candidates = [artefact / CALIBRATION]
    candidates += [own_calibration(places.directory, contract_id)] if places is not None else []
    with_program = calibration_file(pack) if pack else None
    candidates += [with_program] if with_program else []
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        return None, "this model was never calibrated: run vultus calibrate"
    try:
        return read_calibration(path, contract_id), None
    except CalibrationUnfit as error:
        return None, str(error)
