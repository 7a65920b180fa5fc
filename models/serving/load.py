"""From a fetched pack to a running pipeline: check, load, warm up."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from models.alignment import TEMPLATES, align
from models.artefact.card import DETECTOR_GRAPH, Card, DetectorCard, read_card
from models.artefact.integrity import open_artefact
from models.detection import HEADS, AnchorDetector, DetectionOptions, canvases
from models.detection.detector import DETECTOR_OUTPUTS
from models.embedding import EMBEDDER_OUTPUTS, Embedder
from models.errors import ArtefactUnfit, EngineError, ManifestInvalid
from models.imaging import ImageLimits, load_decoders
from models.packs import Manifest, PackStore
from models.packs.store import DETECTOR_DIRECTORY, RECOGNIZER_DIRECTORY
from models.pipeline import Pipeline
from models.runtime import BATCH_BUCKETS, BatchedSession, Batching, RuntimeOptions, Session, open_session
from models.runtime.loading import TENSORRT_ENGINES
from models.runtime.session import Device
from models.serving.calibrations import CalibrationPlaces, find_calibration
from models.serving.choice import engine_of, proven_runtime, require_parity
from models.serving.models import Models
from models.serving.tuning import Tuning, TuningKey, read_tuning
from models.serving.tuning.graphs import tuning_key

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
    key = tuning_key(card, detector_card, detection, runtime.device)
    tuning, untuned_because = _tuning(tunings, runtime, key)
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
    calibration, because = find_calibration(directory, None if model else manifest.name, contract_id, calibrations)
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
    wanted = tuning.recognizer.choice.options(runtime.engines) if tuning else runtime
    detector_runtime = tuning.detector.choice.options(runtime.engines) if tuning else runtime
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
    session = open_session(file, EMBEDDER_OUTPUTS, ((card.height, card.width),), runtime)
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


def _tuning(directory: Path | None, wanted: RuntimeOptions, key: TuningKey) -> tuple[Tuning | None, str | None]:
    """Find what was measured for this machine and model, unless the user says how to run."""
    if directory is None:
        return None, None
    if wanted != RuntimeOptions(device=wanted.device, engines=wanted.engines):
        return None, "the settings say how to run"
    found = read_tuning(directory, key)
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
