"""Entry point of `vultus`. The module of a command is imported only when that command runs.

The modules of some commands import inference engines or torch; `vultus --help` imports none of them.
"""

import sys
from importlib import import_module
from typing import Annotated, Any, NamedTuple, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from models.errors import VultusError
from models.extras import ExtraName, require_extra
from service.version import VERSION

FAILED = 2
"""Exit status of a command that fails with a `VultusError`."""

_MAX_ERROR_LENGTH = 1500  # characters


class Command(NamedTuple):
    """A command whose module is imported when the command runs.

    Attributes:
        target: `module:name` of a function or a Typer application, relative to `service.cli`.
        help: First sentence of the command's help; `vultus --help` lists it.
        extra: Extra of the distribution that the command requires, if any.
    """

    target: str
    help: str
    extra: ExtraName | None = None

    def load(self, name: str) -> TyperCommand | TyperGroup:
        """Import the command.

        Raises:
            ExtraMissing: The required extra is not installed.
        """
        if self.extra is not None:
            require_extra(self.extra)
        module, _, attribute = self.target.partition(":")
        target = getattr(import_module(f"service.cli.{module}"), attribute)
        if not isinstance(target, typer.Typer):
            single = typer.Typer(add_completion=False)
            single.command(name)(target)
            target = single
        command = get_command(target)
        assert isinstance(command, TyperCommand | TyperGroup)
        command.name = name
        return command


COMMANDS = {
    "serve": Command("serve:serve", "Serve the pack over HTTP."),
    "demo": Command("demo:demo", "Compare real photos through the running service."),
    "packs": Command("packs:app", "Fetch and check packs of models and photos."),
    "export": Command("export:export", "Turn a trained checkpoint into a proven artefact.", "export"),
    "import": Command("export:import_onnx", "Turn an ONNX recognizer into a proven artefact.", "export"),
    "engine": Command("engine:engine", "Build TensorRT engines of an artefact."),
    "inspect": Command("inspect:inspect", "Describe a checkpoint or an artefact."),
    "tune": Command("tune:tune", "Find the fastest way to run the model on this machine."),
    "evaluate": Command("evaluate:app", "Measure the error rates of the served model.", "evaluate"),
    "calibrate": Command(
        "calibrate:calibrate", "Measure the error rates of thresholds on your own pictures.", "evaluate"
    ),
    "enrol": Command("enrol:enrol", "Enrol photos in a gallery."),
    "takeover": Command("takeover:app", "Take over the subjects and photos of another product, through its own API."),
    "identify": Command("identify:identify", "Search galleries for the faces in photos."),
    "remote": Command("remote:app", "Verify, identify and enrol through a running service."),
    "doctor": Command("doctor:doctor", "List what is open, unprotected, unsaved or out of date, and how to mend it."),
    "audit": Command("audit:app", "Show, check and export the log of who did what."),
    "keys": Command("keys:app", "Make, list, rotate and revoke keys of programs that use the service."),
    "encryption": Command(
        "encryption:app", "Encrypt the galleries at rest, and change the master key, while no service uses them."
    ),
    "backup": Command("backup:backup", "Back up the galleries, keys and audit log, beside a service or without one."),
    "restore": Command("backup:restore", "Restore a backup into a data directory without galleries and keys."),
    "gallery": Command("gallery:app", "Manage the galleries of the data directory while no service uses them."),
}


class LazyGroup(TyperGroup):
    """A group that lists all commands and imports only the requested one."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = {name: TyperCommand(name, help=command.help) for name, command in COMMANDS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import the requested command, then resolve it."""
        name = args[0] if args else ""
        if name in COMMANDS:
            self.commands[name] = COMMANDS[name].load(name)
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(requested: bool) -> None:
    if requested:
        print(f"vultus {VERSION}")  # noqa: T201  # plain text, for scripts
        raise typer.Exit


@app.callback()
def vultus(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Self-hosted face verification: every decision with its measured error rate."""


def main() -> None:
    """Run the program. An error is printed as one line and ends the program with status 2."""
    try:
        app()
    except VultusError as error:
        _fail(str(error))
    except OSError as error:  # a path that the user named cannot be looked at, or its name is too long
        if error.filename is None or error.strerror is None:
            raise
        _fail(f"{error.filename}: {error.strerror}")


def _fail(message: str) -> NoReturn:
    from rich.console import Console  # imported here because only errors need it
    from rich.markup import escape

    from models.text import printable

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(f"[red]vultus:[/red] {escape(printable(message)[:_MAX_ERROR_LENGTH])}")  # it may quote a file
    sys.exit(FAILED)
