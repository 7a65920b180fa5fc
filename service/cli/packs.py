"""`vultus packs`: list, fetch and verify packs, and print their directories."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from models.errors import PackMissing, VultusError
from models.export.hub.packs import fetched_pack
from models.export.insightface_directory import Found, Wanted, read_directory
from models.export.packs import add_pack, fetch_pack
from models.hub import Hub, is_reference, parse_reference
from models.packs import Manifest, PackStore
from service.cli.output import out, progress_bars, say
from service.cli.tune import tune_with_progress
from service.self_tuning import describe_tuning
from service.settings import Settings, load_settings

app = typer.Typer(help="Fetch and check packs of models and photos.", no_args_is_help=True, add_completion=False)

Name = Annotated[str, typer.Argument(help="Name of a pack, or path of a .toml manifest.")]


def fetch_with_progress(store: PackStore, manifest: Manifest, mirror: Path | None = None) -> Path:
    """Fetch a pack, show progress bars, and return its directory."""
    with progress_bars("bytes") as progress:
        return fetch_pack(store, manifest, progress, mirror)


def add_with_progress(store: PackStore, manifest: Manifest) -> Path:
    """Convert the files of a pack, show progress, keep its manifest and return its directory."""
    with progress_bars("bytes") as progress:
        return add_pack(store, manifest, progress)


@app.command("list")
def list_packs() -> None:
    """List the known packs, the state of their files, and the data that their models were trained on."""
    store = PackStore(load_settings().packs_dir)
    manifests = store.manifests()
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
    settings = load_settings()
    store = PackStore(settings.packs_dir)
    manifest = store.find(name)
    path = fetch_with_progress(store, manifest, mirror)
    say(f"{name} is complete: {path}")
    if manifest.kind == "models" and settings.model is None:
        _tune(settings, {name, manifest.name})


def _tune(settings: Settings, fetched: set[str]) -> None:
    """Measure the configured models on this machine if a pack that was fetched is one of theirs."""
    if not fetched & {settings.pack, settings.detector}:
        return
    try:
        tuning = tune_with_progress(settings)
    except PackMissing as error:  # of the two packs of recognizer and detector, one is fetched first
        say(f"not measured on this machine yet: {error}")
        return
    if tuning is not None:
        say(describe_tuning(tuning))


@app.command()
def add(
    source: Annotated[
        str,
        typer.Argument(
            help="Directory with the ONNX files of InsightFace, such as ~/.insightface/models/buffalo_l, or "
            "hf:OWNER/REPO[@REVISION][/FOLDER]."
        ),
    ],
    name: Annotated[
        str | None, typer.Option(help="Name of the pack; that of the directory or repository if omitted.")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the weights, as /v1/info shows it.")] = None,
    detector: Annotated[str | None, typer.Option(help="File of the detector, if there are several.")] = None,
    recognizer: Annotated[str | None, typer.Option(help="File of the recognizer, if there are several.")] = None,
) -> None:
    """Add InsightFace's detector and recognizer in a directory or repository as a pack, with a proof of the conversion.

    Which file is which is told by inputs and outputs. Networks of landmarks and attributes are passed over.
    """
    found = _described(source, Wanted(name, licence, detector, recognizer))
    manifest, store = found.manifest, PackStore(load_settings().packs_dir)
    for entry, role in ((manifest.detector, "detector"), (manifest.recognizer, "recognizer")):
        say(f"{role}: {entry.file}; licence: {entry.licence}" if entry is not None else f"{role}: none")
    if found.passed_over:
        say(f"passed over: {', '.join(found.passed_over)}")
    path = add_with_progress(store, manifest)
    say(f"{manifest.name} is complete: {path}")
    say(_how_to_serve(manifest))


def _described(source: str, wanted: Wanted) -> Found:
    """Describe the models of a directory as a pack, or fetch them from the Hugging Face Hub and describe them."""
    if not is_reference(source):
        return read_directory(Path(source), wanted)
    reference = parse_reference(source)
    with progress_bars("bytes") as progress:
        return fetched_pack(Hub(progress), reference, wanted)


def _how_to_serve(manifest: Manifest) -> str:
    name = manifest.name
    if manifest.recognizer is None:
        return (
            f"It has no recognizer. Serve its detector with VULTUS_DETECTOR={name}, beside the recognizer of "
            "VULTUS_PACK or VULTUS_MODEL, whose error rates were not measured with it: calibrate again with vultus "
            "calibrate DIRECTORY"
        )
    choice = f"VULTUS_PACK={name}" if manifest.detector else f"VULTUS_PACK={name} VULTUS_DETECTOR=opencv-zoo"
    lacks = "" if manifest.detector else "It has no detector, so choose that of another pack. "
    return (
        f"{lacks}Serve it with {choice}. It has no error rates yet, so it gives similarities without decisions; "
        f"measure it on pictures of people you know: {choice} vultus calibrate DIRECTORY"
    )


@app.command()
def verify(name: Name) -> None:
    """Check every file of a pack against its digest."""
    store = PackStore(load_settings().packs_dir)
    path = store.verify(store.find(name))
    say(f"{name} is intact: {path}")


@app.command()
def path(name: Name) -> None:
    """Print the directory of a pack."""
    store = PackStore(load_settings().packs_dir)
    print(store.path(store.find(name)))  # noqa: T201  # plain text, for scripts


def _state(store: PackStore, manifest: Manifest) -> str:
    try:
        store.verify(manifest)
    except VultusError as error:
        return error.code.removeprefix("pack_")
    return "intact"
