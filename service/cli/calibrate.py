"""`vultus calibrate`: operating points, score map and quality of the model that is served, from your own pictures."""

from pathlib import Path
from typing import Annotated

import typer

from models.artefact import CALIBRATION
from models.assembly import own_calibration
from models.calibration import write_calibration
from models.evaluation.calibrating import calibrate as measure
from models.evaluation.calibration_report import describe_calibration
from models.evaluation.sections import add_acquisition, add_duplicates
from service.cli.measuring import (
    TERMINAL,
    Directory,
    Engine,
    Html,
    JsonFile,
    Listed,
    Missing,
    Model,
    NoCache,
    Policy,
    Precision,
    evaluated_model,
    make_directory_of,
    read_set,
    require_writable,
    say,
    tell,
)
from service.settings import load_settings


def calibrate(
    directory: Directory,
    listed: Listed = None,
    faces: Policy = "single",
    default: Annotated[
        str | None, typer.Option(help="Default operating point, such as fmr_1e-3; fmr_1e-4 or the next looser one.")
    ] = None,
    title: Annotated[
        str | None, typer.Option(help="What the data is called; the directory's name if not given.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to write it; by default where the service looks for it.")
    ] = None,
    model: Model = None,
    engine: Engine = None,
    precision: Precision = None,
    max_missing: Missing = 0,
    no_cache: NoCache = False,
    html: Html = None,
    json_file: JsonFile = None,
) -> None:
    """Measure what thresholds cost: DIRECTORY has a folder for each subject. The service reads what is written."""
    if out == TERMINAL:
        raise typer.BadParameter("a calibration is a file; --json - prints what is in it")
    require_writable(html, json_file, out)
    settings = load_settings()
    artefact = model or settings.model
    with evaluated_model(model, engine, precision, max_missing, no_cache) as under:
        contract = under.models.contract_id
        path = out or (artefact / CALIBRATION if artefact else own_calibration(settings.calibrations_dir, contract))
        make_directory_of(path)
        pictures = read_set(directory, listed)
        calibration, everything = measure(under, pictures._replace(name=title or pictures.name), faces, default)
    write_calibration(path, calibration)
    found = describe_calibration(calibration)
    add_acquisition(found, everything.names, everything.failures)
    add_duplicates(found, everything.names, everything.contents, pictures.subjects)
    tell([found], html, json_file)
    if json_file != TERMINAL:
        say(f"written to {path}")
