"""Locations of calibrations, and the order in which they are searched."""

from pathlib import Path
from typing import NamedTuple

from models.artefact.card import CALIBRATION
from models.calibration import Calibration, read_calibrations
from models.errors import CalibrationUnfit
from models.packs.manifest import calibration_file


class CalibrationPlaces(NamedTuple):
    """Locations of the user's calibrations.

    Attributes:
        directory: Directory of all calibrations, one file per contract id.
        named: File of the calibration to use, which must match the served model.
    """

    directory: Path
    named: Path | None = None


def user_calibration(directory: Path, contract_id: str) -> Path:
    """Return the path of the user's calibration for a contract id in the directory of calibrations."""
    return directory / f"{contract_id}.json"


def find_calibrations(
    artefact: Path, pack: str | None, contract_id: str, places: CalibrationPlaces | None
) -> tuple[tuple[Calibration, ...], str | None]:
    """Read the calibrations of a model, one for each condition under which it was measured.

    A named file is used if there is one. Otherwise the first existing file is used: the calibration in the
    artefact, the user's calibration of this contract id, the calibration shipped with the program for this pack.

    Args:
        artefact: Directory of the recognizer.
        pack: Name of the pack, None for an artefact that is not part of a pack.
        contract_id: Embedding contract of the served model.
        places: Locations of the user's calibrations, if any.

    Returns:
        The calibrations and None, or none and the reason why the model has no calibration.

    Raises:
        CalibrationUnfit: The named calibration cannot be read, or belongs to another model.
    """
    if places is not None and places.named is not None:
        return read_calibrations(places.named, contract_id), None
    candidates = [artefact / CALIBRATION]
    candidates += [user_calibration(places.directory, contract_id)] if places is not None else []
    shipped = calibration_file(pack) if pack else None
    candidates += [shipped] if shipped else []
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        return (), "this model was never calibrated: run vultus calibrate"
    try:
        return read_calibrations(path, contract_id), None
    except CalibrationUnfit as error:
        return (), str(error)
