"""`vultus doctor`: list what is open, unprotected, unsaved or out of date, and how to mend it."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from models.text import printable
from service.cli.output import out, say
from service.doctor.examination import examine
from service.settings import load_settings

_FOUND = 1  # exit status


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for monitoring.")] = False) -> None:
    """List what is open, unprotected, unsaved or out of date, and how to mend it.

    The exit status is 1 if there is a warning. Nothing is changed, except that the files of the keys become private.
    """
    findings = examine(load_settings())
    if as_json:
        say(json.dumps([asdict(finding) for finding in findings]))
    elif findings:
        table = Table("level", "finding", "what to do", show_lines=True)
        for finding in findings:
            table.add_row(finding.level, *(escape(printable(text)) for text in (finding.what, finding.remedy)))
        out.print(table)
    else:
        say("nothing was found")
    if any(finding.level == "warning" for finding in findings):
        raise typer.Exit(_FOUND)
