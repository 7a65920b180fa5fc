"""Load a fetched pack into a running pipeline: verify, load, warm up."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from models.alignment import TEMPLATES
from models.artefact.card import DETECTOR_GRAPH, Card, DetectorCard, read_card
from models.artefact.integrity import open_artefact
from models.detection import HEADS, AnchorDetector, DetectionOptions, canvases
from models.detection.detector import DETECTOR_OUTPUTS
from models.embedding import Embedder
from models.errors import ArtefactUnfit, EngineError, PackDamaged
from models.imaging import ImageLimits
from models.packs import Manifest, PackStore
from models.pipeline import Pipeline
from models.runtime import BatchedSession, Batching, RuntimeOptions, Session, SessionDescription, open_session
from models.runtime.batching import RunObserver
from models.runtime.loading import TENSORRT_ENGINES
from models.runtime.pool import members_of
from models.runtime.session import Device
from models.serving.calibrations import CalibrationPlaces, find_calibrations
from models.serving.choice import row_of
from models.serving.comparison import detector_key, has_passed, keep_passed, require_detector_parity
from models.serving.models import Models
from models.serving.recognizer import open_recognizer
from models.serving.served import Chosen, find_detector, find_served
from models.serving.tuning import Tuning, TuningKey, read_tuning
from models.serving.tuning.graphs import tuning_key
from models.serving.warmup import warm_up, warm_up_gpus

_log = logging.getLogger("vultus")

_WORKERS = 2  # photos that one caller prepares concurrently

_FACE_BATCH: dict[Device, int] = {"cpu": 8, "cuda": 64}
_PHOTO_BATCH: dict[Device, int] = {"cpu": 1, "cuda": 16}  # on a CPU two photos do not fit into the cache


Role = Literal["recognizer", "detector"]


class Sharing(NamedTuple):
    """How requests share the engines of a service.

    Attributes:
        workers: Number of photos prepared concurrently.
        wait_s: Maximum time in seconds that a run waits for other requests.
        largest: Maximum number of faces of one run; None uses the tuned number.
        observer: Called with the role of a graph and what runs it; returns what is called after each of its runs.
    """

    workers: int
    wait_s: float = 0.002
    largest: int | None = None
    observer: Callable[[Role, SessionDescription], RunObserver] | None = None


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
    comparisons: Path | None = None,
    measured_tuning: Tuning | None = None,
    detector_pack: Manifest | None = None,
) -> Models:
    """Verify the models and load them into engines. Never downloads.

    Args:
        store: Directory of fetched packs.
        manifest: Manifest of the pack.
        runtime: How to run the graphs.
        detection: Detector options, such as the image size.
        limits: Limits checked before an image is decoded.
        model: Exported artefact whose recognizer replaces the recognizer of the pack.
        calibrations: Locations of the user's calibrations. Without them, only the calibrations in the artefact and in
            the program are used.
        sharing: How requests share runs. Without it, every caller runs the engines on its own.
        tunings: Directory of the tunings of this machine. A tuning is used only if `runtime` leaves all choices open.
        comparisons: Directory of the comparisons that passed on this machine, which are not repeated.
        measured_tuning: Tuning to use instead of a stored one, if it is one of this machine and these models.
        detector_pack: Manifest of the pack whose detector replaces the detector of the pack.

    Raises:
        ManifestInvalid: A pack does not hold models, or lacks the one that is to be served.
        PackMissing: A pack was never fetched.
        PackDamaged: A file of the pack or of the artefact is missing or altered.
        ArtefactUnfit: The recognizer failed its parity proof, or the proof does not cover the requested runtime or
            does not hold on this processor.
        EngineMissing: The engine is not installed, cannot start, or does not support the device.
        EngineConflict: Two builds of ONNX Runtime are installed.
        PrecisionUnsupported: The engine or the processor does not support the precision.
        CalibrationUnfit: The named calibration belongs to another model or cannot be read.
    """
    runtime, detection = runtime or RuntimeOptions(), detection or DetectionOptions()
    served = find_served(store, Chosen(manifest, model, detector_pack))
    directory = served.recognizer
    card, proof = open_artefact(directory)
    _require_template(directory, card)
    detector_card = _detector_card(served.detector)
    contract_id = card.contract_id(detector_card.family)
    measured, uncalibrated_because = find_calibrations(  # before the engines, which take seconds to load
        directory, served.recognizer_pack, contract_id, calibrations
    )
    open_embedder = partial(open_recognizer, directory, card, proof, comparisons=comparisons)
    open_detector = partial(
        _open_detector, served.detector, detector_card, detection=detection, comparisons=comparisons
    )
    key = tuning_key(card, detector_card, detection, runtime.device)
    tuning, untuned_because = _tuning(tunings, runtime, key)
    if measured_tuning is not None and measured_tuning.key == key:
        tuning, untuned_because = measured_tuning, None
    try:
        engines = _open_engines(open_embedder, open_detector, runtime, tuning)
    except (ArtefactUnfit, EngineError) as error:
        if tuning is None:
            raise
        tuning, untuned_because = None, f"the tuning of this machine is unusable, run vultus tune again: {error}"
        engines = _open_engines(open_embedder, open_detector, runtime, None)
    embedder_session, detector_session = engines.recognizer, engines.detector
    shared = _share(engines, sharing, tuning, runtime.device) if sharing else ()
    if shared:
        embedder_session, detector_session = shared
    detector = AnchorDetector(detector_session, HEADS[detector_card.family], detection)
    embedder = Embedder(embedder_session, TEMPLATES[card.template])
    if sharing and runtime.device != "cpu":
        warm_up_gpus(engines.recognizer, (card.height, card.width), _largest(sharing, tuning, runtime.device))
    models = Models(
        pipeline=Pipeline(detector, embedder, limits, sharing.workers if sharing else _WORKERS, detection.max_faces),
        pack=manifest.name,
        recognizer=card,
        detector=detector_card,
        contract_id=contract_id,
        calibration=None,
        uncalibrated_because=None,
        embedder_session=embedder_session.describe(),
        detector_session=detector.session.describe(),
        shared=shared,
        tuning=tuning,
        untuned_because=untuned_because,
        warm_up=warm_up(engines.detector, detection, embedder) if sharing else None,  # a command warms up no model
        recognizer_pack=served.recognizer_pack,
        detector_pack=served.detector_pack,
        recognizer_training_data=served.recognizer_training_data,
        detector_training_data=served.detector_training_data,
        proof=proof,
        proof_row=row_of(card, engines.recognizer_graph, embedder_session.describe()),
    )
    return models.calibrated(measured, uncalibrated_because)


def load_detector(store: PackStore, manifest: Manifest, detection: DetectionOptions | None = None) -> AnchorDetector:
    """Load only the detector of a pack.

    Raises:
        ManifestInvalid: The pack has no detector.
        PackMissing: The pack was never fetched.
        PackDamaged: A file of the pack is missing or altered.
    """
    detection = detection or DetectionOptions()
    path = find_detector(store, manifest)
    card = _detector_card(path)
    return AnchorDetector(_open_detector_graph(path, RuntimeOptions(), detection), HEADS[card.family], detection)


def _require_template(directory: Path, card: Card) -> None:
    template = TEMPLATES.get(card.template)
    if template is None or (template.height, template.width) != (card.height, card.width):
        size = f"{card.height}x{card.width}"
        raise ArtefactUnfit(f"the card in {directory.name} states crops {card.template!r} of {size}, which are unknown")


def _detector_card(directory: Path) -> DetectorCard:
    card = read_card(directory, DetectorCard)
    if card.family not in HEADS:
        raise PackDamaged(f"the card of the detector states the unknown family {card.family!r}")
    return card


class _Engines(NamedTuple):
    """Loaded graphs and the number of concurrent runs of each."""

    recognizer: Session
    recognizer_graph: str
    recognizer_streams: int
    detector: Session
    detector_streams: int


def _open_engines(
    open_embedder: Callable[[RuntimeOptions], tuple[RuntimeOptions, Session, str]],
    open_detector: Callable[[RuntimeOptions], Session],
    runtime: RuntimeOptions,
    tuning: Tuning | None,
) -> _Engines:
    """Load both graphs with the tuned options, or with `runtime` without a tuning."""
    wanted = detector_runtime = runtime
    if tuning:
        wanted = replace(tuning.recognizer.choice.options(runtime.engines), gpus=runtime.gpus)
        detector_runtime = replace(tuning.detector.choice.options(runtime.engines), gpus=runtime.gpus)
    with ThreadPoolExecutor(1, thread_name_prefix="open") as opener:  # while one graph compiles, the other is read
        opening = opener.submit(open_detector, detector_runtime)
        embedder_runtime, session, graph = open_embedder(wanted)
        detector = opening.result()
    runs = [
        (runtime.streams or 1) * len(members_of(session))
        for runtime, session in ((embedder_runtime, session), (detector_runtime, detector))
    ]
    return _Engines(session, graph, runs[0], detector, runs[1])


def _share(
    engines: _Engines, sharing: Sharing, tuning: Tuning | None, device: Device
) -> tuple[BatchedSession, BatchedSession]:
    """Wrap recognizer and detector in batched sessions."""
    faces = _largest(sharing, tuning, device)
    photos = tuning.detector.largest if tuning else _PHOTO_BATCH[device]

    def shared(role: Role, session: Session, largest: int, streams: int) -> BatchedSession:
        observe = sharing.observer and sharing.observer(role, session.describe())
        return BatchedSession(session, Batching(largest, streams, sharing.wait_s), observe=observe)

    return (
        shared("recognizer", engines.recognizer, faces, engines.recognizer_streams),
        shared("detector", engines.detector, photos, engines.detector_streams),
    )


def _largest(sharing: Sharing, tuning: Tuning | None, device: Device) -> int:
    return sharing.largest or (tuning.recognizer.largest if tuning else _FACE_BATCH[device])


def _open_detector(
    directory: Path, card: DetectorCard, runtime: RuntimeOptions, detection: DetectionOptions, comparisons: Path | None
) -> Session:
    """Load the detector, and compare it on a GPU, where ONNX Runtime's CUDA replaces a TensorRT that differs.

    Raises:
        ArtefactUnfit: Its outputs differ from those on the CPU.
    """
    # Float32 on ONNX Runtime's TensorRT forbids TF32 in the whole process, see `models.runtime.onnxruntime_engine`.
    uses_tensorrt = runtime.engine in TENSORRT_ENGINES and runtime.precision != "tf32"
    if runtime.precision in ("tf32", "fp16", "int8"):  # of the recognizer; the detector has a single float32 graph
        runtime = replace(runtime, precision="auto")
    if runtime.device == "cpu":
        return _open_detector_graph(directory, runtime, detection)
    plain = replace(runtime, engine="onnxruntime")
    if uses_tensorrt:  # ONNX Runtime builds engines for the range of sizes that photos have
        try:
            return _compared(directory, card, replace(runtime, engine="onnxruntime-tensorrt"), detection, comparisons)
        except (ArtefactUnfit, EngineError) as error:
            _log.warning("the detector runs on CUDA without TensorRT: %s", error)
    return _compared(directory, card, plain, detection, comparisons)


def _compared(
    directory: Path, card: DetectorCard, runtime: RuntimeOptions, detection: DetectionOptions, comparisons: Path | None
) -> Session:
    session = _open_detector_graph(directory, runtime, detection)
    key = detector_key(card, session.describe(), runtime.device)
    if not has_passed(comparisons, key):
        rows = require_detector_parity(session, directory / DETECTOR_GRAPH, canvases(detection))
        keep_passed(comparisons, key, rows)
    return session


def _open_detector_graph(directory: Path, runtime: RuntimeOptions, detection: DetectionOptions) -> Session:
    graph = directory / DETECTOR_GRAPH
    return open_session(graph, DETECTOR_OUTPUTS, canvases(detection), runtime, single_image=runtime.device == "cpu")


def _tuning(directory: Path | None, wanted: RuntimeOptions, key: TuningKey) -> tuple[Tuning | None, str | None]:
    """Read the tuning of this machine and model, unless the settings choose the runtime.

    Returns:
        The tuning and None, or None and the reason. Both are None without a directory.
    """
    if directory is None:
        return None, None
    if wanted != RuntimeOptions(device=wanted.device, engines=wanted.engines, gpus=wanted.gpus):
        return None, "the settings choose the runtime"
    tuning = read_tuning(directory, key)
    return tuning, None if tuning else "this model was never tuned on this machine: run vultus tune"
