"""`vultus identify`: whose faces are in photos."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from models.assembly import Models
from models.calibration import OperatingPoint
from models.cropping import FacePolicy, StageTimes
from models.errors import ImageUnreadable, VultusError
from models.pipeline import EmbeddedPhoto
from service.cli.serve import open_for_models
from service.gallery.identification import LEAST, NO_POINT, comparisons, identify_photos
from service.gallery.records import Candidate, Fusion

_SOME_FAILED = 1

_out = Console()


def identify(
    photos: Annotated[list[Path], typer.Argument(help="Image files.")],
    gallery: Annotated[list[str], typer.Option(help="A gallery; may be repeated.")],
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="Most candidates of a face.")] = 3,
    fusion: Annotated[Fusion, typer.Option(help="How the templates of one subject count together.")] = "max",
    assign: Annotated[
        Literal["independent", "unique"], typer.Option(help="unique: nobody is given to two faces of one photo.")
    ] = "independent",
    faces: Annotated[FacePolicy, typer.Option(help="Which faces of a photo are meant.")] = "all",
    operating_point: Annotated[
        str | None, typer.Option(help="Such as fmr_1e-3; `none`: the nearest, without a decision.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look for the faces of photos in galleries; status 1 if a photo could not be used."""
    with open_for_models() as (galleries, models):
        point = None if operating_point == NO_POINT else models.operating_point(operating_point)
        compared = comparisons(galleries, gallery, fusion)
        outcomes = _embedded(photos, models, faces)
        found = iter(
            identify_photos(
                galleries,
                gallery,
                [[face.embedding for face in one.faces] for one in outcomes if isinstance(one, EmbeddedPhoto)],
                k,
                fusion,
                point.threshold if point else LEAST,
                assign == "unique",
            )
        )
        answers = [
            (path, one, [] if isinstance(one, VultusError) else next(found))
            for path, one in zip(photos, outcomes, strict=True)
        ]
    if as_json:
        _out.print_json(data=[_record(*answer, decides=point is not None) for answer in answers])
    else:
        _show(answers, point, compared, models)
    if any(isinstance(outcome, VultusError) for outcome in outcomes):
        raise typer.Exit(_SOME_FAILED)


def _embedded(paths: list[Path], models: Models, policy: FacePolicy) -> list[EmbeddedPhoto | VultusError]:
    outcomes: list[EmbeddedPhoto | VultusError] = []
    for path in paths:
        try:
            outcomes += models.pipeline.embed([path.read_bytes()], policy, StageTimes())
        except (OSError, ValueError) as error:  # the latter of a name that no file can have
            outcomes.append(ImageUnreadable(f"the file cannot be read: {getattr(error, 'strerror', None) or error}"))
    return outcomes


def _record(
    path: Path, outcome: EmbeddedPhoto | VultusError, found: list[list[Candidate]], decides: bool
) -> dict[str, Any]:
    if isinstance(outcome, VultusError):
        return {"image": str(path), "status": "error", "code": outcome.code, "detail": str(outcome)}
    described = []
    for face, own in zip(outcome.faces, found, strict=True):
        candidates = [{"gallery": c.gallery, "subject": c.subject, "similarity": c.similarity} for c in own]
        decision = ("candidates" if own else "unknown") if decides else None
        described.append({"box": face.face.box.tolist(), "decision": decision, "candidates": candidates})
    return {"image": str(path), "status": "ok", "faces": described}


def _show(
    answers: list[tuple[Path, EmbeddedPhoto | VultusError, list[list[Candidate]]]],
    point: OperatingPoint | None,
    compared: int,
    models: Models,
) -> None:
    table = Table("photo", "face: x1 y1 x2 y2", "subject", "similarity")
    for column in table.columns:
        column.overflow = "fold"  # a name that is cut short is another name
    for path, outcome, found in answers:
        if isinstance(outcome, VultusError):
            table.add_row(escape(path.name), "", escape(str(outcome)), "")
            continue
        if not outcome.faces:
            table.add_row(escape(path.name), "none", "", "")
        for face, own in zip(outcome.faces, found, strict=True):
            box = " ".join(f"{edge:4.0f}" for edge in face.face.box)
            table.add_row(
                escape(path.name),
                box,
                escape("\n".join(f"{c.gallery}/{c.subject}" for c in own) or "unknown"),
                "\n".join(f"{c.similarity:.3f}" for c in own),
            )
    _out.print(table)
    if point:
        _out.print(
            f"{point.name}: similarity from {point.threshold:.3f}. Each face was compared with {compared:,}: somebody "
            f"who is not enrolled gets a candidate in up to {min(1.0, point.rate * compared):.1%} of cases "
            f"(measured on {point.measured_on}).",
            highlight=False,
            soft_wrap=True,
        )
    elif models.uncalibrated_because:
        _out.print(f"no decisions: {models.uncalibrated_because}", highlight=False, soft_wrap=True)
