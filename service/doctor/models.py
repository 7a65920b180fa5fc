"""Checks of the served model: whether it is whole, tuned, and calibrated on the operator's own pictures."""

from collections.abc import Iterator

from models.errors import ManifestInvalid, VultusError
from models.packs import PackStore
from models.serving.served import find_served
from service.doctor.findings import Finding
from service.settings import Settings
from service.startup import chosen_models


def check_model(settings: Settings) -> Iterator[Finding]:
    """Check the pack, the artefact and the calibration."""
    store = PackStore(settings.packs_dir)
    try:
        find_served(store, chosen_models(settings, store))
    except ManifestInvalid as error:
        yield Finding("model_unfit", "warning", str(error), "correct VULTUS_PACK, VULTUS_MODEL and VULTUS_DETECTOR")
        return
    except VultusError as error:
        names = dict.fromkeys(filter(None, (settings.pack, settings.detector)))
        yield Finding("model_unfit", "warning", str(error), "; ".join(f"vultus packs fetch {name}" for name in names))
        return
    own = settings.calibration is not None or any(settings.calibrations_dir.glob("*.json"))
    if settings.model is None and settings.detector is None and not own:  # else these rates do not hold
        yield Finding(
            "calibration_of_others",
            "note",
            "decisions rest on error rates that were measured on press photos, not on your cameras and your people",
            "vultus calibrate DIRECTORY",
        )
    if not any(settings.tunings_dir.glob("*.json")):
        yield Finding("untuned", "note", "this machine was never measured with the model", "vultus tune")
