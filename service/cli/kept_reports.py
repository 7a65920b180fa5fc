"""Keeping of the reports of the commands that measure a model, for `/v1/reports` of the service."""

from collections.abc import Sequence
from typing import Annotated

import typer

from models.errors import StorageFailed
from models.evaluation.reports.document import Evaluation
from models.text import printable
from service.cli.output import err
from service.reports.keeping import keep_report
from service.reports.names import ReportKind
from service.settings import load_settings
from service.version import VERSION

NoKeepOption = Annotated[
    bool, typer.Option("--no-keep", help="Do not keep the report, without names of people and files, for the service.")
]


def keep(kind: ReportKind, evaluations: Sequence[Evaluation]) -> None:
    """Keep a report without names; a file system that refuses it does not fail the measurement."""
    records = [evaluation.without_names().record() for evaluation in evaluations]
    try:
        keep_report(load_settings().reports_dir, kind, f"vultus {VERSION}", records)
    except StorageFailed as error:
        err.print(f"the report was not kept: {printable(str(error))}", highlight=False, soft_wrap=True, markup=False)
