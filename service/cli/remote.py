"""`vultus remote`: verify, identify and enrol through a running service."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import typer

from models.errors import VultusError
from service.cli.face_table import FaceTable, show_operating_point
from service.cli.output import out, say
from service.cli.photo_files import read_named_photo
from service.cli.remote_enrol import enrol
from service.cli.remote_service import MAX_PHOTO_BYTES, KeyFile, Url, connected
from service.client import Client, Side, Subject, VultusProblem
from service.client.schemas import IdentifyOptions, IdentifyResponse, VerifyOptions, VerifyResponse

app = typer.Typer(
    help="Verify, identify and enrol through a running service.", no_args_is_help=True, add_completion=False
)
app.command()(enrol)

_SOME_FAILED = 1  # exit status

Faces = Literal["largest", "central", "single", "all"]
MinQuality = Annotated[float, typer.Option(min=0, max=100, help="Minimum quality; requires a validated quality map.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class _Failed(NamedTuple):
    """Why a photo could not be used."""

    code: str
    reason: str


_Outcome = IdentifyResponse | _Failed


@app.command()
def verify(
    probe: Annotated[Path, typer.Argument(help="Photo of the person to verify.")],
    reference: Annotated[Path | None, typer.Argument(help="Photo to compare with, unless --subject is given.")] = None,
    gallery: Annotated[str | None, typer.Option(help="Gallery of the subject to compare with.")] = None,
    subject: Annotated[str | None, typer.Option(help="Subject to compare with, instead of a photo.")] = None,
    faces: Annotated[Faces, typer.Option(help="Which face of a photo to use.")] = "single",
    operating_point: Annotated[str | None, typer.Option(help="Name or false match rate, such as fmr_1e-3.")] = None,
    inconclusive: Annotated[
        bool, typer.Option(help="Allow the decision `inconclusive`, where the measurements support no other.")
    ] = False,
    min_quality: MinQuality = 0.0,
    as_json: AsJson = False,
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """Compare a photo with another one, or with a subject. The exit status does not depend on the decision."""
    other: Side
    if reference is not None and gallery is None and subject is None:
        other = read_named_photo(reference, MAX_PHOTO_BYTES)
    elif reference is None and gallery is not None and subject is not None:
        other = Subject(gallery, subject)
    else:
        raise typer.BadParameter("give either a second photo, or --gallery and --subject")
    photo = read_named_photo(probe, MAX_PHOTO_BYTES)
    options: VerifyOptions = {
        "faces": faces,
        "operating_point": operating_point,
        "inconclusive": inconclusive,
        "min_quality": min_quality,
    }
    with connected(url, key_file) as client:
        answer = client.verify(photo, other, **options)
    if as_json:
        out.print_json(data=asdict(answer))
    else:
        _show_decision(answer)


@app.command()
def identify(
    photos: Annotated[list[Path], typer.Argument(help="Image files.")],
    gallery: Annotated[list[str], typer.Option(help="Name of a gallery; repeat the option to search several.")],
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="Maximum number of candidates for each face.")] = 3,
    fusion: Annotated[
        Literal["max", "mean", "quality-weighted"],
        typer.Option(help="How the similarities to the templates of a subject are combined."),
    ] = "max",
    assign: Annotated[
        Literal["independent", "unique"], typer.Option(help="unique: no subject is assigned to two faces of a photo.")
    ] = "independent",
    faces: Annotated[Faces, typer.Option(help="Which faces of a photo to use.")] = "all",
    operating_point: Annotated[
        str | None, typer.Option(help="For example fmr_1e-3, or none: the nearest candidates without a decision.")
    ] = None,
    min_quality: MinQuality = 0.0,
    as_json: AsJson = False,
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """Search galleries for the faces in photos. The exit status is 1 if a photo could not be used."""
    options: IdentifyOptions = {
        "k": k,
        "fusion": fusion,
        "assign": assign,
        "faces": faces,
        "operating_point": operating_point,
        "min_quality": min_quality,
    }
    with connected(url, key_file) as client:
        outcomes = [(path, _identify(client, path, gallery, options)) for path in photos]
    if as_json:
        out.print_json(data=[_record(*outcome) for outcome in outcomes])
    else:
        _show_candidates(outcomes)
    if any(isinstance(outcome, _Failed) for _, outcome in outcomes):
        raise typer.Exit(_SOME_FAILED)


def _identify(client: Client, path: Path, gallery: list[str], options: IdentifyOptions) -> _Outcome:
    """Search for the faces of one photo.

    Raises:
        ClientError: The search is invalid, or the service failed.
    """
    try:
        return client.identify(read_named_photo(path, MAX_PHOTO_BYTES), gallery=gallery, **options)
    except VultusError as error:
        return _Failed(error.code, str(error))
    except VultusProblem as error:
        if error.part is None or not error.part.startswith("images"):  # not the fault of the photo
            raise
        return _Failed(error.code, error.detail)


def _record(path: Path, outcome: _Outcome) -> dict[str, Any]:
    if isinstance(outcome, _Failed):
        return {"image": str(path), "status": "error", "code": outcome.code, "detail": outcome.reason}
    (item,) = outcome.items
    described = ("box", "quality", "decision", "refusal", "candidates")  # as `vultus identify`
    faces = [{name: asdict(face)[name] for name in described} for face in item.faces]
    return {"image": str(path), "status": "ok", "faces": faces}


def _show_candidates(outcomes: list[tuple[Path, _Outcome]]) -> None:
    table = FaceTable()
    found: IdentifyResponse | None = None
    for path, outcome in outcomes:
        if isinstance(outcome, _Failed):
            table.add_failure(path, outcome.reason)
            continue
        found = outcome
        (item,) = outcome.items
        if not item.faces:
            table.add_photo_without_face(path)
        for face in item.faces:
            table.add_face(path, face.box, face.refusal, face.candidates)
    table.show()
    if found and (point := found.operating_point) and (bound := found.fpir_bound) is not None:
        show_operating_point(point.name, point.threshold, point.measured_on, found.comparisons, bound)
    elif found and found.uncalibrated_because:
        say(f"Decisions are not available: {found.uncalibrated_because}.")


def _show_decision(answer: VerifyResponse) -> None:
    say(f"{answer.decision or 'no decision'}: the similarity is {answer.similarity:.3f}")
    if point := answer.operating_point:
        rate = "unknown" if answer.false_match_rate is None else f"at most {answer.false_match_rate:g}"
        say(
            f"A match requires a similarity of at least {point.threshold:.3f} (operating point {point.name}). "
            f"Comparisons: {answer.comparisons:,}. False match rate: {rate} (measured on {point.measured_on})."
        )
    elif answer.uncalibrated_because:
        say(f"Decisions are not available: {answer.uncalibrated_because}.")
