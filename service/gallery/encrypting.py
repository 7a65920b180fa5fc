"""Encryption at rest of the gallery store: opening it with its data keys, and encrypting one that was not encrypted."""

import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from sqlalchemy.exc import SQLAlchemyError

from models.artefact.directories import sync
from models.errors import VultusError
from models.types import Progress, no_progress
from service.encryption.data_keys import DATA_KEYS, DataKeys
from service.encryption.master_key import MasterKey
from service.encryption.row_cipher import RowCipher
from service.encryption.source import MasterKeySource
from service.errors import DataKeysUnfit, MasterKeyUnfit, NotEncrypted, StoreFailed
from service.gallery.encryption import (
    Encryption,
    master_key_to_encrypt,
    require_encrypted,
    require_master_key,
)
from service.gallery.store import gallery_rows
from service.gallery.store.database import Database
from service.gallery.store.encryption_state import StoreState, peek, read_state, write_state
from service.gallery.store.key_coverage import OWNERS, count_lacking
from service.gallery.store.reencryption import encrypt_contents
from service.gallery.store.sequences import continue_after
from service.storage.disk_errors import translated_errors
from service.storage.private_files import make_private

SNAPSHOTS = "*.graph*"

_log = logging.getLogger("vultus")


def open_encrypted(
    database: Database, encryption: Encryption | None, master_key: MasterKey | None, directory: Path
) -> DataKeys | None:
    """Let an open store encrypt its contents if encryption is configured, and finish one that was cut off.

    Args:
        database: The store.
        encryption: The configured encryption.
        master_key: What `require_master_key` returned.
        directory: Directory of the store and the snapshots.

    Returns:
        The open data keys; None if the store is not encrypted.

    Raises:
        EncryptionError: The store does not fit the configuration, or has contents whose data keys are missing.
        VultusError: As the constructor of `DataKeys`.
    """
    with database.reading() as connection:
        state = read_state(connection)
    require_encrypted(encryption, state)
    if encryption is None or master_key is None:
        return None
    keys = _open_keys(database, encryption.data_keys, master_key, state)
    try:
        if state.encryption == "unfinished":
            _finish(database, directory)
        elif not state.is_encrypted:
            with database.writing() as connection:
                write_state(connection, "aes-256-gcm")
        _require_complete(database.path, encryption.data_keys)
    except BaseException:
        keys.close()
        raise
    return keys


def destroy_erased_keys(keys: DataKeys, database: Database, of_all_times: bool = False) -> bool:
    """Destroy the data keys of galleries and subjects whose erasure is committed, and return whether that was done.

    If the disk refuses it, this is logged, and the caller must do it later.

    Args:
        keys: The data keys.
        database: The store.
        of_all_times: Whether also erasures count that were applied before, because the store was not encrypted then.
    """
    try:
        after = 0 if of_all_times else keys.last_erasure
        with database.reading() as connection:
            erasures = gallery_rows.erasures_after(connection, read_state(connection).store, after)
        if erasures:
            keys.destroy(
                [key for erasure in erasures for key in erasure.keys.subjects],
                [key for erasure in erasures for key in erasure.keys.galleries],
                max(keys.last_erasure, erasures[-1].number),
            )
    except (VultusError, sqlite3.Error, SQLAlchemyError) as error:
        _log.warning("data keys of erased people were not destroyed and are destroyed later: %s", error)
        return False
    return True


class ErasedDataKeys:
    """The data keys of a store, whose log must not keep those of who was erased."""

    def __init__(self, keys: DataKeys, database: Database) -> None:
        """Take the data keys and their store."""
        self._keys, self._database = keys, database

    def checkpoint(self) -> bool:
        """Destroy the data keys of committed erasures, truncate the log, and return whether both was done."""
        return destroy_erased_keys(self._keys, self._database) and self._keys.checkpoint()


class Encrypted(NamedTuple):
    """Galleries that were encrypted.

    Attributes:
        templates: Number of their templates.
        is_finished: Whether no file has anything from before; otherwise the next start removes it.
    """

    templates: int
    is_finished: bool


