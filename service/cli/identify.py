"""`vultus identify`: whose faces are in photos."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from models.assembly import Models
from models.calibration import OperatingPoint
from models.cropping import FacePolicy
from models.errors import ImageUnreadable, VultusError
from models.evaluation.operating_points import upper
from models.job import Job
from models.pipeline import EmbeddedPhoto
from models.quality import Gate
from service.acquisition import JudgedFace, judge_faces
from service.cli.serve import open_for_models
from service.gallery.identification import LEAST, NO_POINT, comparisons, identify_photos, least_quality
from service.gallery.records import Candidate, Fusion

_SOME_FAILED = 1

_Found = tuple[JudgedFace, list[Candidate]]
_Answer = tuple[Path, list[_Found] | VultusError]

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
    min_quality: Annotated[float, typer.Option(min=0, max=100, help="Least quality, where it was validated.")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look for the faces of photos in galleries; status 1 if a photo could not be used."""
    with open_for_models() as (galleries, models):
        point = None if operating_point == NO_POINT else models.operating_point(operating_point)
        compared = comparisons(galleries, gallery, fusion)
        gate = Gate(min_quality).at_least(least_quality(galleries, gallery))
        models.require_gate(gate)
        outcomes = [
            one if isinstance(one, VultusError) else judge_faces(models, one, gate)
            for one in _embedded(photos, models, faces)
        ]
        found = iter(
            identify_photos(
                galleries,
                gallery,
                [
                    [judged.face.embedding for judged in one if judged.refusal is None]
                    for one in outcomes
                    if not isinstance(one, VultusError)
                ],
                k,
                fusion,
                point.threshold if point else LEAST,
                assign == "unique",
            )
        )
        answers: list[_Answer] = [
            (path, one if isinstance(one, VultusError) else _found(one, next(found)))
            for path, one in zip(photos, outcomes, strict=True)
        ]
    if as_json:
        _out.print_json(data=[_record(*answer, decides=point is not None) for answer in answers])
    else:
        _show(answers, point, compared, models)
    if any(isinstance(one, VultusError) for one in outcomes):
        raise typer.Exit(_SOME_FAILED)


def _embedded(paths: list[Path], models: Models, policy: FacePolicy) -> list[EmbeddedPhoto | VultusError]:
    outcomes: list[EmbeddedPhoto | VultusError] = []
    for path in paths:
        try:
            outcomes += models.pipeline.embed([path.read_bytes()], policy, Job())
        except (OSError, ValueError) as error:  # the latter of a name that no file can have
            outcomes.append(ImageUnreadable(f"the file cannot be read: {getattr(error, 'strerror', None) or error}"))
    return outcomes


def _found(faces: list[JudgedFace], candidates: list[list[Candidate]]) -> list[_Found]:
    """Give the faces that were looked for what was found, and the others none."""
    found = iter(candidates)
    return [(judged, next(found) if judged.refusal is None else []) for judged in faces]


def _record(path: Path, outcome: list[_Found] | VultusError, decides: bool) -> dict[str, Any]:
    if isinstance(outcome, VultusError):
        return {"image": str(path), "status": "error", "code": outcome.code, "detail": str(outcome)}
    described = []
    for (face, assessment, refusal), own in outcome:
        candidates = [{"gallery": c.gallery, "subject": c.subject, "similarity": c.similarity} for c in own]
        decision = ("candidates" if own else "unknown") if decides else None
        if refusal is not None:
            decision = "rejected"
        described.append(
            {
                "box": face.face.box.tolist(),
                "quality": assessment.quality,
                "decision": decision,
                "refusal": refusal.code if refusal else None,
                "candidates": candidates,
            }
        )
    return {"image": str(path), "status": "ok", "faces": described}


def _show(answers: list[_Answer], point: OperatingPoint | None, compared: int, models: Models) -> None:
    table = Table("photo", "face: x1 y1 x2 y2", "subject", "similarity")
    for column in table.columns:
        column.overflow = "fold"  # a name that is cut short is another name
    for path, outcome in answers:
        if isinstance(outcome, VultusError):
            table.add_row(escape(path.name), "", escape(str(outcome)), "")
            continue
        if not outcome:
            table.add_row(escape(path.name), "none", "", "")
        for (face, _, refusal), own in outcome:
            box = " ".join(f"{edge:4.0f}" for edge in face.face.box)
            nobody = f"rejected: {refusal.code}" if refusal else "unknown"
            table.add_row(
                escape(path.name),
                box,
                escape("\n".join(f"{c.gallery}/{c.subject}" for c in own) or nobody),
                "\n".join(f"{c.similarity:.3f}" for c in own),
            )
    _out.print(table)
    if point:
        _out.print(
            f"{point.name}: similarity from {point.threshold:.3f}. Each face was compared with {compared:,}: somebody "
            f"who is not enrolled gets a candidate in up to {_percent(min(1.0, point.rate * compared))} of cases "
            f"(measured on {point.measured_on}).",
            highlight=False,
            soft_wrap=True,
        )
    elif models.uncalibrated_because:
        _out.print(f"no decisions: {models.uncalibrated_because}", highlight=False, soft_wrap=True)


def _percent(bound: float) -> str:
    """Write an upper bound, never as 0."""
    percent = 100 * bound
    return f"{percent:.1f}%" if percent >= 1 else f"{upper(percent)}%"
