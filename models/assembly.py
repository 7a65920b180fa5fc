"""From a fetched pack to a running pipeline: check, load, warm up."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models import embedding
from models.alignment import TEMPLATES, align
from models.artefact import CALIBRATION, DETECTOR_GRAPH, EMBEDDER_GRAPH, Card, DetectorCard, read_card
from models.calibration import Calibration, read_calibration
from models.detection import HEADS, AnchorDetector, DetectionOptions, canvases
from models.detection.detector import OUTPUTS as DETECTOR_OUTPUTS
from models.embedding import Embedder
from models.errors import CalibrationUnfit, ManifestInvalid
from models.imaging import ImageLimits
from models.packs import Manifest, PackStore
from models.packs.build import DETECTOR_DIRECTORY, RECOGNIZER_DIRECTORY
from models.packs.manifest import calibration_file
from models.pipeline import Pipeline
from models.runtime import BATCH_BUCKETS, RuntimeOptions, SessionDescription, open_session

_WARM_FACES = 8  # larger batches take long enough that their first run does not stand out


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


def load_models(
    store: PackStore,
    manifest: Manifest,
    runtime: RuntimeOptions | None = None,
    detection: DetectionOptions | None = None,
    limits: ImageLimits | None = None,
) -> Models:
    """Check a pack and load it into an engine. Never downloads.

    Raises:
        PackMissing, PackDamaged, ArtefactUnfit: The pack cannot be served.
        EngineMissing, EngineConflict, PrecisionUnsupported: The engine cannot be had.
    """
    runtime, detection = runtime or RuntimeOptions(), detection or DetectionOptions()
    if manifest.kind != "models":
        raise ManifestInvalid(f"the pack {manifest.name} holds {manifest.kind}, not models that could be served")
    path = store.verify(manifest)
    card = read_card(path / RECOGNIZER_DIRECTORY, Card)
    detector_card = read_card(path / DETECTOR_DIRECTORY, DetectorCard)
    detector_session = open_session(
        path / DETECTOR_DIRECTORY / DETECTOR_GRAPH, DETECTOR_OUTPUTS, canvases(detection), runtime
    )
    embedder_session = open_session(
        path / RECOGNIZER_DIRECTORY / EMBEDDER_GRAPH, embedding.OUTPUTS, ((card.height, card.width),), runtime
    )
    detector = AnchorDetector(detector_session, HEADS[detector_card.family], detection)
    embedder = Embedder(embedder_session, TEMPLATES[card.template])
    _warm_up(detector, embedder, detection)
    contract_id = card.contract_id(detector_card.family)
    calibration, because = _calibration(path / RECOGNIZER_DIRECTORY, manifest.name, contract_id)
    return Models(
        pipeline=Pipeline(detector, embedder, limits),
        pack=manifest.name,
        recognizer=card,
        detector=detector_card,
        contract_id=contract_id,
        calibration=calibration,
        uncalibrated_because=because,
        embedder_session=embedder_session.describe(),
        detector_session=detector_session.describe(),
    )


def _warm_up(detector: AnchorDetector, embedder: Embedder, options: DetectionOptions) -> None:
    """Run every size once, so that no request pays for the engine's first run."""
    for height, width in canvases(options):
        detector.session.run(np.zeros((1, height, width, 3), np.uint8))
    template = embedder.template
    picture = np.zeros((template.height, template.width, 3), np.uint8)
    for count in (bucket for bucket in BATCH_BUCKETS if bucket <= _WARM_FACES):
        embedder.embed(align(picture, np.array([template.points] * count, np.float32), template))


def _calibration(directory: Path, pack: str, contract_id: str) -> tuple[Calibration | None, str | None]:
    """Read the user's own calibration, else the one that comes with the program."""
    own = directory / CALIBRATION
    path = own if own.is_file() else calibration_file(pack)
    if path is None:
        return None, "this model was never calibrated"
    try:
        return read_calibration(path, contract_id), None
    except CalibrationUnfit as error:
        return None, str(error)
