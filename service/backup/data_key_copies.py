"""Copies of data keys: joining them without bringing back a key that was destroyed, and destroying erased ones.

The row of a destroyed key is empty (`service.encryption.data_keys`). A row that is missing was never known to a copy.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from service.gallery.erased_keys import Erasure
from service.gallery.store.key_coverage import OWNERS
from service.storage.disk_errors import translated_errors

_NAME = "the copy of the data keys"


@contextmanager
def changed(path: Path, other: Path | None = None) -> Iterator[sqlite3.Connection]:
    """Change a copy in one transaction; afterwards it is a single file without free space.

    A copy that is cut off is made again.

    Args:
        path: The copy.
        other: Another copy, which can be read as `other`.

    Raises:
        StorageFull: The disk is full.
        StoreFailed: The file system refused a read or write.
    """
    with translated_errors(_NAME):
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = DELETE")  # a copy of a store in WAL mode says that it is one
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute("PRAGMA secure_delete = ON")
            if other is not None:
                connection.execute("ATTACH ? AS other", (str(other),))
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
            if other is not None:
                connection.execute("DETACH other")
            connection.execute("VACUUM")
        finally:
            connection.close()


def join(connection: sqlite3.Connection) -> int:
    """Add the data keys that only `other` has, which is under the same master key and was found intact.

    What one of both has destroyed stays destroyed.

    Returns:
        Number of data keys that were damaged, because `other` has them differently; they are now as in `other`.
    """
    intact = "FROM other.data_keys AS intact WHERE intact.id = data_keys.id"
    damaged = connection.execute(
        f"UPDATE main.data_keys SET wrapped = (SELECT intact.wrapped {intact}) "
        f"WHERE wrapped != x'' AND EXISTS (SELECT 1 {intact} AND intact.wrapped NOT IN (x'', data_keys.wrapped))"
    ).rowcount
    connection.execute(
        "INSERT INTO main.data_keys (id, kind, key, gallery, wrapped) SELECT id, kind, key, gallery, wrapped "
        "FROM other.data_keys WHERE kind != 'snapshot' AND id NOT IN (SELECT id FROM main.data_keys)"
    )
    take_destroyed(connection)
    return damaged


def take_destroyed(connection: sqlite3.Connection) -> None:
    """Destroy what is destroyed in `other`, under whichever master key it is."""
    connection.execute(
        "UPDATE main.data_keys SET wrapped = x'' WHERE id IN (SELECT id FROM other.data_keys WHERE wrapped = x'')"
    )
    connection.execute(
        "UPDATE main.data_keys_state SET last_erasure = "
        "MAX(last_erasure, (SELECT last_erasure FROM other.data_keys_state))"
    )
    _destroy_contents(connection)


def is_in_other(connection: sqlite3.Connection) -> bool:
    """Return whether `other` has all data keys that are not destroyed."""
    row = connection.execute(
        "SELECT 1 FROM main.data_keys WHERE wrapped != x'' AND id NOT IN (SELECT id FROM other.data_keys) LIMIT 1"
    ).fetchone()
    return row is None


def destroy_erased(connection: sqlite3.Connection, erasures: Iterable[Erasure], schema: str = "main") -> None:
    """Destroy the data keys of erasures of a store.

    Args:
        connection: Connection with an open transaction.
        erasures: Erasures of the store of the data keys.
        schema: Name under which the copy is attached.
    """
    empty = f"UPDATE {schema}.data_keys SET wrapped = x'' WHERE kind = ? AND key = ?"
    for erasure in erasures:
        connection.executemany(empty, [("subject", key) for key in erasure.keys.subjects])
        connection.executemany(empty, [("gallery", key) for key in erasure.keys.galleries])
        connection.execute(
            f"UPDATE {schema}.data_keys_state SET last_erasure = MAX(last_erasure, ?)", (erasure.number,)
        )
    _destroy_contents(connection, schema)


def erase_destroyed(connection: sqlite3.Connection, schema: str) -> None:
    """Erase the galleries and subjects of a store whose data keys are destroyed, and that have no other one.

    Args:
        connection: Connection to the store, with an open transaction.
        schema: Name under which the copy of the data keys is attached.
    """
    for table, owner in OWNERS.items():
        found = f"SELECT 1 FROM {schema}.data_keys AS found WHERE found.kind = ? AND found.key = {table}.key"
        connection.execute(
            f"DELETE FROM {table} WHERE EXISTS ({found} AND found.wrapped = x'') "
            f"AND NOT EXISTS ({found} AND found.wrapped != x'')",
            (owner, owner),
        )


def _destroy_contents(connection: sqlite3.Connection, schema: str = "main") -> None:
    """Remove the data keys of what erased galleries held, and those of all snapshots."""
    of_galleries = f"SELECT key FROM {schema}.data_keys WHERE kind = 'gallery' AND wrapped"
    connection.execute(
        f"DELETE FROM {schema}.data_keys WHERE kind = 'snapshot' OR (kind = 'subject' "
        f"AND gallery IN ({of_galleries} = x'') AND gallery NOT IN ({of_galleries} != x''))"
    )
