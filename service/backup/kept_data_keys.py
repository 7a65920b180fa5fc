"""The data keys of encrypted galleries in a directory of backups, of which only the newest state is kept.

If each backup kept data keys of its own, who was erased could be read in earlier backups. The kept file has all data
keys that no erasure has destroyed, also those of people of whom only other backups in the directory know, so that each
backup can be restored with it. Its name has its SHA-256 and the id of its master key. Data keys under an earlier master
key, which only older backups need, stay in a file of their own.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from models.artefact.directories import sync
from service.backup.data_key_copies import changed, destroy_erased, join, remove_known
from service.backup.disk import PART
from service.encryption.data_keys import peek
from service.errors import BackupDamaged
from service.gallery.erased_keys import Erasure
from service.storage.private_files import open_private

DATA_KEY_FILES = "data_keys-*"

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

    def require_intact(self) -> None:
        """Read the file and compare it with its digest.

        Raises:
            BackupDamaged: It was altered or is cut off.
            OSError: The file system refused the read.
        """
        if _digest(self.path) != self.sha256:
            raise BackupDamaged(f"the data keys {self.path} were altered or are cut off")


def kept_data_keys(directory: Path) -> list[KeptDataKeys]:
    """Return the files of data keys in a directory of backups, newest first."""
    found = [(path, _NAME.fullmatch(path.name)) for path in directory.glob(DATA_KEY_FILES)]
    kept = [KeptDataKeys(path, match[1], match[2]) for path, match in found if match]
    return sorted(kept, key=lambda each: (each.path.stat().st_mtime_ns, each.path.name), reverse=True)


def keep_data_keys(directory: Path, copy: Path, erasures: Iterable[Erasure]) -> None:
    """Add the data keys of now to those that are kept, without those that are destroyed.

    Args:
        directory: Directory of backups.
        copy: Copy of the SQLite file of the data keys, which is used up.
        erasures: All known erasures.

    Raises:
        BackupDamaged: A kept file was altered; nothing was changed.
        DataKeysUnfit: The copy is not a store of data keys.
        StorageFull: The disk is full.
        StoreFailed: The file system refused a read or write.
    """
    state = peek(copy)
    if state is None:
        raise BackupDamaged("the copy of the data keys is empty")
    kept = kept_data_keys(directory)
    for each in kept:
        each.require_intact()
    of_store = [erasure for erasure in erasures if erasure.store == state.store]
    with changed(copy) as connection:
        for each in kept:
            if each.master_key == state.master_key:
                join(connection, each.path)
        destroy_erased(connection, of_store)
    names = [_put(directory, copy, state.master_key)]
    for each in kept:
        if each.master_key != state.master_key:
            part = copy.with_name(each.path.name + PART)
            shutil.copyfile(each.path, part)
            with changed(part) as connection:
                destroy_erased(connection, of_store)
                left = remove_known(connection, directory / names[0])
            if left:
                names.append(_put(directory, part, each.master_key))
    for each in kept:
        if each.path.name not in names:
            each.path.unlink()
    sync(directory)


def take_data_keys(directory: Path, store: str, in_place: Path | None, part: Path) -> None:
    """Write the data keys with which a backup is restored.

    Args:
        directory: Directory of backups.
        store: Id of the gallery store.
        in_place: Copy of the data keys that were in place, which may know of later erasures or people; None for none.
        part: File to write.

    Raises:
        BackupDamaged: A kept file is missing, altered, or that of other galleries.
        StorageFull: The disk is full.
        StoreFailed: The file system refused a read or write.
    """
    kept = kept_data_keys(directory)
    if in_place is not None:
        state = peek(in_place)
        shutil.copyfile(in_place, part)
        kept = [each for each in kept if state is not None and each.master_key == state.master_key]
    elif kept:
        shutil.copyfile(kept[0].path, part)
        kept = [each for each in kept if each.master_key == kept[0].master_key]
    else:
        raise BackupDamaged(f"the data keys of the encrypted galleries are missing in {directory}")
    for each in kept:
        each.require_intact()
        found = peek(each.path)
        if found is None or found.store != store:
            raise BackupDamaged(f"the data keys {each.path} are those of other galleries")
    with changed(part) as connection:
        for each in kept:
            join(connection, each.path)


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
