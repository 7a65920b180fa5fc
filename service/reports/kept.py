"""Reading of kept reports: a list of their first lines, and one of them as it was written."""

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from service.errors import ReportDamaged, ReportUnknown
from service.reports.names import SUFFIX, ReportKind, ReportName
from service.storage.disk_errors import translated_errors
from service.times import written_time

MAX_BYTES = 16 * 2**20
"""Maximum size of a report; that of LFW View 2 has 30 kB."""

_HEAD_BYTES = 8192  # of the first line, which has a title of 200 characters
_STORE = "the directory of reports"


class ReportOutline(NamedTuple):
    """What a list has of a report.

    Attributes:
        name: Name of the report.
        kind: What was measured.
        title: Title, with the names of the sets; None if the file is damaged.
        written: When it was written, as ISO 8601.
        size: Bytes of the document.
        damaged: Sentence that says what is wrong with the file, or None.
    """

    name: str
    kind: ReportKind
    title: str | None
    written: str
    size: int
    damaged: str | None


def list_reports(directory: Path, after: str, limit: int) -> list[ReportOutline]:
    """Read the outlines of reports, newest first; of each file at most 8 KiB are read.

    Args:
        directory: Directory of the reports; one that is missing has none.
        after: Name after which the list begins; empty for the newest.
        limit: Maximum length of the list.

    Raises:
        StoreFailed: The file system refused to read the directory.
    """
    with translated_errors(_STORE):
        try:
            names = [ReportName.parse(path.stem) for path in directory.iterdir() if path.suffix == SUFFIX]
        except FileNotFoundError:
            return []
    last = ReportName.parse(after)
    keys = {(name.written, name.text): name for name in names if name is not None}
    outlines: list[ReportOutline] = []
    for key in sorted(keys, reverse=True):
        if len(outlines) == limit:
            break
        if last is None or key < (last.written, last.text):
            outline = _outline(directory, keys[key])
            outlines += [outline] if outline is not None else []
    return outlines


def read_report(directory: Path, text: str) -> bytes:
    """Read a report as it was written.

    Args:
        directory: Directory of the reports.
        text: Name of the report.

    Raises:
        ReportUnknown: No report has this name.
        ReportDamaged: The file is not a whole report.
        StoreFailed: The file system refused to read the file.
    """
    name = ReportName.parse(text)
    if name is None:
        raise ReportUnknown("no report has this name")
    with _opened(directory, name) as file:
        if _size(file) > MAX_BYTES:
            raise ReportDamaged(
                f"the file of this report has more than {MAX_BYTES // 2**20} MiB; no report is so large"
            )
        content = file.read(MAX_BYTES)
    if not _is_report(content):
        raise ReportDamaged("the file of this report was altered or cut off; measure again, or remove it")
    return content


def _outline(directory: Path, name: ReportName) -> ReportOutline | None:
    """Return the outline of a report, or None if its file was just removed."""
    try:
        with _opened(directory, name) as file:
            head, size = file.readline(_HEAD_BYTES), _size(file)
    except ReportUnknown:
        return None
    title = _title(head)
    damaged = None if title is not None else "the first line of the file was altered or cut off"
    return ReportOutline(name.text, name.kind, title, written_time(name.written.timestamp()), size, damaged)


@contextmanager
def _opened(directory: Path, name: ReportName) -> Iterator[BinaryIO]:
    """Open the file of a report; a link, a pipe or a directory in its place is no report."""
    with translated_errors(_STORE):
        try:
            descriptor = os.open(directory / name.file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            if isinstance(error, PermissionError):
                raise
            raise ReportUnknown("no report has this name") from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise ReportUnknown("no report has this name")
        with os.fdopen(descriptor, "rb") as file:
            yield file


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _title(head: bytes) -> str | None:
    """Return the title of the first line of a report, or None if it is not one."""
    record = _parsed(head.rstrip().removesuffix(b",") + b"}")
    title = record.get("title")
    return title if isinstance(title, str) and title.isprintable() else None


def _is_report(content: bytes) -> bool:
    return isinstance(_parsed(content).get("evaluations"), list)


def _parsed(content: bytes) -> dict[str, Any]:
    """Return a JSON object, or an empty one for anything else."""
    try:
        record = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}
