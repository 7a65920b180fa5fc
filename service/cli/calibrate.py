"""`vultus calibrate`: operating points, score map and quality of the served model, measured on your own pictures."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from models.artefact.card import CALIBRATION
from models.calibration import Calibration, not_measured_again, read_calibrations, write_calibrations
from models.errors import StorageFailed
from models.evaluation.acquire.pictures import FaceTable
from models.evaluation.calibrate.calibrating import calibrate as measure
from models.evaluation.model import EvaluatedModel
from models.evaluation.reports.calibration import describe_calibration
from models.evaluation.reports.document import Evaluation, NamingNote
from models.evaluation.reports.sections import add_acquisition, add_duplicates, add_reading
from models.evaluation.sets.copies import without_copies
from models.evaluation.sets.user_pictures import PictureSet, read_set
from models.serving.calibrations import user_calibration
from service.cli.measuring import (
    TERMINAL,
    DirectoryArgument,
    ListedOption,
    PolicyOption,
    measured_in_all_precisions,
    require_place,
)
from service.settings import load_settings


@measured_in_all_precisions
def calibrate(
    models: Iterable[EvaluatedModel],
    directory: DirectoryArgument,
    listed: ListedOption = None,
    faces: PolicyOption = "single",
    default: Annotated[
        str | None,
        typer.Option(help="Default operating point, for example fmr_1e-3; if unset, fmr_1e-4 or the next higher one."),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Name of the pictures; default: the name of the directory.")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; default: the file that the service reads.")] = None,
    add: Annotated[
        bool, typer.Option("--add", help="Keep what the file holds for precisions that are not measured now.")
    ] = False,
) -> Sequence[Evaluation]:
    """Measure the error rates of thresholds on your own pictures.

    DIRECTORY has a folder for each subject. Copies of one photo, such as thumbnails, count as one photo. By default,
    the service uses the calibration from its next start. Every precision in which this machine can serve the model is
    measured, and float32, so that the file also holds for other processors; --precision measures one precision only.
    """
    if out == TERMINAL:
        raise typer.BadParameter("a calibration is written to a file; use --json - to print its contents")
    if out is not None:
        require_place(out)
    found, pictures = read_set(directory, listed), None
    path, calibrations, evaluations = out, list[Calibration](), list[Evaluation]()
    for model in models:
        path = path or _place(model)
        require_place(path)
        if pictures is None:
            pictures = without_copies(found, model.models.pipeline.limits, model.progress)
        calibration, acquired = measure(model, pictures._replace(name=title or pictures.name), faces, default)
        calibrations.append(calibration)
        evaluations.append(_report(calibration, acquired, pictures, path))
    assert path is not None  # because `models` loads at least one
    if add and path.exists():
        earlier = read_calibrations(path, calibrations[0].contract_id)
        calibrations = [*not_measured_again(earlier, calibrations), *calibrations]
    write_calibrations(path, calibrations)
    return evaluations


def _report(calibration: Calibration, acquired: FaceTable, pictures: PictureSet, path: Path) -> Evaluation:
    evaluation = describe_calibration(calibration)
    add_acquisition(evaluation, acquired.names, acquired.failures)
    add_duplicates(evaluation, acquired.names, acquired.contents, pictures.subjects)
    add_reading(evaluation, pictures, acquired.found)
    evaluation.notes.append(NamingNote(f"Written to {path}."))
    if calibration.lenient_default:
        evaluation.notes.append(f"{calibration.lenient_default}. More pictures of more people support stricter points.")
    return evaluation


def _place(model: EvaluatedModel) -> Path:
    """Return the default path of the calibration: in the artefact, or in the data directory for the model of a pack.

    Raises:
        StorageFailed: The directory cannot be created.
    """
    if model.artefact is not None:
        return model.artefact / CALIBRATION
    path = user_calibration(load_settings().calibrations_dir, model.models.contract_id)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageFailed(f"{path} cannot be written: {error.strerror}") from error
    return path
