"""`vultus calibrate`: operating points, score map and quality of the model that is served, from your own pictures."""

from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from models.artefact import CALIBRATION
from models.assembly import own_calibration
from models.calibration import Calibration, write_calibration
from models.evaluation.calibrating import calibrate as measure
from models.evaluation.embedding_run import FaceTable, same_files
from service.cli.measuring import (
    Directory,
    Engine,
    Listed,
    Missing,
    Model,
    NoCache,
    Policy,
    Precision,
    evaluated_model,
    read_set,
    require_directory_of,
    say,
)
from service.settings import load_settings

_out = Console()
_SHOWN = 10


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
) -> None:
    """Measure what thresholds cost: DIRECTORY has a folder for each subject. The service reads what is written."""
    if out is not None:
        require_directory_of(out)
    settings = load_settings()
    artefact = model or settings.model
    with evaluated_model(model, engine, precision, max_missing, no_cache) as under:
        contract = under.models.contract_id
        path = out or (artefact / CALIBRATION if artefact else own_calibration(settings.calibrations_dir, contract))
        pictures = read_set(directory, listed)
        calibration, everything = measure(under, pictures._replace(name=title or pictures.name), faces, default)
    write_calibration(path, calibration)
    _show(calibration, everything)
    say(f"written to {path}")


def _show(calibration: Calibration, faces: FaceTable) -> None:
    say(f"contract {calibration.contract_id}, measured on {calibration.points[0].measured_on}")
    if faces.failures:
        say(f"{len(faces.failures):,} of {len(faces.names):,} pictures gave no face:")
        for failure in faces.failures[:_SHOWN]:
            say(f"  {failure.name}: {failure.reason}")
    again = same_files(faces.contents)
    if again:
        more = sum(len(group) - 1 for group in again)
        say(f"{more:,} files are there once more; mated, they make similarities of 1.0:")
        for group in again[:_SHOWN]:
            say(f"  {' = '.join(faces.names[place] for place in group)}")
    table = Table(
        "point",
        "threshold",
        "its 95 %",
        "errors",
        "FMR 95 %",
        "FNMR",
        "FNMR 95 %",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for column in table.columns:
        column.overflow = "fold"
    for point in calibration.points:
        table.add_row(
            point.name + (" *" if point.name == calibration.default else ""),
            f"{point.threshold:.3f}",
            "{:.3f}–{:.3f}".format(*point.threshold_interval),
            f"{point.errors:,}",
            "{:.2g}–{:.2g}".format(*point.interval),
            f"{point.fnmr:.4f}",
            "{:.4f}–{:.4f}".format(*point.fnmr_interval),
        )
    _out.print(table)
    say("* the default")
    bound = calibration.bound
    say(f"above {bound.similarity:.3f}, the highest of two subjects, FMR is below {bound.fmr:.1g} (rule of 3)")
    fitted = calibration.score_map
    say(
        f"score map: {fitted.method}, cost {fitted.cost:.4f} bits (least {fitted.least_cost:.4f}), calibration error "
        f"{fitted.calibration_error:.4f}, {fitted.folds}-fold over subjects"
    )
    quality = calibration.quality
    statistics = f"norm {quality.statistics.mean:.2f} ± {quality.statistics.deviation:.2f} ({quality.source})"
    verdict = "validated" if quality.validated else f"NOT validated, cannot gate: {quality.because}"
    say(f"quality: {statistics}; {verdict}")
