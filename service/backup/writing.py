"""Making a backup of the galleries, keys and audit log, beside a running service or without one."""

import hashlib
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.deadline import Deadline
from models.types import Progress, no_progress
from service.audit.archives import find_archives
from service.audit.store import STORE as AUDIT_STORE
from service.backup.blocks import BLOCK_BYTES, Blocks, blocks_of
from service.backup.copying import copy_store, read_copy
from service.backup.directory import BackupDirectory, writable
from service.backup.kept_data_keys import destroy_kept, keep_data_keys
from service.backup.manifest import BackedUpFile, Manifest
from service.backup.places import Places, is_security_file
from service.errors import BackupUnfit, StoreFailed
from service.gallery.erased_keys import Erasure, read_list_file
from service.gallery.galleries import STORE, UNRESTORED
from service.gallery.store import gallery_rows, template_rows
from service.gallery.store.encryption_state import read_state
from service.security.keys.server_secret import SECRET_FILE
from service.security.keys.store import STORE as KEY_STORE
from service.storage.disk_errors import translated_errors
from service.storage.private_files import open_private
from service.version import VERSION

_GALLERIES = "the gallery store"


@dataclass(frozen=True, slots=True)
class MadeBackup:
    """A backup that is complete.

    Attributes:
        manifest: What it has.
        new_bytes: Size of the blocks that no earlier backup had.
        read_s: Seconds for which the galleries were read, and their log could not be truncated.
        removed: Names of the backups that were removed.
        unreadable: Names of earlier backups whose manifest cannot be read. Until they are removed, the blocks of
            removed backups stay.
    """

    manifest: Manifest
    new_bytes: int
    read_s: float
    removed: list[str]
    unreadable: list[str]

    def described(self) -> dict[str, Any]:
        """Return the backup as JSON."""
        return {
            **self.manifest.described(),
            "new_bytes": self.new_bytes,
            "removed": self.removed,
            "unreadable": self.unreadable,
        }


def make_backup(
    places: Places,
    target: Path,
    keep: int | None = None,
    progress: Progress = no_progress,
    deadline: Deadline | None = None,
) -> MadeBackup:
    """Make a backup of the galleries, keys and audit log as they are now.

    Args:
        places: Where the files lie.
        target: Directory of backups, created if missing.
        keep: Number of newest backups to keep; None for all.
        progress: Receives the number of bytes.
        deadline: Deadline of the request; none of the backup remains if its client disconnects.

    Raises:
        BackupInProgress: Another process or thread makes a backup in the directory.
        BackupUnfit: The directory cannot hold backups of these galleries, or there are no galleries or data keys.
        ErasuresDamaged: A list of erasures is damaged or incomplete.
        RequestCancelled: The client disconnected.
        StorageFull: The disk is full.
        StoreBusy: Another program has locked a store.
        StoreFailed: A store is damaged, or the file system refused a read or write.
    """
    _refuse_nested(places, target)
    if (places.galleries / UNRESTORED).exists() or not _has_content(places.galleries / STORE):
        raise BackupUnfit(f"{places.galleries} has no galleries to back up")
    with writable(target) as directory, _copies(directory.copies) as copies:
        now = time.time()
        read_s = _copy(places.galleries / STORE, copies / STORE, _GALLERIES, progress, deadline)
        _copy_security(places, copies, progress, deadline)
        described, erasures = _described(copies / STORE)
        _refuse_other(directory, described.store)
        listed = read_list_file(places.erasures)
        known = directory.erasures(listed, erasures)
        directory.write_erasures(known)
        files = tuple(_divide(path, directory.blocks, progress, deadline) for path in sorted(copies.iterdir()))
        directory.blocks.flush()
        master_key = ""
        if described.is_encrypted:  # after the store, so that all of its subjects have their data keys
            master_key = _keep_data_keys(places, directory, copies, progress, deadline, described.store, known)
        else:
            destroy_kept(directory.path, copies, described.store, known)
        manifest = Manifest(
            name=directory.new_name(now),
            created=now,
            version=VERSION,
            store=described.store,
            last_erasure=erasures[-1].number if erasures else 0,
            galleries=described.galleries,
            subjects=described.subjects,
            templates=described.templates,
            block_bytes=BLOCK_BYTES,
            files=files,
            master_key=master_key,
        )
        if deadline is not None:
            deadline.settle()
        directory.write(manifest)
        removed, unreadable = directory.remove_all_but(keep)
        return MadeBackup(manifest, directory.blocks.written_bytes, read_s, removed, unreadable)


@dataclass(frozen=True, slots=True)
class _Described:
    """Contents of a gallery store: its id, and numbers of rows."""

    store: str
    galleries: int
    subjects: int
    templates: int
    is_encrypted: bool


