"""`vultus inspect`: describe a checkpoint or an artefact as a table or as JSON."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from models.artefact.card import CARD, PROOF, Card, read_card
from models.artefact.integrity import check_files, read_proof
from models.errors import PackDamaged
from models.extras import require_extra
from models.text import printable
from service.cli.options import Member, Prefix
from service.cli.output import out


def inspect(
    path: Annotated[Path, typer.Argument(help="Checkpoint, or directory of an artefact.")],
    color: Annotated[str | None, typer.Option(help="Colour order if the file does not state it: rgb or bgr.")] = None,
    member: Member = None,
    prefix: Prefix = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the description as JSON.")] = False,
) -> None:
    """Describe a checkpoint or an artefact. Nothing is exported or served."""
    description = (
        _describe_artefact(path) if (path / CARD).is_file() else _describe_checkpoint(path, color, member, prefix)
    )
    if as_json:
        out.print_json(data=description)
        return
    table = Table(show_header=False)
    for name, value in _flatten(description):
        table.add_row(escape(printable(name)), escape(printable(value)))
    out.print(table)


def _describe_artefact(path: Path) -> dict[str, Any]:
    card = read_card(path, Card)
    try:
        check_files(path, card.files)
        intact = "yes"
    except PackDamaged as error:
        intact = f"no: {error}"
    proof = read_proof(path) if intact == "yes" and PROOF in card.files else {}
    measured = {
        f"{row['precision']} on {row['engine']} ({row.get('isa', 'unknown instruction set')})": (
            "passed" if row["passed"] else f"failed: {'; '.join(row.get('why', []))}"
        )
        for row in proof.get("measured", [])
    }
    return {
        "kind": "artefact",
        "intact": intact,
        "fit to be served": bool(proof.get("passed")) and intact == "yes" and card.layout == "vultus",
        "proof": measured,
        "card": asdict(card),
    }


def _describe_checkpoint(path: Path, color: str | None, member: str | None, prefix: str | None) -> dict[str, Any]:
    require_extra("export")
    from models.checkpoint import Selection  # requires the extra; an artefact does not
    from models.export.inspection import inspect_checkpoint
    from models.export.isolation import run_in_subprocess

    if color not in (None, "rgb", "bgr"):
        raise typer.BadParameter(f"unknown colour order {color!r}; available colour orders: rgb, bgr")
    # a malicious file may crash the process that reads it
    return run_in_subprocess(inspect_checkpoint, path, color, Selection(member, prefix))


def _flatten(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Return the rows of a table; the name of a nested value is its path of keys."""
    if isinstance(value, dict) and value:
        return [row for key, inner in value.items() for row in _flatten(inner, f"{name} / {key}" if name else str(key))]
    if isinstance(value, list):
        return [(name, f"{len(value)}: {', '.join(map(str, value[:8]))}{' …' if len(value) > 8 else ''}")]
    return [(name, "—" if value is None else str(value))]
