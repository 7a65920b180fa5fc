"""`vultus packs`: list, fetch, verify, and tell where packs lie."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from models.errors import VultusError
from models.packs import Manifest, PackStore, find_manifest, list_manifests
from service.settings import load_settings

app = typer.Typer(help="Models and photos by name.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of a pack, or path of a manifest that ends in .toml.")]

_out = Console()
_err = Console(stderr=True)


def fetch_with_progress(store: PackStore, manifest: Manifest, mirror: Path | None = None) -> Path:
    """Fetch a pack, showing what arrives."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=_err, transient=not _err.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        return store.fetch(manifest, show, mirror)


@app.command("list")
def list_packs() -> None:
    """List the packs there are and whether they are here."""
    store = PackStore(load_settings().packs_dir)
    table = Table("pack", "what", "licence", "state")
    for manifest in list_manifests():
        entries = (manifest.detector, manifest.recognizer)
        licences = ", ".join(sorted({entry.licence for entry in entries if entry}))
        table.add_row(manifest.name, manifest.summary, licences, _state(store, manifest))
    _out.print(table)


@app.command()
def fetch(
    name: Name,
    mirror: Annotated[
        Path | None, typer.Option("--from", help="Directory that is tried before the manifest's own sources.")
    ] = None,
) -> None:
    """Fetch a pack, convert it and prove the conversion; nothing is done if it is here and whole."""
    path = fetch_with_progress(PackStore(load_settings().packs_dir), find_manifest(name), mirror)
    _out.print(f"{name} is here and whole: {path}", soft_wrap=True)


@app.command()
def verify(name: Name) -> None:
    """Check every byte of a pack against its digests."""
    path = PackStore(load_settings().packs_dir).verify(find_manifest(name))
    _out.print(f"{name} is whole: {path}", soft_wrap=True)


@app.command()
def path(name: Name) -> None:
    """Print the directory of a pack."""
    print(PackStore(load_settings().packs_dir).path(find_manifest(name)))  # noqa: T201  # for scripts


def _state(store: PackStore, manifest: Manifest) -> str:
    try:
        store.verify(manifest)
    except VultusError as error:
        return error.code.removeprefix("pack_")
    return "whole"
