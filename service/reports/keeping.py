"""Keeping of a report: a JSON document whose first line describes it, so that a list need not read all of it."""

import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import StorageFailed
from models.text import printable
from service.reports.kept import MAX_BYTES
from service.reports.names import SUFFIX, ReportKind, ReportName
from service.storage.private_files import make_private, write_once

_MAX_TITLE = 200  # characters


def keep_report(directory: Path, kind: ReportKind, program: str, evaluations: Sequence[dict[str, Any]]) -> str:
    """Write a report, which only the owner of the directory may read, and return its name.

    Args:
        directory: Directory of the reports, made if it is missing.
        kind: What was measured.
        program: Name and version of the program.
        evaluations: Records of the evaluations, without names of people and files.

    Raises:
        StorageFailed: The report is too large, or the file system refused the write.
    """
    written = datetime.now(UTC)
    title = ", ".join(dict.fromkeys(printable(evaluation["title"]) for evaluation in evaluations))[:_MAX_TITLE]
    name = ReportName.new(kind, title, written)
    head = {"kind": kind, "title": title, "written": written.isoformat(timespec="milliseconds"), "program": program}
    measured = json.dumps(_finite(list(evaluations)), allow_nan=False)
    content = f'{json.dumps(head)[:-1]},\n"evaluations": {measured}}}\n'.encode()
    if len(content) > MAX_BYTES:
        raise StorageFailed(f"the report has {len(content) // 2**20} MiB; at most {MAX_BYTES // 2**20} are kept")
    try:
        make_private(directory, (f"*{SUFFIX}", "*.part"))
        write_once(directory / name.file, content)
    except OSError as error:
        raise StorageFailed(f"{directory} cannot be written: {error.strerror}") from error
    return name.text


def _finite(value: Any) -> Any:
    """Return a value with None for each number that JSON does not have, which browsers refuse."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
