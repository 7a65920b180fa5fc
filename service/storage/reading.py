"""Reading SQLite files without changing any file beside them."""

import sqlite3
from pathlib import Path

BUSY_WAIT_S = 5.0
"""Maximum time to wait for other programs that lock the file."""


def open_unchanged(path: Path) -> sqlite3.Connection:
    """Open a SQLite file for reading only.

    Without a write-ahead log, nobody writes the file now, and SQLite is told so: otherwise it would make files beside
    it.

    Raises:
        sqlite3.Error: The file is missing, or the file system refused to open it.
    """
    options = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "mode=ro&immutable=1"
    return sqlite3.connect(f"{path.absolute().as_uri()}?{options}", timeout=BUSY_WAIT_S, uri=True)
