"""Shared parts of the commands that measure a model: options, the model under evaluation, and the output."""

import inspect
import json
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from models.artefact.directories import write_text
from models.errors import ArtefactUnfit, StorageFailed
from models.evaluation.model import EvaluatedModel
from models.evaluation.reports.document import Evaluation
from models.evaluation.reports.html import cell_text, write_report
from models.packs import PackStore
from models.photo_folders.formats import has_photo_suffix
from models.runtime.session import Precision
from models.serving.load import load_models
from models.text import printable
from service.cli.kept_reports import NoKeepOption, keep
from service.cli.output import out, progress_bars, say
from service.reports.names import ReportKind
from service.settings import load_settings
from service.startup import chosen_models
from service.version import VERSION

EngineChoice = Literal["auto", "openvino", "onnxruntime"]
PrecisionChoice = Literal["auto", Precision]

DirectoryArgument = Annotated[
    Path, typer.Argument(metavar="DIRECTORY", help="Directory of the pictures.", exists=True, file_okay=False)
]
PolicyOption = Annotated[
    Literal["largest", "central", "single"],
    typer.Option("--faces", help="Which face to use if a photo has several."),
]
ListedOption = Annotated[
    Path | None,
    typer.Option(
        "--csv",
        help="CSV file with the columns `image` and `subject`, instead of folders; paths relative to DIRECTORY.",
    ),
]
CohortFileOption = Annotated[
    Path | None,
    typer.Option("--cohorts", help="CSV file with a column `image` or `subject`, and the attributes."),
]
ModelOption = Annotated[
    Path | None, typer.Option("--model", help="Directory of an exported artefact; default: the served model.")
]
EngineOption = Annotated[EngineChoice | None, typer.Option("--engine", help="Inference engine; default: as served.")]
PrecisionOption = Annotated[
    PrecisionChoice | None, typer.Option("--precision", help="Numeric precision; default: as served.")
]
MissingOption = Annotated[
    int, typer.Option("--max-missing", min=0, help="Maximum number of missing files, or unreadable ones of a .bin set.")
]
NoCacheOption = Annotated[bool, typer.Option("--no-cache", help="Do not use the embedding cache.")]
HtmlOption = Annotated[
    Path | None, typer.Option("--html", help="HTML file to write: a self-contained report with charts.")
]
JsonFileOption = Annotated[
    Path | None, typer.Option("--json", help="JSON file to write, with all numbers; - prints to standard output.")
]

TERMINAL = Path("-")
_MAX_TABLE_ROWS = 12
_REPORT_SUFFIXES = (".html", ".json", ".csv")


def measured(command: Callable[..., Sequence[Evaluation]]) -> Callable[..., None]:
    """Return a command that loads a model, measures it, and prints the evaluations.

    Args:
        command: Measures a model. Its parameters are the model and its specific options.

    Returns:
        A function whose signature has the specific and the shared options, for Typer.
    """

    def measure(choice: dict[str, Any], arguments: dict[str, Any]) -> Sequence[Evaluation]:
        with evaluated_model(**choice) as model:
            return command(model, **arguments)

    return _command(command, measure, "evaluation")


def measured_in_all_precisions(command: Callable[..., Sequence[Evaluation]]) -> Callable[..., None]:
    """Return a command that measures the model in every precision that the machine can serve it in.

    Args:
        command: Measures models. Its parameters are an iterable that loads one model after the other, and its specific
            options.

    Returns:
        A function whose signature has the specific and the shared options, for Typer.
    """

    def measure(choice: dict[str, Any], arguments: dict[str, Any]) -> Sequence[Evaluation]:
        with closing(_in_all_precisions(choice)) as models:
            return command(models, **arguments)

    return _command(command, measure, "calibration")


def _command(
    command: Callable[..., Sequence[Evaluation]],
    measure: Callable[[dict[str, Any], dict[str, Any]], Sequence[Evaluation]],
    kind: ReportKind,
) -> Callable[..., None]:
    """Return the function for Typer; `measure` gets the choice of the model and the specific options.

    Args:
        command: The command.
        measure: Runs it.
        kind: Kind of its report, which is kept.
    """

    def run(**options: Any) -> None:
        arguments = {name: value for name, value in options.items() if name not in shared}
        html, json_file = options["html"], options["json_file"]
        _require_writable(html, json_file)
        inputs = [path for name, value in arguments.items() if name != "out" for path in _paths(value)]
        for output in (html, json_file, arguments.get("out")):
            if output is not None:
                refuse_input(output, inputs)
        choice = {name: options[name] for name in ("model", "engine", "precision", "max_missing", "no_cache")}
        evaluations = measure(choice, arguments)
        if not options["no_keep"]:
            keep(kind, evaluations)
        _report(evaluations, html, json_file)

    shared = inspect.signature(_shared_options).parameters
    _, *specific = inspect.signature(command).parameters.values()
    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in (*specific, *shared.values())]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # Typer reads it
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__doc__, run.__name__ = command.__doc__, command.__name__
    return run


def _shared_options(
    model: ModelOption = None,
    engine: EngineOption = None,
    precision: PrecisionOption = None,
    max_missing: MissingOption = 0,
    no_cache: NoCacheOption = False,
    html: HtmlOption = None,
    json_file: JsonFileOption = None,
    no_keep: NoKeepOption = False,
) -> None:
    """Declare the options that all measuring commands share."""


