"""`vultus takeover`: take over the subjects and photos of another product."""

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from models.errors import VultusError
from service.audit.events import enrolment_event
from service.audit.records import Event
from service.cli.auditing import audited
from service.cli.gallery import require_or_make
from service.cli.outcome_report import OutcomeReport
from service.cli.output import progress_bars, say
from service.errors import TakeoverFailed
from service.gallery.pseudonyms import pseudonyms_of_names
from service.operations.acquire import Requirements
from service.settings import load_settings
from service.startup import open_models_and_galleries
from service.takeover.compreface import take_over_photos, take_over_subjects, taken_over
from service.takeover.compreface_source import CompreFaceSource

app = typer.Typer(
    help="Take over the subjects and photos of another product, through its own API.",
    no_args_is_help=True,
    add_completion=False,
)

_KEY_VARIABLE = "COMPREFACE_API_KEY"
_SOME_REFUSED = 1  # exit status
_NOT_KEPT = "photo_unreachable"


@app.callback()
def takeover() -> None:
    """Take over the subjects and photos of another product, through its own API."""


@app.command()
def compreface(
    url: Annotated[str, typer.Argument(help="Address of the running CompreFace, such as http://127.0.0.1:8000.")],
    gallery: Annotated[str, typer.Option(help="Name of the gallery; created if it does not exist.")],
    key_file: Annotated[
        Path | None,
        typer.Option(help=f"File with the key of the recognition service; default: {_KEY_VARIABLE}.", dir_okay=False),
    ] = None,
    faces: Annotated[
        Literal["single", "largest", "central"], typer.Option(help="Which face to enrol if a photo has several.")
    ] = "single",
    report: Annotated[
        Path | None, typer.Option(help="CSV file to write, with each photo that was not taken over and the reason.")
    ] = None,
) -> None:
    """Take over the subjects and photos of a recognition service of CompreFace.

    The photos are fetched and embedded anew, because the model is another one. After an interruption, run it again:
    what was taken over is not fetched again. The exit status is 1 if photos were not taken over.
    """
    key = key_file.read_text().strip() if key_file else os.environ.get(_KEY_VARIABLE, "").strip()
    outcomes = OutcomeReport(report, [key_file] if key_file else [])
    with (
        CompreFaceSource(url, key, load_settings().image.max_bytes) as source,
        open_models_and_galleries() as (galleries, models),
        audited("vultus takeover") as record,
        progress_bars() as progress,
    ):
        total = source.count()  # also tells whether the address and the key are right
        require_or_make(galleries, gallery)
        taken = take_over_subjects(source, galleries, gallery)
        names = taken.names
        if taken.created:
            record([Event("create_subject", [gallery], pseudonyms_of_names(galleries, gallery, taken.created))])
        for name, error in taken.refused.items():
            outcomes.refuse("", name, error.code, str(error))
        known = taken_over(galleries, gallery)
        left = (example for example in source.examples() if example.image_id not in known)
        before = len(known)
        try:
            for batch in take_over_photos(source, galleries, models, gallery, taken, left, Requirements(faces)):
                subjects = [names.get(example.subject, example.subject) for example, _ in batch]
                record([enrolment_event(galleries, gallery, subjects, [outcome for _, outcome in batch])])
                for example, outcome in batch:
                    if isinstance(outcome, VultusError):
                        outcomes.refuse(example.image_id, example.subject, outcome.code, str(outcome))
                    else:
                        outcomes.store(outcome.outcome)
                progress("taking over", min(total, before + outcomes.total), total)
        finally:  # also after an interrupt
            outcomes.write()
    say(f"{len(names):,} subjects, {total:,} examples; {before:,} of them were taken over before")
    outcomes.show()
    if outcomes.total and outcomes.counts[_NOT_KEPT] == outcomes.total:
        raise TakeoverFailed(
            "CompreFace keeps no photos (save_images_to_db=false), and embeddings of its model cannot be used with "
            "another one; enrol the photos from where you have them"
        )
    if outcomes.refused:
        raise typer.Exit(_SOME_REFUSED)
