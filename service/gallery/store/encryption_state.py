"""Whether the contents of a gallery store are encrypted."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Literal, NamedTuple

from service.errors import StoreUnfit
from service.storage.disk_errors import translated_errors
from service.storage.reading import open_unchanged

State = Literal["none", "unfinished", "aes-256-gcm"]


class StoreState(NamedTuple):
    """What can be known of a store without opening it for writing.

    Attributes:
        store: Id of the store.
        encryption: How its contents are kept.
        has_galleries: Whether it has contents.
    """

    store: str
    encryption: State
    has_galleries: bool

    @property
    def is_encrypted(self) -> bool:
        """Whether its contents are encrypted."""
        return self.encryption != "none"


def peek(path: Path) -> StoreState | None:
    """Read the state of a store without changing a file; None if it is new.

    Raises:
        StoreUnfit: The file is not a gallery store.
        StoreBusy: Another program has locked it.
        StoreFailed: The file system refused the read.
    """
    if not path.is_file() or not path.stat().st_size:
        return None
    try:
        with translated_errors("the gallery store"), closing(open_unchanged(path)) as connection:
            tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
            return read_state(connection) if "store" in tables else None
    except sqlite3.DatabaseError as error:
        raise StoreUnfit(f"{path.name} is not a gallery store: {error}") from error


def read_state(connection: sqlite3.Connection) -> StoreState:
    """Read the state of an open store, also of one that an older version wrote."""
    known = "encryption" in [row[1] for row in connection.execute("PRAGMA table_info(store)")]
    encryption = "encryption" if known else "'none'"
    row = connection.execute(f"SELECT id, {encryption}, EXISTS (SELECT 1 FROM galleries) FROM store").fetchone()
    return StoreState(row[0], row[1], bool(row[2]))


def write_state(connection: sqlite3.Connection, encryption: State) -> None:
    """Note how the contents of a store are kept."""
    connection.execute("UPDATE store SET encryption = ?", (encryption,))