def _described(path: Path) -> tuple[_Described, list[Erasure]]:
    with translated_errors(_GALLERIES), closing(read_copy(path)) as connection:
        store, _ = template_rows.store_and_sequence(connection)
        columns = [row[1] for row in connection.execute("PRAGMA table_info(erasures)")]
        erasures = gallery_rows.erasures_after(connection, store, 0) if "keys" in columns else []  # of an older version
        counts = connection.execute(
            "SELECT (SELECT COUNT(*) FROM galleries), (SELECT COUNT(*) FROM subjects), (SELECT COUNT(*) FROM templates)"
        ).fetchone()
        galleries, subjects, templates = counts
        return _Described(store, galleries, subjects, templates, read_state(connection).is_encrypted), erasures


def schema_of(path: Path) -> str:
    """Return the version of the tables in a copy of a store; empty if it is not a store."""
    if path.suffix != Path(STORE).suffix:
        return ""
    with translated_errors(path.name), closing(read_copy(path)) as connection:
        if path.name == STORE:
            return str(connection.execute("PRAGMA user_version").fetchone()[0])
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def _copy(source: Path, target: Path, name: str, progress: Progress, deadline: Deadline | None) -> float:
    """Copy a store, and return the seconds for which it was read."""
    os.close(open_private(target, os.O_RDWR))
    try:
        return copy_store(source, target, name, lambda done, total: progress(f"copying {name}", done, total), deadline)
    except sqlite3.DatabaseError as error:
        raise StoreFailed(f"{name} cannot be copied: {error}") from error


def _copy_security(places: Places, copies: Path, progress: Progress, deadline: Deadline | None) -> None:
    for store, name in ((KEY_STORE, "the store of keys"), (AUDIT_STORE, "the audit log")):
        if _has_content(places.security / store):
            _copy(places.security / store, copies / store, name, progress, deadline)
    # after the table, from which records move to them
    files = [archive.path for archive in find_archives(places.security)] if places.security.is_dir() else []
    if places.secret_file is None and (copies / KEY_STORE).exists():
        files.append(places.security / SECRET_FILE)
    for file in filter(lambda file: is_security_file(file.name), files):
        with file.open("rb") as source, os.fdopen(open_private(copies / file.name, os.O_WRONLY), "wb") as target:
            shutil.copyfileobj(source, target)


def _keep_data_keys(
    places: Places,
    directory: BackupDirectory,
    copies: Path,
    progress: Progress,
    deadline: Deadline | None,
    store: str,
    erasures: list[Erasure],
) -> str:
    """Add the data keys of now to those in the directory of backups, and return the id of their master key."""
    if places.data_keys is None or not _has_content(places.data_keys):
        raise BackupUnfit(f"the data keys {places.data_keys} of the encrypted galleries are missing")
    copy = copies / places.data_keys.name
    _copy(places.data_keys, copy, "the store of data keys", progress, deadline)
    return keep_data_keys(directory.path, copy, copies / STORE, store, erasures)


def _divide(path: Path, blocks: Blocks, progress: Progress, deadline: Deadline | None) -> BackedUpFile:
    """Store a file as blocks."""
    digests, digest, size = [], hashlib.sha256(), 0
    total = path.stat().st_size
    with path.open("rb") as file:
        for content in blocks_of(file):
            if deadline is not None:
                deadline.check()
            digest.update(content)
            digests.append(blocks.add(content))
            size += len(content)
            progress(f"storing {path.name}", size, total)
    return BackedUpFile(path.name, size, digest.hexdigest(), schema_of(path), tuple(digests))


@contextmanager
def _copies(directory: Path) -> Iterator[Path]:
    """Make an empty directory for copies, and remove it at the end; a killed process may have left one."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _refuse_nested(places: Places, target: Path) -> None:
    """Refuse a directory in which backups would count as files of the galleries or keys.

    Raises:
        BackupUnfit: The directory is one of those that are backed up, or lies in one.
    """
    directories = [places.galleries, places.security]
    if places.data_keys is not None:
        directories.append(places.data_keys.parent)
    for directory in directories:
        if target.resolve().is_relative_to(directory.resolve()):
            raise BackupUnfit(f"{target} lies in {directory}, which is backed up; choose a directory elsewhere")


def _refuse_other(directory: BackupDirectory, store: str) -> None:
    """Refuse a directory with backups of other galleries, which `vultus restore` would take for these.

    Raises:
        BackupUnfit: A backup is one of other galleries.
    """
    if any(manifest.store != store for manifest in directory.manifests()[0]):
        raise BackupUnfit(f"{directory.path} has backups of other galleries; choose another directory")


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0
