"""`vultus calibrate`: operating points, score map and quality of the served model, measured on your own pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from models.artefact.card import CALIBRATION
from models.calibration import write_calibration
from models.errors import StorageFailed
from models.evaluation.calibrate.calibrating import calibrate as measure
from models.evaluation.model import EvaluatedModel
from models.evaluation.reports.calibration import describe_calibration
from models.evaluation.reports.document import Evaluation
from models.evaluation.reports.sections import add_acquisition, add_duplicates
from models.evaluation.sets.user_pictures import read_set
from models.serving.calibrations import own_calibration
from service.cli.measuring import TERMINAL, Directory, Listed, Policy, measured, require_place
from service.settings import load_settings


@measured
def calibrate(
    model: EvaluatedModel,
    directory: Directory,
    listed: Listed = None,
    faces: Policy = "single",
    default: Annotated[
        str | None,
        typer.Option(help="Default operating point, such as fmr_1e-3; if unset, fmr_1e-4 or the next looser one."),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Name of the data; default: the name of the directory.")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; default: where the service looks for it.")] = None,
) -> Sequence[Evaluation]:
    """Measure the error rates of thresholds on your own pictures.

    DIRECTORY has a folder for each subject. The service reads the file that is written.
    """
    path = out or _place(model)
    if path == TERMINAL:
        raise typer.BadParameter("a calibration is a file; --json - prints what is in it")
    require_place(path)
    pictures = read_set(directory, listed)
    calibration, everything = measure(model, pictures._replace(name=title or pictures.name), faces, default)
    write_calibration(path, calibration)
    found = describe_calibration(calibration)
    add_acquisition(found, everything.names, everything.failures)
    add_duplicates(found, everything.names, everything.contents, pictures.subjects)
    found.notes.append(f"Written to {path}.")
    return [found]


def _place(model: EvaluatedModel) -> Path:
    """Return where the service looks for the calibration of a model: beside an artefact, else in the data directory."""
    if model.artefact is not None:
        return model.artefact / CALIBRATION
    path = own_calibration(load_settings().calibrations_dir, model.models.contract_id)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageFailed(f"{path} cannot be written: {error.strerror}") from error
    return path
