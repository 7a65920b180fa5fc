"""`vultus inspect`: describe a checkpoint or an artefact as a table or as JSON."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from models.artefact.card import CARD, PROOF, Card, read_card
from models.artefact.integrity import check_files
from models.errors import PackDamaged
from models.extras import require_extra
from service.cli.output import out


def inspect(
    path: Annotated[Path, typer.Argument(help="A checkpoint, or the directory of an artefact.")],
    color: Annotated[str | None, typer.Option(help="Colour order if the file does not state it: rgb or bgr.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Describe a checkpoint or an artefact. Nothing is exported or served."""
    described = _artefact(path) if (path / CARD).is_file() else _checkpoint(path, color)
    if as_json:
        out.print_json(data=described)
        return
    table = Table(show_header=False)
    for name, value in _flat(described):
        table.add_row(name, value)
    out.print(table)


def _artefact(path: Path) -> dict[str, Any]:
    card = read_card(path, Card)
    try:
        check_files(path, card.files)
        whole = "yes"
    except PackDamaged as error:
        whole = f"no: {error}"
    proof = json.loads((path / PROOF).read_text()) if whole == "yes" and PROOF in card.files else {}
    measured = {
        f"{row['precision']} on {row['engine']}": "passed" if row["passed"] else f"failed: {'; '.join(row['why'])}"
        for row in proof.get("measured", [])
    }
    return {
        "kind": "artefact",
        "whole": whole,
        "fit to be served": bool(proof.get("passed")) and whole == "yes" and card.layout == "vultus",
        "proof": measured,
        "card": asdict(card),
    }


def _checkpoint(path: Path, color: str | None) -> dict[str, Any]:
    require_extra("export")
    from models.export.inspection import inspect_checkpoint  # needs the extra; inspecting an artefact does not
    from models.export.isolation import run_in_subprocess

    if color not in (None, "rgb", "bgr"):
        raise typer.BadParameter(f"{color!r} is neither rgb nor bgr")
    return run_in_subprocess(inspect_checkpoint, path, color)  # a hostile file may end the process that reads it


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    if isinstance(value, dict) and value:
        return [row for key, inner in value.items() for row in _flat(inner, f"{name} / {key}" if name else str(key))]
    if isinstance(value, list):
        return [(name, f"{len(value)}: {', '.join(map(str, value[:8]))}{' …' if len(value) > 8 else ''}")]
    return [(name, "—" if value is None else str(value))]
