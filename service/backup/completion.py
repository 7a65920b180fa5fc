"""Completion of a restored store: without what was erased since, and with keys that nobody had before."""

import os
import secrets
import sqlite3
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

from models.artefact.directories import sync
from service.backup.data_key_copies import destroy_erased, erase_destroyed
from service.backup.manifest import Manifest
from service.errors import BackupDamaged, DataKeysUnfit
from service.gallery.erased_keys import Erasure
from service.gallery.store.encryption_state import read_state
from service.gallery.store.key_coverage import count_lacking
from service.gallery.store.sequences import continue_after, last_given
from service.storage.disk_errors import translated_errors

_NUMBERED = ("galleries", "subjects", "templates")
_KEYS_A_SECOND = 2**20  # more than a store can assign; the keys stay below 2**53, so JSON readers keep all digits
_CACHE_KIB = 65536


def complete_store(
    path: Path, manifest: Manifest, erasures: Iterable[Erasure], data_keys: Path | None
) -> tuple[int, int, int]:
    """Remove what was erased since from a store, and let it assign keys that no earlier state of it has assigned.

    Otherwise a person who is enrolled after the restore could get the key of one who was erased after the backup, and
    the next restore would take the one for the other.

    Args:
        path: The store, as it was in the backup.
        manifest: Manifest of the backup.
        erasures: All known erasures.
        data_keys: File of the data keys, if there are any. Whose data keys are destroyed was erased.

    Returns:
        Numbers of removed galleries, subjects and templates.

    Raises:
        BackupDamaged: The store is damaged.
        DataKeysUnfit: The data keys do not know of somebody in the store.
        StorageFull: The disk is full.
        StoreFailed: The file system refused a read or write.
    """
    applied = [erasure for erasure in erasures if erasure.store == manifest.store]
    try:
        with translated_errors("the restored store"), closing(_connect(path)) as connection:
            before = _counts(connection)
            is_encrypted = read_state(connection).is_encrypted
            if data_keys is not None:
                connection.execute("ATTACH ? AS encryption", (str(data_keys),))
                connection.execute("PRAGMA encryption.secure_delete = ON")
            connection.execute("BEGIN IMMEDIATE")
            known = last_given(connection, "erasures")
            for erasure in applied:
                _erase(connection, erasure, known)
            later = [key for erasure in applied if erasure.number > known for key in erasure.keys.parted]
            parted = _part(connection, later)  # after all: no template is left that another erasure reaches
            parted |= any(erasure.keys.spared for erasure in applied)
            if data_keys is not None:
                destroy_erased(connection, applied, "encryption")
                erase_destroyed(connection, "encryption")
                if is_encrypted:
                    _require_data_keys(connection)
            now = max(time.time(), manifest.created)  # a machine may have started with a clock that is not set
            _skip_keys(connection, now, applied)
            connection.execute("COMMIT")
            if data_keys is not None:
                connection.execute("DETACH encryption")
            after = _counts(connection)
            if before != after or parted:
                connection.execute("VACUUM")  # SQLite may have left copies where it moved rows
            faults = [row[0] for row in connection.execute("PRAGMA integrity_check(1)")]
            if faults != ["ok"]:
                raise BackupDamaged(f"the store in the backup is damaged: {faults[0]}")
    except sqlite3.DatabaseError as error:
        raise BackupDamaged(f"the store in the backup is damaged: {error}") from error
    sync(path)
    galleries, subjects, templates = (old - new for old, new in zip(before, after, strict=True))
    return galleries, subjects, templates


def _connect(path: Path) -> sqlite3.Connection:
    os.environ.setdefault("SQLITE_TMPDIR", str(path.parent))  # keeps the temporary files of VACUUM private
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = OFF")  # no file beside it; a store that is cut off is made again
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    return connection


def _counts(connection: sqlite3.Connection) -> tuple[int, ...]:
    return tuple(connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in _NUMBERED)


def _erase(connection: sqlite3.Connection, erasure: Erasure, known: int) -> None:
    """Erase what an erasure reaches.

    Args:
        connection: Connection with an open transaction.
        erasure: The erasure.
        known: Number of the last erasure that the store has or was rid of. What an earlier one spared may have another
            name and more templates since.
    """
    keys = erasure.keys
    connection.executemany("DELETE FROM galleries WHERE key = ?", [(key,) for key in keys.galleries])
    connection.executemany("DELETE FROM templates WHERE key BETWEEN ? AND ?", keys.templates)
    if not keys.spared:
        connection.executemany("DELETE FROM subjects WHERE key = ?", [(key,) for key in keys.subjects])
        return
    if erasure.number <= known:
        return
    for subject in keys.subjects:
        found = connection.execute("SELECT key FROM templates WHERE subject = ?", (subject,)).fetchall()
        others = [(key,) for (key,) in found if not any(first <= key <= last for first, last in keys.spared)]
        connection.executemany("DELETE FROM templates WHERE key = ?", others)
    _part(connection, keys.subjects)


def _part(connection: sqlite3.Connection, subjects: Sequence[int]) -> bool:
    """Erase subjects, but for templates that live on: these are left without the name and metadata of the subject.

    Returns:
        Whether there are such templates.
    """
    left = False
    for subject in dict.fromkeys(subjects):
        if connection.execute("SELECT 1 FROM templates WHERE subject = ? LIMIT 1", (subject,)).fetchone() is None:
            connection.execute("DELETE FROM subjects WHERE key = ?", (subject,))
            continue
        connection.execute(
            "UPDATE subjects SET name = ?, metadata = '{}', pseudonym = randomblob(16) WHERE key = ?",
            (f"restored {secrets.token_hex(8)}", subject),
        )
        left = True
    return left


def _require_data_keys(connection: sqlite3.Connection) -> None:
    """Refuse data keys that do not know of somebody in the store.

    Raises:
        DataKeysUnfit: They are older than the backup, or some of them are under another master key.
    """
    for table, lacking in count_lacking(connection, "encryption").items():
        if lacking:
            raise DataKeysUnfit(
                f"{lacking:,} of the {table} in the backup have no data key: the data keys are older than the backup, "
                "or those of another directory of backups, or under an earlier master key, are needed; nothing was "
                "restored"
            )


def _skip_keys(connection: sqlite3.Connection, now: float, erasures: Sequence[Erasure]) -> None:
    """Continue keys at a number that grows with time, and after those of all known erasures.

    Two restores may have the same time: in one second, or while the clock is not set.
    """
    for table in _NUMBERED:
        continue_after(connection, table, int(now) * _KEYS_A_SECOND)
    for erasure in erasures:
        continue_after(connection, "galleries", max(erasure.keys.galleries, default=0))
        continue_after(connection, "subjects", max((*erasure.keys.subjects, *erasure.keys.parted), default=0))
        continue_after(connection, "templates", max((last for _, last in erasure.keys.templates), default=0))
        continue_after(connection, "erasures", erasure.number)
