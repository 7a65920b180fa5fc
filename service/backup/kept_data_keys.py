"""The data keys of encrypted galleries in a directory of backups, of which only the newest state is kept.

If each backup kept data keys of its own, who was erased could be read in earlier backups. The kept file has all data
keys that no erasure has destroyed, also those of people of whom only other backups in the directory know, so that each
backup can be restored with it. Its name has its SHA-256 and the id of its master key. A file under an earlier master
key stays as long as it has a data key that was not wrapped under the new one, because an older backup may need it.
"""

import hashlib
import logging
import os
import re
import shutil
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from models.artefact.directories import sync
from service.backup.data_key_copies import (
    changed,
    destroy_erased,
    is_in_other,
    join,
    take_destroyed,
)
from service.backup.disk import PART
from service.backup.manifest import Manifest
from service.encryption.data_keys import peek
from service.errors import BackupDamaged, BackupUnfit
from service.gallery.erased_keys import Erasure
from service.gallery.store.key_coverage import count_lacking
from service.storage.disk_errors import translated_errors
from service.storage.private_files import open_private

DATA_KEY_FILES = "data_keys-*"

_log = logging.getLogger("vultus")

_NAME = re.compile(r"data_keys-([0-9a-f]{16})-([0-9a-f]{64})\.sqlite")


@dataclass(frozen=True, slots=True)
class KeptDataKeys:
    """A file of data keys in a directory of backups.

    Attributes:
        path: The SQLite file.
        master_key: Id of its master key.
        sha256: SHA-256 of its content, hexadecimal, as its name states it.
    """

    path: Path
    master_key: str
    sha256: str

    @property
    def store(self) -> str | None:
        """Id of the gallery store to which the data keys belong; None if there are none."""
        state = peek(self.path)
        return None if state is None else state.store

    def require_intact(self) -> None:
        """Read the file and compare it with its digest.

        Raises:
            BackupDamaged: It was altered or is cut off.
            OSError: The file system refused the read.
        """
        if _digest(self.path) != self.sha256:
            raise BackupDamaged(
                f"the data keys {self.path} were altered or are cut off; replace the file by another copy of it, or "
                "move it away to go on with the data keys in place, which do not know who is only in older backups"
            )


def kept_data_keys(directory: Path) -> list[KeptDataKeys]:
    """Return the files of data keys in a directory of backups, newest first."""
    found = [(path, _NAME.fullmatch(path.name)) for path in directory.glob(DATA_KEY_FILES)]
    kept = [KeptDataKeys(path, match[1], match[2]) for path, match in found if match]
    return sorted(kept, key=lambda each: (each.path.stat().st_mtime_ns, each.path.name), reverse=True)


def keep_data_keys(directory: Path, copy: Path, store: Path, store_id: str, erasures: Iterable[Erasure]) -> str:
    """Add the data keys of now to those that are kept, without those that are destroyed.

    Args:
        directory: Directory of backups.
        copy: Copy of the SQLite file of the data keys, which is used up.
        store: Copy of the gallery store, which must not need other data keys.
        store_id: Id of the gallery store.
        erasures: All known erasures.

    Returns:
        Id of the master key under which they are.

    Raises:
        BackupUnfit: The data keys are not those of the galleries, or the kept ones are those of other galleries.
        BackupDamaged: A kept file was altered; nothing was changed.
        DataKeysUnfit: The copy is not a store of data keys.
        StorageFull: The disk is full.
        StoreFailed: The file system refused a read or write.
    """
    state = peek(copy)
    if state is None or state.store != store_id or _lacking(store, copy):
        raise BackupUnfit("the data keys are not those of the galleries; look at VULTUS_ENCRYPTION__DIRECTORY")
    kept = kept_data_keys(directory)
    for each in kept:
        each.require_intact()
        if each.store != store_id:
            raise BackupUnfit(f"{each.path} has data keys of other galleries; choose another directory")
    of_store = [erasure for erasure in erasures if erasure.store == store_id]
    with changed(copy) as connection:
        destroy_erased(connection, of_store)
    for each in kept:
        with changed(copy, each.path) as connection:
            if each.master_key != state.master_key:
                take_destroyed(connection)
            elif damaged := join(connection):
                _log.warning(
                    "%d of the data keys in place are damaged; the backup has them as in %s: restore it",
                    damaged,
                    each.path.name,
                )
    names = [_put(directory, copy, state.master_key)]
    newest = directory / names[0]
    for each in kept:
        if each.master_key != state.master_key:
            part = copy.with_name(each.path.name + PART)
            shutil.copyfile(each.path, part)
            with changed(part, newest) as connection:
                destroy_erased(connection, of_store)
                take_destroyed(connection)
                is_needed = not is_in_other(connection)
            if is_needed:
                names.append(_put(directory, part, each.master_key))
    sync(directory)
    for each in kept:
        if each.path.name not in names:
            each.path.unlink()
    sync(directory)
    return state.master_key


