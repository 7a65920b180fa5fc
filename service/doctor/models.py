"""Checks of the served model: whether it is whole, tuned, and calibrated on the operator's own pictures."""

from collections.abc import Iterator

from models.errors import VultusError
from models.packs import PackStore
from service.doctor.findings import Finding
from service.settings import Settings


def check_model(settings: Settings) -> Iterator[Finding]:
    """Check the pack, the artefact and the calibration."""
    store = PackStore(settings.packs_dir)
    try:
        store.verify(store.find(settings.pack))
    except VultusError as error:
        yield Finding("model_unfit", "warning", str(error), f"vultus packs fetch {settings.pack}")
        return
    own = settings.calibration is not None or any(settings.calibrations_dir.glob("*.json"))
    if settings.model is None and not own:
        yield Finding(
            "calibration_of_others",
            "note",
            "decisions rest on error rates that were measured on press photos, not on your cameras and your people",
            "vultus calibrate DIRECTORY",
        )
    if not any(settings.tunings_dir.glob("*.json")):
        yield Finding("untuned", "note", "this machine was never measured with the model", "vultus tune")