@contextmanager
def evaluated_model(
    model: Path | None,
    engine: EngineChoice | None,
    precision: PrecisionChoice | None,
    max_missing: int,
    no_cache: bool,
) -> Iterator[EvaluatedModel]:
    """Load the model to measure, and show progress bars until the block ends.

    Args:
        model: Directory of an exported artefact; None for the served model.
        engine: Inference engine; None for the one of the settings.
        precision: Precision; None for the one of the settings.
        max_missing: Maximum number of files of a set that may be missing.
        no_cache: Whether to ignore the embedding cache.
    """
    settings = load_settings()
    artefact = model or settings.model
    runtime = settings.runtime_options
    runtime = replace(runtime, engine=engine or runtime.engine, precision=precision or runtime.precision)
    store = PackStore(settings.packs_dir)
    chosen = chosen_models(settings, store)
    models = load_models(
        store,
        chosen.pack,
        runtime,
        settings.detection.options(),
        settings.image.limits(),
        artefact,
        comparisons=settings.comparisons_dir,
        detector_pack=chosen.detector,
    )
    with closing(models), progress_bars() as progress:
        cache = None if no_cache else settings.data_dir / "evaluations"
        yield EvaluatedModel(models, cache, progress, max_missing, artefact)


def _in_all_precisions(choice: dict[str, Any]) -> Generator[EvaluatedModel]:
    """Load the model in the precision that an untuned machine serves, then in float32, and in int8 if it has int8.

    Processors without bfloat16 serve in float32, and a tuned machine may serve in int8. If the options or the settings
    name a precision, only that one is loaded.

    Args:
        choice: Arguments of `evaluated_model`.
    """
    with evaluated_model(**choice) as model:
        sessions = (model.models.embedder_session, model.models.detector_session)
        graphs = model.models.recognizer.graphs
        yield model
    if (choice["precision"] or load_settings().runtime_options.precision) != "auto":
        return
    others: list[Precision] = ["fp32"] if any(session.precision == "bf16" for session in sessions) else []
    others += ["int8"] if graphs.keys() & {"int8", "int8-cpu"} else []
    for precision in others:
        with ExitStack() as opened:
            try:
                model = opened.enter_context(evaluated_model(**{**choice, "precision": precision}))
            except ArtefactUnfit as error:  # the engines of this machine compute another model
                say(f"not measured in {precision}: {error}")
                continue
            yield model


def _require_writable(html: Path | None, json_file: Path | None) -> None:
    """Raise an error before the measurement if its output could not be written.

    Raises:
        StorageFailed: A path is a directory, or its parent directory does not exist.
    """
    for path in (html, json_file):
        if path is not None and path != TERMINAL:
            require_place(path)


def _paths(value: Any) -> list[Path]:
    return [path for path in (value if isinstance(value, list) else [value]) if isinstance(path, Path)]


def refuse_input(output: Path, inputs: Sequence[Path]) -> None:
    """Raise an error if a file to write exists and is, or may be, an input of the command.

    Args:
        output: File to write.
        inputs: Files and directories that the command reads.

    Raises:
        StorageFailed: The file is one of the inputs, is a photo, or lies in a directory of them and is no report.
    """
    if not output.is_file():
        return
    file = output.resolve()
    within = any(file.is_relative_to(path.resolve()) for path in inputs if path.is_dir())
    if (
        any(path.is_file() and path.samefile(file) for path in inputs)
        or has_photo_suffix(file.name)
        or (within and file.suffix.lower() not in _REPORT_SUFFIXES)
    ):
        raise StorageFailed(f"{output} is read by this command and is not overwritten; choose another file to write")


def require_place(path: Path) -> None:
    """Raise an error if a file cannot be written at this path.

    Raises:
        StorageFailed: The path is a directory, or its parent directory does not exist.
    """
    if path.is_dir():
        raise StorageFailed(f"{path} cannot be written: it is a directory")
    if not path.absolute().parent.is_dir():
        raise StorageFailed(f"{path} cannot be written: the directory {path.absolute().parent} does not exist")


def _report(evaluations: Sequence[Evaluation], html: Path | None, json_file: Path | None) -> None:
    """Write the requested files, and print the evaluations.

    Raises:
        StorageFailed: A file cannot be written.
    """
    if json_file is not None:
        _write_json(json_file, evaluations)
    if html is not None:
        # By default, matplotlib writes its font cache to the home directory.
        os.environ.setdefault("MPLCONFIGDIR", str(load_settings().data_dir / "matplotlib"))
        write_report(html, evaluations, f"Vultus {VERSION}")
    if json_file != TERMINAL:  # after the files are written, because printing to a closed pipe fails
        for evaluation in evaluations:
            _show(evaluation)
        if html is not None:
            say(f"report: {html}")


def _write_json(path: Path, evaluations: Sequence[Evaluation]) -> None:
    records = [evaluation.record() for evaluation in evaluations]
    content = json.dumps({"program": f"vultus {VERSION}", "evaluations": records}, indent=1)
    if path == TERMINAL:
        print(content)  # noqa: T201  # plain text, for other programs
        return
    write_text(path, content + "\n")


def _show(evaluation: Evaluation) -> None:
    out.print(f"\n[bold]{escape(printable(evaluation.title))}[/bold]", highlight=False)
    conditions = evaluation.conditions
    say(
        f"{conditions['recognizer']} on {conditions['engine']} in {conditions['precision']}, "
        f"contract {conditions['contract_id']}"
    )
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
                column.overflow = "fold"  # names must not be truncated
            for row in table.rows[:_MAX_TABLE_ROWS]:
                shown.add_row(*(escape(cell_text(cell)) for cell in row))
            out.print(shown)
            if len(table.rows) > _MAX_TABLE_ROWS:
                say(f"… {len(table.rows) - _MAX_TABLE_ROWS:,} more; use --html or --json to list them all")
    for note in evaluation.notes:
        say(note)