def destroy_kept(directory: Path, scratch: Path, store_id: str, erasures: Iterable[Erasure]) -> None:
    """Destroy the kept data keys of who was erased from a store that is not encrypted now.

    Args:
        directory: Directory of backups.
        scratch: Directory for copies.
        store_id: Id of the gallery store.
        erasures: All known erasures.

    Raises:
        BackupDamaged: A kept file was altered; nothing was changed.
        StorageFull: The disk is full.
        StoreFailed: The file system refused a read or write.
    """
    kept = [each for each in kept_data_keys(directory) if each.store == store_id]
    for each in kept:
        each.require_intact()
    of_store = [erasure for erasure in erasures if erasure.store == store_id]
    for each in kept:
        copy = scratch / each.path.name
        os.close(open_private(copy, os.O_WRONLY | os.O_TRUNC))
        shutil.copyfile(each.path, copy)
        with changed(copy) as connection:
            destroy_erased(connection, of_store)
        name = _put(directory, copy, each.master_key)
        sync(directory)
        if name != each.path.name:
            each.path.unlink()
    sync(directory)


def take_data_keys(
    directory: Path, manifests: Sequence[Manifest], store: Path, in_place: Path | None, part: Path
) -> bool:
    """Write the data keys with which a backup is restored: those in place joined with kept ones, or kept ones alone.

    Of files under several master keys, one that has the data keys of all people in the backup is taken, if possible
    that of the data keys in place, then that of the newest backup.

    Args:
        directory: Directory of backups.
        manifests: Manifests of the backups, oldest first.
        store: The restored store.
        in_place: Copy of the data keys that were in place; None for none.
        part: File to write.

    Returns:
        Whether there are any.

    Raises:
        BackupDamaged: A kept file was altered, or is that of other galleries.
        StorageFull: The disk is full.
        StoreFailed: The file system refused a read or write.
    """
    kept = kept_data_keys(directory)
    for each in kept:
        each.require_intact()
        if each.store != manifests[-1].store:
            raise BackupDamaged(f"the data keys {each.path} are those of other galleries")
    state = None if in_place is None else peek(in_place)
    masters = [manifest.master_key for manifest in reversed(manifests)] + [each.master_key for each in kept]
    best = None
    for master_key in dict.fromkeys(([state.master_key] if state else []) + masters):
        of_master = [each.path for each in kept if each.master_key == master_key]
        if state is not None and in_place is not None and master_key == state.master_key:
            of_master.insert(0, in_place)
        if not of_master:
            continue
        candidate = part.with_name(f"{part.name}.{master_key}{PART}")
        os.close(open_private(candidate, os.O_WRONLY | os.O_TRUNC))
        shutil.copyfile(of_master[0], candidate)
        for other in of_master[1:]:
            with changed(candidate, other) as connection:
                join(connection)
        for other in [path for path in (in_place, *(each.path for each in kept)) if path is not None]:
            with changed(candidate, other) as connection:
                take_destroyed(connection)
        lacking = _lacking(store, candidate)
        if best is None or lacking < best:
            best = lacking
            candidate.replace(part)
        candidate.unlink(missing_ok=True)
        if best == 0:
            break
    return best is not None


def _lacking(store: Path, data_keys: Path) -> int:
    """Return how many galleries and subjects of a store data keys do not know."""
    with translated_errors("the copy of the gallery store"), closing(sqlite3.connect(store)) as connection:
        connection.execute("ATTACH ? AS found", (str(data_keys),))
        return sum(count_lacking(connection, "found", destroyed_count=True).values())


def _put(directory: Path, copy: Path, master_key: str) -> str:
    """Move a copy of data keys to the directory, and return its name there; it is complete once it has the name."""
    name = f"data_keys-{master_key}-{_digest(copy)}.sqlite"
    part = directory / (name + PART)
    with copy.open("rb") as source, os.fdopen(open_private(part, os.O_WRONLY | os.O_TRUNC), "wb") as target:
        shutil.copyfileobj(source, target)
        target.flush()
        os.fsync(target.fileno())
    part.rename(directory / name)
    copy.unlink()
    return name


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
