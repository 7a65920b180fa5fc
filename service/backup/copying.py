"""Consistent copies of SQLite stores that others may change meanwhile.

A copy is made in one read transaction by SQLite's online backup (https://sqlite.org/backup.html), page by page, so that
a page that did not change is the same in the next copy. The transaction ends with the copy: until then, it keeps the
service from truncating its write-ahead log, and nothing else. Checks read the copy.
"""

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from models.deadline import Deadline
from service.errors import StoreFailed
from service.storage.disk_errors import translated_errors

Copied = Callable[[int, int], None]
"""Called with the number of pages copied and of all pages."""

_BUSY_WAIT_MS = 5000
_PAGES_AT_ONCE = 1024
_CACHE_KIB = 2048  # each page is read and written once


def copy_store(source: Path, target: Path, name: str, copied: Copied, deadline: Deadline | None = None) -> float:
    """Copy a store as it is now, and check the copy.

    Args:
        source: The store.
        target: File to make.
        name: The store as messages name it.
        copied: Receives the progress.
        deadline: Deadline of the request.

    Returns:
        Seconds for which the store was read.

    Raises:
        RequestCancelled: The client disconnected.
        StorageFull: The disk of the copy is full.
        StoreBusy: Another program has locked the store.
        StoreFailed: The store is damaged, or the file system refused a read or write.
    """

    def report(_status: int, remaining: int, total: int) -> None:
        if deadline is not None:
            deadline.check()
        copied(total - remaining, total)

    with translated_errors(name):
        with (
            closing(_connect(source, "mode=rw")) as reader,
            closing(_connect_new(target)) as copy,
        ):
            began = time.monotonic()
            reader.execute("BEGIN")  # one state, although the copy is made in steps
            reader.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()
            reader.backup(copy, pages=_PAGES_AT_ONCE, progress=report)
            reader.execute("COMMIT")
            read_s = time.monotonic() - began
        with closing(read_copy(target)) as checked:
            _require_intact(checked, name)
    return read_s


def read_copy(path: Path) -> sqlite3.Connection:
    """Open a copy that nobody changes, without files beside it."""
    return _connect(path, "mode=ro&immutable=1")


def _require_intact(connection: sqlite3.Connection, name: str) -> None:
    """Refuse a damaged store.

    Raises:
        StoreFailed: It is damaged.
    """
    faults = [row[0] for row in connection.execute("PRAGMA integrity_check(1)")]
    if faults != ["ok"]:
        raise StoreFailed(f"{name} is damaged ({faults[0].splitlines()[-1]}); restore a backup")


def _connect(path: Path, options: str) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?{options}", uri=True, isolation_level=None)
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_WAIT_MS}")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    return connection


def _connect_new(target: Path) -> sqlite3.Connection:
    connection = _connect(target, "mode=rw")
    connection.execute("PRAGMA journal_mode = OFF")  # an incomplete copy is discarded
    connection.execute("PRAGMA synchronous = OFF")
    return connection
