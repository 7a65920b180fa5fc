"""`vultus audit`: show, check and export the audit log, beside a running service or without one."""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from models.artefact.directories import link_target, sync
from models.errors import StorageFailed
from models.text import printable
from service.audit.archives import line_of
from service.audit.records import Record
from service.audit.store import AuditStore
from service.cli.auditing import opened_keys
from service.cli.output import out, say

app = typer.Typer(help="Show, check and export the log of who did what.", no_args_is_help=True, add_completion=False)

_FAULTY = 1  # exit status


@app.command()
def tail(
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Number of records.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object in each line.")] = False,
) -> None:
    """Show the newest records, oldest first; `--json` has all members."""
    with _opened() as store:
        records = list(store.records(count))
    if as_json:
        for record in records:
            say(line_of(record))
        return
    table = Table(box=None, padding=(0, 1, 0, 0))
    for name in ("number", "time (UTC)", "key"):
        table.add_column(name, no_wrap=True)
    for name in ("action", "gallery, subject"):
        table.add_column(name, overflow="fold")
    for record in records:
        table.add_row(*_cells(record))
    out.print(table)


@app.command()
def verify() -> None:
    """Check that no record was changed, removed, inserted, moved or cut off. The exit status is 1 if one was."""
    with _opened() as store:
        faults = list(store.faults())
        count = sum(1 for _ in store.records()) if not faults else 0
    for fault in faults:
        say(fault)
    if faults:
        raise typer.Exit(_FAULTY)
    say(f"{count:,} records form one chain; none was changed, removed, inserted, moved or cut off")


@app.command()
def export(path: Annotated[Path, typer.Option("--out", help="File to write, in NDJSON.")]) -> None:
    """Write all records with their digests to a file, which appears once it is complete."""
    target = link_target(path)
    part = target.with_name(target.name + ".part")
    count = 0
    with _opened() as store:
        try:
            with part.open("w", encoding="ascii") as file:
                for record in store.records():
                    file.write(line_of(record) + "\n")
                    count += 1
            sync(part)
            part.rename(target)
        except OSError as error:
            raise StorageFailed(f"{path} cannot be written: {error.strerror}") from error
        finally:
            with suppress(OSError):
                part.unlink()
    say(f"{count:,} records in {path}")


@contextmanager
def _opened() -> Iterator[AuditStore]:
    with opened_keys() as keys, closing(AuditStore(keys.directory, keys.server_secret)) as store:
        yield store


def _cells(record: Record) -> list[str]:
    members: dict[str, Any] = json.loads(record.content)
    outcomes = members.get("outcomes", [])
    subjects = [*members.get("subjects", []), *(outcome["subject"] for outcome in outcomes if "subject" in outcome)]
    acted = [members["action"], *([members["changed_key"]] if "changed_key" in members else [])]
    cells = [
        str(record.number),
        f"{datetime.fromtimestamp(members['time'], UTC):%Y-%m-%d %H:%M:%S}",
        members["key"],
        " ".join([*acted, ", ".join(map(_outcome, outcomes))]),
        " ".join([*members.get("galleries", []), *(subject[:8] for subject in dict.fromkeys(subjects))]),
    ]
    return [escape(printable(cell)) for cell in cells]


def _outcome(outcome: dict[str, Any]) -> str:
    decision = outcome.get("decision", "none")
    return f"{decision} {outcome['similarity']:.3f}" if "similarity" in outcome else decision
