"""What the commands that measure share: their options, the model under evaluation, and where numbers go."""

import inspect
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from models.artefact.directories import write_text
from models.errors import StorageFailed
from models.evaluation.model import EvaluatedModel
from models.evaluation.reports.document import Evaluation
from models.evaluation.reports.html import cell_text, write_report
from models.extras import require_extra
from models.packs import PackStore, find_manifest
from models.serving.load import load_models
from service.cli.output import out, printable, progress_bars, say
from service.settings import load_settings
from service.version import VERSION

EngineChoice = Literal["auto", "openvino", "onnxruntime"]
PrecisionChoice = Literal["auto", "fp32", "bf16", "fp16", "int8"]

Directory = Annotated[Path, typer.Argument(exists=True, file_okay=False)]
Policy = Annotated[
    Literal["largest", "central", "single"],
    typer.Option("--faces", help="Which face is meant when there are several."),
]
Listed = Annotated[Path | None, typer.Option("--csv", help="Columns `image` and `subject`, in place of folders.")]
CohortFile = Annotated[
    Path | None, typer.Option("--cohorts", help="CSV: `image` or `subject`, and columns that divide people.")
]
Model = Annotated[Path | None, typer.Option("--model", help="An exported artefact; by default what is served.")]
Engine = Annotated[EngineChoice | None, typer.Option("--engine", help="By default what is served.")]
Precision = Annotated[PrecisionChoice | None, typer.Option("--precision", help="By default what is served.")]
Missing = Annotated[
    int, typer.Option("--max-missing", min=0, help="How many files may be missing, or unreadable in a .bin set.")
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Neither use nor keep known embeddings.")]
Html = Annotated[Path | None, typer.Option("--html", help="Report with charts, one self-contained file.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="All numbers; - is the terminal.")]

TERMINAL = Path("-")
_LONGEST_TABLE = 12


def measured(command: Callable[..., Sequence[Evaluation]]) -> Callable[..., None]:
    """Give a command that measures a model the options that all such commands have, and show what it found.

    Args:
        command: Takes the model, then options of its own.
    """

    def run(**options: Any) -> None:
        own = {name: value for name, value in options.items() if name not in shared}
        html, json_file = options["html"], options["json_file"]
        _require_writable(html, json_file)
        choice = {name: options[name] for name in ("model", "engine", "precision", "max_missing", "no_cache")}
        with evaluated_model(**choice) as under:
            found = command(under, **own)
        _tell(found, html, json_file)

    shared = inspect.signature(_shared_options).parameters
    _, *specific = inspect.signature(command).parameters.values()
    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in (*specific, *shared.values())]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__doc__, run.__name__ = command.__doc__, command.__name__
    return run


def _shared_options(
    model: Model = None,
    engine: Engine = None,
    precision: Precision = None,
    max_missing: Missing = 0,
    no_cache: NoCache = False,
    html: Html = None,
    json_file: JsonFile = None,
) -> None:
    """Hold the options that every command that measures has."""


@contextmanager
def evaluated_model(
    model: Path | None,
    engine: EngineChoice | None,
    precision: PrecisionChoice | None,
    max_missing: int,
    no_cache: bool,
) -> Iterator[EvaluatedModel]:
    """Load what is to be measured, and show what it is at while it is measured."""
    settings = load_settings()
    artefact = model or settings.model
    runtime = settings.runtime.options()
    runtime = replace(runtime, engine=engine or runtime.engine, precision=precision or runtime.precision)
    models = load_models(
        PackStore(settings.packs_dir),
        find_manifest(settings.pack),
        runtime,
        settings.detection.options(),
        settings.image.limits(),
        artefact,
    )
    with progress_bars() as progress:
        cache = None if no_cache else settings.data_dir / "evaluations"
        yield EvaluatedModel(models, cache, progress, max_missing, artefact)


def _require_writable(html: Path | None, json_file: Path | None) -> None:
    """Refuse before the work what could not be written after it.

    Raises:
        ExtraMissing: What draws is not installed.
        StorageFailed: The directory of a file is not there.
    """
    if html is not None:
        require_extra("evaluate")
    for path in (html, json_file):
        if path is not None and path != TERMINAL:
            require_place(path)


def require_place(path: Path) -> None:
    """Refuse a file that could not be there.

    Raises:
        StorageFailed: It is a directory, or its directory is not there.
    """
    if path.is_dir():
        raise StorageFailed(f"{path} cannot be written: it is a directory")
    if not path.absolute().parent.is_dir():
        raise StorageFailed(f"{path} cannot be written: there is no directory {path.absolute().parent}")


def _tell(found: Sequence[Evaluation], html: Path | None, json_file: Path | None) -> None:
    """Print what was found, and write it where that is asked for.

    Raises:
        StorageFailed: The file system refused.
    """
    if json_file is not None:
        _write_json(json_file, found)
    if html is not None:
        os.environ.setdefault("MPLCONFIGDIR", str(load_settings().data_dir / "matplotlib"))  # else HOME gets its fonts
        write_report(html, found, f"Vultus {VERSION}")
    if json_file != TERMINAL:  # last: who reads may have gone
        for one in found:
            _show(one)
        if html is not None:
            say(f"report: {html}")


def _write_json(path: Path, found: Sequence[Evaluation]) -> None:
    content = json.dumps({"program": f"vultus {VERSION}", "evaluations": [one.record() for one in found]}, indent=1)
    if path == TERMINAL:
        print(content)  # noqa: T201  # for other programs
        return
    write_text(path, content + "\n")


def _show(evaluation: Evaluation) -> None:
    out.print(f"\n[bold]{escape(printable(evaluation.title))}[/bold]", highlight=False)
    about = evaluation.conditions
    say(f"{about['recognizer']} by {about['engine']} in {about['precision']}, contract {about['contract_id']}")
    for figure in evaluation.figures:
        if figure.text:
            say(f"  {figure.text}")
    for table in evaluation.tables:
        if table.rows and not table.detail:
            title = escape(printable(table.title))
            shown = Table(
                *(escape(printable(column)) for column in table.columns),
                title=title,
                title_justify="left",
                box=box.SIMPLE_HEAD,
                padding=(0, 1, 0, 0),
            )
            for column in shown.columns:
                column.overflow = "fold"  # a name that is cut short is another name
            for row in table.rows[:_LONGEST_TABLE]:
                shown.add_row(*(escape(cell_text(cell)) for cell in row))
            out.print(shown)
            if len(table.rows) > _LONGEST_TABLE:
                say(f"… {len(table.rows) - _LONGEST_TABLE:,} more: --html, --json")
    for note in evaluation.notes:
        say(note)
