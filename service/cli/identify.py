"""`vultus identify`: search galleries for the faces in photos."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from models.deadline import Deadline
from models.detection.policy import FacePolicy
from models.errors import VultusError
from models.quality import Gate
from models.serving.models import Models
from service.audit.events import identification_events
from service.cli.auditing import Record, audited
from service.cli.face_table import FaceTable, show_operating_point
from service.cli.output import out
from service.cli.photo_files import read_named_photo
from service.gallery.galleries import Galleries
from service.gallery.records import Fusion
from service.operations.identify import Identification, IdentifiedProbe, Search
from service.operations.identify import identify as identify_photos
from service.startup import open_models_and_galleries

_SOME_FAILED = 1  # exit status
_PHOTOS_AT_ONCE = 16

_Answer = tuple[Path, IdentifiedProbe | VultusError]


def identify(
    photos: Annotated[list[Path], typer.Argument(help="Image files.")],
    gallery: Annotated[list[str], typer.Option(help="Name of a gallery; repeat the option to search several.")],
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="Maximum number of candidates for each face.")] = 3,
    fusion: Annotated[
        Fusion, typer.Option(help="How the similarities to the templates of a subject are combined.")
    ] = "max",
    assign: Annotated[
        Literal["independent", "unique"], typer.Option(help="unique: no subject is assigned to two faces of a photo.")
    ] = "independent",
    faces: Annotated[FacePolicy, typer.Option(help="Which faces of a photo to use.")] = "all",
    operating_point: Annotated[
        str | None, typer.Option(help="For example fmr_1e-3, or none: the nearest candidates without a decision.")
    ] = None,
    min_quality: Annotated[
        float, typer.Option(min=0, max=100, help="Minimum quality; requires a validated quality map.")
    ] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the candidates as JSON.")] = False,
) -> None:
    """Search galleries for the faces in photos. The exit status is 1 if a photo could not be used."""
    search = Search(tuple(gallery), k, fusion, assign == "unique", faces, operating_point, Gate(min_quality))
    answers: list[_Answer] = []
    with open_models_and_galleries() as (galleries, models), audited("vultus identify") as record:
        # Search without photos, so that an invalid search fails before a photo is read.
        found = identify_photos(galleries, models, [], search, Deadline())
        for start in range(0, len(photos), _PHOTOS_AT_ONCE):
            answers += _identify_paths(galleries, models, photos[start : start + _PHOTOS_AT_ONCE], search, record)
    if as_json:
        out.print_json(data=[_record(*answer) for answer in answers])
    else:
        _show(answers, found, models)
    if any(isinstance(outcome, VultusError) for _, outcome in answers):
        raise typer.Exit(_SOME_FAILED)


def _identify_paths(
    galleries: Galleries, models: Models, paths: list[Path], search: Search, record: Record
) -> list[_Answer]:
    images: list[bytes | VultusError] = []
    for path in paths:
        try:
            images.append(read_named_photo(path, models.pipeline.limits.max_bytes))
        except VultusError as error:
            images.append(error)
    contents = [image for image in images if isinstance(image, bytes)]
    found = identify_photos(galleries, models, contents, search, Deadline())
    record(list(identification_events(galleries, search.galleries, found)))
    probes = iter(found.probes)
    return [
        (path, next(probes) if isinstance(image, bytes) else image) for path, image in zip(paths, images, strict=True)
    ]


def _record(path: Path, outcome: IdentifiedProbe | VultusError) -> dict[str, Any]:
    if isinstance(outcome, VultusError):
        return {"image": str(path), "status": "error", "code": outcome.code, "detail": str(outcome)}
    described = []
    for face in outcome.faces:
        judged = face.judged
        described.append(
            {
                "box": judged.face.face.box.tolist() if judged else None,
                "quality": judged.assessment.quality if judged else None,
                "decision": face.decision,
                "refusal": judged.refusal.code if judged and judged.refusal else None,
                "candidates": [
                    {"gallery": c.gallery, "subject": c.subject, "similarity": c.similarity} for c in face.candidates
                ],
            }
        )
    return {"image": str(path), "status": "ok", "faces": described}


def _show(answers: list[_Answer], found: Identification, models: Models) -> None:
    table = FaceTable()
    for path, outcome in answers:
        if isinstance(outcome, VultusError):
            table.add_failure(path, str(outcome))
            continue
        if not outcome.faces:
            table.add_photo_without_face(path)
        for face in outcome.faces:
            box = face.judged.face.face.box.tolist() if face.judged else None
            refusal = face.judged.refusal.code if face.judged and face.judged.refusal else None
            table.add_face(path, box, refusal, face.candidates)
    table.show()
    if (point := found.point) and (bound := found.fpir_bound) is not None:
        show_operating_point(point.name, point.threshold, point.measured_on, found.comparisons, bound)
    elif models.uncalibrated_because:
        out.print(f"Decisions are not available: {models.uncalibrated_because}.", highlight=False, soft_wrap=True)
