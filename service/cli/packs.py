"""`vultus packs`: list, fetch and verify packs, and print their directories."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from models.errors import VultusError
from models.export.packs import fetch_pack
from models.packs import Manifest, PackStore, find_manifest, list_manifests
from service.cli.output import out, progress_bars, say
from service.cli.tune import tune_with_progress
from service.self_tuning import describe_tuning
from service.settings import load_settings

app = typer.Typer(help="Fetch and check packs of models and photos.", no_args_is_help=True, add_completion=False)

Name = Annotated[str, typer.Argument(help="Name of a pack, or path of a .toml manifest.")]


def fetch_with_progress(store: PackStore, manifest: Manifest, mirror: Path | None = None) -> Path:
    """Fetch a pack, show progress bars, and return its directory."""
    with progress_bars("bytes") as progress:
        return fetch_pack(store, manifest, progress, mirror)


@app.command("list")
def list_packs() -> None:
    """List the known packs, the state of their files, and the data that their models were trained on."""
    store, manifests = PackStore(load_settings().packs_dir), list_manifests()
    table = Table("pack", "contents", "licence", "state")
    for manifest in manifests:
        entries = (manifest.detector, manifest.recognizer)
        licences = ", ".join(sorted({entry.licence for entry in entries if entry}))
        table.add_row(manifest.name, manifest.summary, licences, _state(store, manifest))
    out.print(table)
    for manifest in manifests:
        for entry in (manifest.detector, manifest.recognizer):
            if entry is not None:
                say(f"{manifest.name}, {entry.family}: training data: {entry.training_data}")


@app.command()
def fetch(
    name: Name,
    mirror: Annotated[
        Path | None, typer.Option("--from", help="Directory to try before the sources in the manifest.")
    ] = None,
) -> None:
    """Fetch a pack, convert its models and prove the conversion. A complete pack is not changed."""
    settings, manifest = load_settings(), find_manifest(name)
    path = fetch_with_progress(PackStore(settings.packs_dir), manifest, mirror)
    say(f"{name} is complete: {path}")
    if manifest.kind == "models" and settings.pack in (name, manifest.name) and settings.model is None:
        tuning = tune_with_progress(settings)
        if tuning is not None:
            say(describe_tuning(tuning))


@app.command()
def verify(name: Name) -> None:
    """Check every file of a pack against its digest."""
    path = PackStore(load_settings().packs_dir).verify(find_manifest(name))
    say(f"{name} is intact: {path}")


@app.command()
def path(name: Name) -> None:
    """Print the directory of a pack."""
    print(PackStore(load_settings().packs_dir).path(find_manifest(name)))  # noqa: T201  # plain text, for scripts


def _state(store: PackStore, manifest: Manifest) -> str:
    try:
        store.verify(manifest)
    except VultusError as error:
        return error.code.removeprefix("pack_")
    return "intact"