def encrypt_galleries(store: Path, encryption: Encryption, progress: Progress = no_progress) -> Encrypted:
    """Encrypt a store that is not encrypted, in one transaction, and then remove what is left from before.

    Its caller owns the directory. Snapshots of indices, which are not encrypted, are removed.

    Args:
        store: File of the store.
        encryption: The configured encryption.
        progress: Receives the number of templates.

    Raises:
        MasterKeyUnfit: The master key cannot be read or written, or is not a key.
        MasterKeyWrong: There are data keys under another master key.
        DataKeysUnfit: There are data keys of other galleries, or those of a store whose encryption was cut off are
            missing.
        StorageFull: The disk is full; nothing was changed.
        StoreFailed: The file system refused a read or write; nothing was changed.
    """
    with closing(Database(store)) as database:
        with database.reading() as connection:
            state = read_state(connection)
        master_key = master_key_to_encrypt(encryption, state)
        with closing(_open_keys(database, encryption.data_keys, master_key, state)) as keys:
            templates = 0
            if not state.is_encrypted:  # otherwise only the end was cut off
                destroy_erased_keys(keys, database, of_all_times=True)
                with database.writing() as connection:
                    templates = encrypt_contents(connection, progress)
                    write_state(connection, "unfinished")
            return Encrypted(templates, _finish(database, store.parent))


class Rewrapped(NamedTuple):
    """Data keys that were wrapped under a new master key.

    Attributes:
        keys: Their number.
        master_key: Id of the master key.
        is_finished: Whether no file has any of them under the old one; otherwise another reader keeps them there.
    """

    keys: int
    master_key: str
    is_finished: bool


def change_master_key(
    store: Path, encryption: Encryption, new: MasterKeySource, progress: Progress = no_progress
) -> Rewrapped:
    """Wrap all data keys of an encrypted store under another master key, which is made if it is a missing file.

    Its caller owns the directory. When this ends, all data keys are wrapped under the new master key; if it is cut off,
    all are wrapped under the old one.

    Args:
        store: File of the store.
        encryption: The configured encryption, with the old master key.
        new: Where the new master key comes from.
        progress: Receives the number of data keys.

    Raises:
        EncryptionError: A master key or the data keys do not fit the store, it is not encrypted, or the new master key
            is the old one.
        StorageFull: The disk is full; nothing was changed.
        StoreFailed: The file system refused a read or write; nothing was changed.
    """
    state = peek(store)
    if state is None or not state.is_encrypted:
        raise NotEncrypted("the galleries are not encrypted; run vultus encryption enable")
    old = require_master_key(encryption, state)
    assert old is not None  # of an encrypted store
    new_key = new.read_or_make()
    if new_key.id == old.id:
        raise MasterKeyUnfit("the new master key is the one in use; nothing was changed")
    with closing(_open_file(encryption.data_keys, old, state.store)) as keys:
        return Rewrapped(keys.rewrap(new_key, progress), new_key.id, keys.checkpoint())


def _open_keys(database: Database, path: Path, master_key: MasterKey, state: StoreState) -> DataKeys:
    """Open the data keys of an open store, which is encrypted with them from now on.

    Data keys may know of erasures and rows that an older copy of the store does not have. New ones get later numbers,
    so that they are not taken for the earlier ones.
    """
    keys = _open_file(path, master_key, state.store)
    try:
        with database.writing() as connection:
            continue_after(connection, "erasures", keys.last_erasure)
            for table, owner in OWNERS.items():
                continue_after(connection, table, keys.greatest(owner))
        database.encrypt_with(RowCipher(keys))
    except BaseException:
        keys.close()
        raise
    return keys


def _open_file(path: Path, master_key: MasterKey, store: str) -> DataKeys:
    """Open the data keys of a store, creating their private directory and file if they are missing."""
    try:
        make_private(path.parent, (f"{DATA_KEYS}*",))
    except OSError as error:
        raise StoreFailed(f"the data keys cannot be stored in {path.parent}: {error.strerror}") from error
    return DataKeys(path, master_key, store)


def _finish(database: Database, directory: Path) -> bool:
    """Remove what a store that was encrypted has left in snapshots and in free space; return whether it is removed.

    A full disk or another reader of the store may prevent it; then the next start tries it again.
    """
    for snapshot in directory.glob(SNAPSHOTS):
        snapshot.unlink()
    sync(directory)
    try:
        if database.rewrite():
            with database.writing() as connection:
                write_state(connection, "aes-256-gcm")
            return True
        reason = "another program reads the store"
    except VultusError as error:
        reason = str(error)
    _log.warning("files of the store may still have contents that are not encrypted: %s", reason)
    return False


def _require_complete(store: Path, data_keys: Path) -> None:
    """Refuse a store with subjects or galleries that have no data key, or a destroyed one.

    Raises:
        DataKeysUnfit: Store and data keys are of different times.
    """
    with translated_errors("the gallery store"), closing(sqlite3.connect(store)) as connection:
        connection.execute("ATTACH ? AS encryption", (str(data_keys),))
        for table, lacking in count_lacking(connection, "encryption").items():
            if lacking:
                raise DataKeysUnfit(
                    f"{lacking:,} of the {table} have no data key: the data keys are older than the galleries, or the "
                    "galleries are an older copy, with people who were erased since; restore both with vultus restore"
                )
