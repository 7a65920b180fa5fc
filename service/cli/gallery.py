"""`vultus gallery`: manage the galleries of the data directory while no service has them open."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from models.artefact.directories import link_target, sync
from models.errors import StorageFailed
from models.text import printable
from service.audit.records import Action, Event
from service.cli.auditing import audited
from service.cli.output import err, out, progress_bars, say
from service.errors import ContractMismatch, GalleryExists, LineMalformed
from service.gallery.administration import create_gallery, list_galleries, list_subjects, read_gallery
from service.gallery.consistency import check_consistency, check_erasure, size_of
from service.gallery.encryption import encryption_of
from service.gallery.erasure import erase_gallery, erase_subject
from service.gallery.exchange import ImportCounts, Importer, export_lines, store_all
from service.gallery.expiry import due_until, subjects_lacking
from service.gallery.galleries import Galleries
from service.gallery.pseudonyms import pseudonyms_of_names
from service.security.keys.rates import parse_lifetime
from service.settings import load_settings
from service.startup import open_models_and_galleries
from service.times import written_time

app = typer.Typer(
    help="Manage the galleries of the data directory while no service uses them.",
    no_args_is_help=True,
    add_completion=False,
)

Name = Annotated[str, typer.Argument(help="Name of a gallery.")]

_FAULTY = 1  # exit status
_ALL = -1  # no limit
_PROGRESS_EVERY = 1024  # lines


@app.command("list")
def list_all() -> None:
    """List the galleries with the numbers of their subjects and templates."""
    table = Table("gallery", "subjects", "templates", "index", "contract")
    for column in table.columns:
        column.overflow = "fold"  # names must not be truncated
    with _opened(build=False) as galleries:
        for gallery, subjects, templates in list_galleries(galleries, "", _ALL):
            table.add_row(escape(gallery.name), f"{subjects:,}", f"{templates:,}", gallery.index, gallery.contract_id)
    out.print(table)


@app.command()
def stats(name: Name) -> None:
    """Describe a gallery and count its contents."""
    with _opened(build=False) as galleries:
        gallery, subjects, templates = read_gallery(galleries, name)
        counts = sorted(subject.template_count for subject in list_subjects(galleries, name, "", _ALL))
        store_bytes = size_of(galleries)
    table = Table(show_header=False)
    for label, value in (
        ("subjects", f"{subjects:,}, {counts.count(0):,} of them without templates"),
        ("templates", f"{templates:,}"),
        (
            "templates per subject",
            f"{counts[0]} to {counts[-1]}, median {counts[len(counts) // 2]}" if counts else "—",
        ),
        ("index", gallery.index),
        ("contract", gallery.contract_id),
        ("dimensions", str(gallery.dimensions)),
        ("aligned crops", "stored" if gallery.keep_crops else "not stored"),
        ("size of all galleries on disk", f"{store_bytes / 2**20:,.1f} MiB"),
    ):
        table.add_row(label, value)
    out.print(table)


@app.command()
def verify(
    name: Annotated[str | None, typer.Argument(help="Name of a gallery; default: all.")] = None,
    erasure: Annotated[
        bool, typer.Option(help="Also rewrite the store, and check that no file contains erased data.")
    ] = False,
) -> None:
    """Compare the index of a gallery, or of all, with the store. The exit status is 1 if they differ."""
    faults: list[str] = []
    with _opened() as galleries:
        names = [name] if name else [gallery.name for gallery, _, _ in list_galleries(galleries, "", _ALL)]
        for checked in names:
            with _busy(f"comparing {checked}"):
                report = check_consistency(galleries, checked)
            findings = "; ".join(report.faults) or "agrees with the store"
            say(f"{checked}: {report.template_count:,} templates, index {report.index}: {findings}")
            faults += report.faults
        if erasure:
            with _busy("rewriting the store"):
                erased = check_erasure(galleries)
            findings = "; ".join(erased.faults) or "no file contains erased data"
            say(f"{erased.files} files, {erased.bytes_before:,} bytes before, {erased.bytes_after:,} after: {findings}")
            faults += erased.faults
    if faults:
        raise typer.Exit(_FAULTY)


@app.command()
def rebuild(name: Name) -> None:
    """Rebuild the index of a gallery from the store."""
    with _opened(build=False) as galleries, _busy(f"rebuilding the index of {name}"):
        gallery, _, templates = read_gallery(galleries, name)
        live = galleries.live(gallery)
        galleries.rebuild(live, ignore_snapshot=True).result()
    say(f"{name}: {templates:,} templates, index {live.current.kind if live.current else 'missing'}")


@app.command("export")
def export(name: Name, out: Annotated[Path, typer.Option("--out", help="File to write, in NDJSON.")]) -> None:
    """Write all templates of a gallery to a file, with their contract id. The file appears once it is complete."""
    if not out.name or (out.exists() and not out.is_file()):
        raise StorageFailed(f"{out} cannot be written: it is not a regular file")
    target = link_target(out)
    part = target.with_name(target.name + ".part")
    with _opened(build=False) as galleries, audited("vultus gallery export") as record:
        _, _, templates = read_gallery(galleries, name)
        lines = export_lines(galleries, name)
        record([Event("export", [name], count=templates)])
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file, progress_bars() as progress:
                for number, line in enumerate(lines):
                    file.write(line)
                    if number % _PROGRESS_EVERY == 0:
                        progress("templates", number, templates)
            sync(part)
            part.rename(target)
        except BaseException as error:  # also an interrupt: no partial file may remain
            with suppress(OSError):
                part.unlink()
            if isinstance(error, OSError):
                raise StorageFailed(f"{out} cannot be written: {error.strerror}") from error
            raise
    say(f"{name}: {templates:,} templates in {out}")


@app.command("import")
def import_(
    name: Name, path: Annotated[Path, typer.Argument(help="File written by `vultus gallery export`.", dir_okay=False)]
) -> None:
    """Import an exported file. Stored templates are skipped. The gallery is created if it does not exist."""
    done = ImportCounts()
    try:
        with (
            path.open("rb") as file,
            open_models_and_galleries() as (galleries, _),
            audited("vultus gallery import") as record,
            progress_bars("bytes") as progress,
        ):
            created = require_or_make(galleries, name)
            size = path.stat().st_size
            importer = Importer(galleries, name)
            try:
                for _ in store_all(importer, file):
                    progress("importing", file.tell(), size)
            except (ContractMismatch, LineMalformed):
                if created and not read_gallery(galleries, name)[1]:  # nothing of the file is stored
                    erase_gallery(galleries, name)
                raise
            finally:
                done = importer.counts  # also of the lines before an invalid one
                record([Event("import", [name], count=done.enrolled)])
    except OSError as error:
        raise LineMalformed(f"{path} cannot be read: {error.strerror}") from error
    say(
        f"{name}: {done.enrolled:,} new templates, {done.duplicates:,} already stored, "
        f"{done.refused:,} stored for another subject"
    )


@app.command()
def erase(
    name: Name,
    subject: Annotated[str | None, typer.Argument(help="Name of a subject; default: the whole gallery.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
) -> None:
    """Erase a subject, or a gallery with its contents, and print the receipt."""
    what = f"the subject {subject} of the gallery {name}" if subject else f"the gallery {name} with its contents"
    if not yes:
        typer.confirm(f"Erase {what}? This cannot be undone.", abort=True)
    with _opened() as galleries, audited("vultus gallery erase") as record:
        galleries.wait_idle()
        subjects = pseudonyms_of_names(galleries, name, [subject] if subject else [])
        receipt = erase_subject(galleries, name, subject) if subject else erase_gallery(galleries, name)
        action: Action = "erase_subject" if subject else "erase_gallery"
        record([Event(action, [name], subjects, count=receipt.template_count)])
        galleries.wait_idle()
    say(
        f"erasure {receipt.erasure}: {receipt.what}, {receipt.subject_count} subjects, "
        f"{receipt.template_count} templates, {receipt.crop_count} crops"
    )


@app.command()
def due(
    name: Annotated[str | None, typer.Argument(help="Name of a gallery; default: all.")] = None,
    within: Annotated[str, typer.Option(help="Time in which it expires, such as 12h or 30d.")] = "30d",
    lacking: Annotated[
        str | None,
        typer.Option(help="List the subjects whose metadata lack this member instead, such as consent or legal_basis."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List who expires soon, or whose metadata lack a member, such as a reference to their consent."""
    until = time.time() + parse_lifetime(within)
    with _opened(build=False) as galleries:
        if lacking is not None:
            _show_lacking(galleries, name, lacking, as_json)
            return
        found = [entry for entry in due_until(galleries, until) if name in (None, entry.gallery)]
    if as_json:
        say(json.dumps([{**entry._asdict(), "expires": written_time(entry.expires)} for entry in found]))
        return
    table = Table("expires", "gallery", "subject", "what")
    for entry in found:
        what = f"{entry.template_count:,} templates" if entry.template_count else "the subject"
        table.add_row(
            written_time(entry.expires), escape(printable(entry.gallery)), escape(printable(entry.subject)), what
        )
    out.print(table)


