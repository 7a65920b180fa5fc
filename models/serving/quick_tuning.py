"""A tuning that takes seconds, so that a machine that was never tuned serves with the right engine.

The fastest engine depends on processor and network: on two cores with AVX2, ONNX Runtime runs one MobileFaceNet faster
than OpenVINO, and another one half as fast. `vultus tune` measures more, and in several rounds.
"""

import logging
from datetime import UTC, datetime
from pathlib import Path

from models.artefact.card import DetectorCard, read_card
from models.artefact.integrity import open_artefact
from models.detection import DetectionOptions
from models.errors import StorageFailed
from models.packs import PackStore
from models.serving.calibrations import CalibrationPlaces, find_calibrations
from models.serving.served import Chosen, find_served
from models.serving.tuning import Tuning, read_tuning, tune_graph_quickly, write_tuning
from models.serving.tuning.graphs import common_canvas, detector_tuning, recognizer_tuning, tuning_key
from models.synthetic import synthetic_pictures
from models.types import Progress, no_progress

_log = logging.getLogger("vultus")

_RECOGNIZER_S, _DETECTOR_S = 3.2, 1.6  # of at most 5 s in all
_FACES = 4


def tune_quickly(
    store: PackStore,
    chosen: Chosen,
    detection: DetectionOptions,
    calibrations: CalibrationPlaces,
    tunings: Path,
    progress: Progress = no_progress,
) -> Tuning:
    """Return the tuning of this machine and model: the stored one, or else one measured now.

    A tuning that cannot be stored is used nevertheless, because containers often have a read-only data directory.

    If the model is calibrated, only the precisions of its calibrations are measured, so that the error rates of its
    thresholds stay those that were measured.

    Args:
        store: Directory of fetched packs.
        chosen: The models.
        detection: Detector options.
        calibrations: Locations of the user's calibrations.
        tunings: Directory of the tunings of this machine.
        progress: Called before each measurement, with the name of the choice, the number done and the total.

    Raises:
        ManifestInvalid: A pack lacks the model that is to be served.
        PackMissing: A pack was never fetched.
        PackDamaged: A file of a pack or of the artefact is missing or altered.
        ArtefactUnfit: The recognizer must not be served.
        CalibrationUnfit: The named calibration belongs to another model or cannot be read.
        InferenceFailed: No engine runs the models.
    """
    served = find_served(store, chosen)
    card, proof = open_artefact(served.recognizer)
    detector = read_card(served.detector, DetectorCard)
    key = tuning_key(card, detector, detection, "cpu")
    stored = read_tuning(tunings, key)
    if stored is not None:
        return stored
    measured, _ = find_calibrations(
        served.recognizer, served.recognizer_pack, card.contract_id(detector.family), calibrations
    )
    precisions = {calibration.conditions["precision"] for calibration in measured} or None
    faces = synthetic_pictures(_FACES, card.height, card.width)
    recognizer = recognizer_tuning(served.recognizer, card, proof, "cpu", faces, precisions)
    photos = synthetic_pictures(1, *common_canvas(detection))
    tuned = (
        tune_graph_quickly(recognizer, _RECOGNIZER_S, progress),
        tune_graph_quickly(detector_tuning(served.detector, detection, "cpu", photos), _DETECTOR_S, progress),
    )
    tuning = Tuning(key, datetime.now(UTC).isoformat(timespec="seconds"), *tuned, thorough=False)
    try:
        write_tuning(tunings, tuning)
    except StorageFailed as error:
        _log.info("%s, so the models will be measured again at the next start", error)
    return tuning
