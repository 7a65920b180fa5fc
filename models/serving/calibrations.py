"""Where calibrations lie, and which of them is used."""

from pathlib import Path
from typing import NamedTuple

from models.artefact.card import CALIBRATION
from models.calibration import Calibration, read_calibration
from models.errors import CalibrationUnfit
from models.packs.manifest import calibration_file


class CalibrationPlaces(NamedTuple):
    """Where the user's own calibrations lie.

    Attributes:
        directory: Of all of them, by contract id.
        named: The one to use; it must be of the model that is served.
    """

    directory: Path
    named: Path | None = None


def own_calibration(directory: Path, contract_id: str) -> Path:
    """Tell where the user's own calibration of a contract lies in the directory of all of them."""
    return directory / f"{contract_id}.json"


def find_calibration(
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
