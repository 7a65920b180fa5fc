"""The command `vultus`."""

import sys

import typer
from rich.console import Console
from rich.markup import escape

from models.errors import VultusError
from service.cli import calibrate, demo, engine, enrol, evaluate, export, gallery, identify, inspect, packs, serve, tune

app = typer.Typer(
    help="Self-hosted face verification: every decision with its measured error rate.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("serve")(serve.serve)
app.command("demo")(demo.demo)
app.command("export")(export.export)
app.command("import")(export.import_onnx)
app.command("engine")(engine.engine)
app.add_typer(evaluate.app, name="evaluate")
app.command("calibrate")(calibrate.calibrate)
app.command("tune")(tune.tune)
app.command("inspect")(inspect.inspect)
app.command("enrol")(enrol.enrol)
app.command("identify")(identify.identify)
app.add_typer(gallery.app, name="gallery")
app.add_typer(packs.app, name="packs")

FAILED = 2

_LONGEST = 1500  # characters of a sentence


def main() -> None:
    """Run the command; what goes wrong on purpose ends in one sentence and status 2."""
    try:
        app()
    except VultusError as error:
        sentence = "".join(
            sign if sign.isprintable() else "?" for sign in str(error)
        )  # a file's own words may be in it
        console = Console(stderr=True, soft_wrap=True, highlight=False)
        console.print(f"[red]vultus:[/red] {escape(sentence[:_LONGEST])}")
        sys.exit(FAILED)