def _show_lacking(galleries: Galleries, name: str | None, member: str, as_json: bool) -> None:
    names = [name] if name else [gallery.name for gallery, _, _ in list_galleries(galleries, "", _ALL)]
    found = [(gallery, subject) for gallery in names for subject in subjects_lacking(galleries, gallery, member)]
    if as_json:
        say(json.dumps([{"gallery": gallery, "subject": subject} for gallery, subject in found]))
        return
    for gallery, subject in found:
        say(f"{gallery}/{subject}")


def require_or_make(galleries: Galleries, name: str) -> bool:
    """Create a gallery unless one with this name exists. Return whether it was created."""
    try:
        create_gallery(galleries, name)
    except GalleryExists:
        return False
    return True


@contextmanager
def _opened(build: bool = True) -> Iterator[Galleries]:
    """Open the galleries without loading a model, because nothing is embedded."""
    settings = load_settings()
    galleries = Galleries(
        settings.galleries_dir,
        None,
        0,
        build=build,
        erasure_log=settings.gallery.erasure_log,
        encryption=encryption_of(settings),
    )
    try:
        yield galleries
    finally:
        galleries.close()


@contextmanager
def _busy(what: str) -> Iterator[None]:
    """Show a spinner until the block ends."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as bars:
        bars.add_task(what, total=None)
        yield
