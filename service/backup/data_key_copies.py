"""Copies of data keys: joining them without bringing back a key that was destroyed, and destroying erased ones.

The row of a destroyed key is empty (`service.encryption.data_keys`). A row that is missing was never known to a copy.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from service.gallery.erased_keys import Erasure
from service.storage.disk_errors import translated_errors

_NAME = "the copy of the data keys"


@contextmanager
def changed(path: Path) -> Iterator[sqlite3.Connection]:
    """Change a copy in one transaction; afterwards it is a single file without free space.

    A copy that is cut off is made again.

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
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
            connection.execute("VACUUM")
        finally:
            connection.close()


def join(connection: sqlite3.Connection, other: Path) -> None:
    """Add the data keys that only another copy under the same master key has; what one of both destroyed stays so.

    Args:
        connection: Connection to a copy, with an open transaction.
        other: The other copy.
    """
    connection.execute("COMMIT")  # files cannot be attached in a transaction
    connection.execute("ATTACH ? AS other", (str(other),))
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(
        "INSERT INTO main.data_keys (kind, key, gallery, wrapped) SELECT kind, key, gallery, wrapped "
        "FROM other.data_keys AS others WHERE kind != 'snapshot' AND NOT EXISTS "
        "(SELECT 1 FROM main.data_keys AS own WHERE own.kind = others.kind AND own.key = others.key)"
    )
    connection.execute(
        "UPDATE main.data_keys SET wrapped = x'' WHERE wrapped != x'' AND EXISTS "
        "(SELECT 1 FROM other.data_keys AS others "
        "WHERE others.kind = data_keys.kind AND others.key = data_keys.key AND others.wrapped = x'')"
    )
    connection.execute(
        "UPDATE main.data_keys_state SET last_erasure = "
        "MAX(last_erasure, (SELECT last_erasure FROM other.data_keys_state))"
    )
    _destroy_contents(connection)
    connection.execute("COMMIT")
    connection.execute("DETACH other")
    connection.execute("BEGIN IMMEDIATE")


def remove_known(connection: sqlite3.Connection, other: Path) -> int:
    """Remove the data keys that another copy, under another master key, has or has destroyed; return how many are left.

    Args:
        connection: Connection to a copy, with an open transaction.
        other: The other copy.
    """
    connection.execute("COMMIT")
    connection.execute("ATTACH ? AS other", (str(other),))
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(
        "DELETE FROM main.data_keys WHERE EXISTS (SELECT 1 FROM other.data_keys AS others "
        "WHERE others.kind = data_keys.kind AND others.key = data_keys.key)"
    )
    connection.execute("COMMIT")
    connection.execute("DETACH other")
    connection.execute("BEGIN IMMEDIATE")
    (left,) = connection.execute("SELECT COUNT(*) FROM data_keys WHERE wrapped != x''").fetchone()
    return int(left)


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


def _destroy_contents(connection: sqlite3.Connection, schema: str = "main") -> None:
    """Remove the data keys of what galleries held whose own data key is destroyed, and those of all snapshots."""
    connection.execute(
        f"DELETE FROM {schema}.data_keys WHERE kind = 'snapshot' OR (kind = 'subject' AND gallery IN "
        f"(SELECT key FROM {schema}.data_keys WHERE kind = 'gallery' AND wrapped = x''))"
    )
