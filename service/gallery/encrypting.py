"""Encryption at rest of the gallery store: opening it with its data keys, and encrypting one that was not encrypted."""

import logging
from contextlib import closing
from pathlib import Path

from models.artefact.directories import sync
from models.errors import VultusError
from models.types import Progress, no_progress
from service.encryption.data_keys import DataKeys
from service.encryption.master_key import MasterKey
from service.encryption.opening import Encryption, open_data_keys, require_master_key
from service.encryption.row_cipher import RowCipher
from service.errors import DataKeysUnfit, NotEncrypted
from service.gallery.store import gallery_rows
from service.gallery.store.contents import Owner
from service.gallery.store.database import Database
from service.gallery.store.encryption_state import peek, read_state, write_state
from service.gallery.store.reencryption import encrypt_contents

SNAPSHOTS = "*.graph*"

_KEYS_OF: dict[Owner, str] = {"gallery": "SELECT key FROM galleries", "subject": "SELECT key FROM subjects"}
_PLURAL: dict[Owner, str] = {"gallery": "galleries", "subject": "subjects"}

_log = logging.getLogger("vultus")


def encrypt_database(database: Database, path: Path, master_key: MasterKey, directory: Path) -> DataKeys:
    """Let an open store, which is encrypted or has no contents, encrypt them; finish an encryption that was cut off.

    Args:
        database: The store.
        path: File of the data keys.
        master_key: Master key that fits the store.
        directory: Directory of the snapshots.

    Returns:
        The open data keys.

    Raises:
        DataKeysUnfit: Subjects have no data key, so the data keys are older than the store.
        VultusError: As the constructor of `DataKeys`.
    """
    with database.reading() as connection:
        state = read_state(connection)
    keys = open_data_keys(path, master_key, state.store)
    try:
        database.encrypt_with(RowCipher(keys))
        if state.encryption == "unfinished":
            _finish_later(database, directory)
        elif not state.is_encrypted:
            with database.writing() as connection:
                write_state(connection, "aes-256-gcm")
        _require_complete(database, keys)
    except BaseException:
        keys.close()
        raise
    return keys


def destroy_erased_keys(keys: DataKeys, database: Database) -> None:
    """Destroy the data keys of galleries and subjects whose erasure is committed.

    If the disk refuses it, this is logged, and the next erasure or start does it.
    """
    try:
        with database.reading() as connection:
            erasures = gallery_rows.erasures_after(connection, read_state(connection).store, keys.last_erasure)
        keys.destroy_erased(erasures)
    except VultusError as error:
        _log.warning("data keys of erased people were not destroyed and are destroyed later: %s", error)


def encrypt_galleries(store: Path, encryption: Encryption, progress: Progress = no_progress) -> int:
    """Encrypt a store that is not encrypted, in one transaction, and return the number of its templates.

    Its caller owns the directory. Snapshots of indices, which are not encrypted, are removed.

    Args:
        store: File of the store.
        encryption: The configured encryption.
        progress: Receives the number of templates.

    Raises:
        MasterKeyUnfit: The master key cannot be read or written, or is not a key.
        MasterKeyWrong: There are data keys under another master key.
        DataKeysUnfit: There are data keys of other galleries.
        StorageFull: The disk is full; nothing was changed.
        StoreFailed: The file system refused a read or write; nothing was changed.
    """
    master_key = encryption.master_key.read_or_make()
    with closing(Database(store)) as database:
        with database.reading() as connection:
            state = read_state(connection)
        with closing(open_data_keys(encryption.data_keys, master_key, state.store)) as keys:
            database.encrypt_with(RowCipher(keys))
            templates = 0
            if not state.is_encrypted:  # otherwise only the end was cut off
                with database.writing() as connection:
                    templates = encrypt_contents(connection, progress)
                    write_state(connection, "unfinished")
            _finish(database, store.parent)
    return templates


def change_master_key(store: Path, encryption: Encryption, new: MasterKey, progress: Progress = no_progress) -> int:
    """Wrap all data keys of an encrypted store under another master key, and return their number.

    Its caller owns the directory. When this ends, all data keys are wrapped under the new master key; if it is cut off,
    all are wrapped under the old one.

    Args:
        store: File of the store.
        encryption: The configured encryption, with the old master key.
        new: The new master key.
        progress: Receives the number of data keys.

    Raises:
        EncryptionError: The old master key or the data keys do not fit the store, or it is not encrypted.
        StorageFull: The disk is full; nothing was changed.
        StoreFailed: The file system refused a read or write; nothing was changed.
    """
    state = peek(store)
    old = require_master_key(encryption, state)
    if state is None or old is None or not state.is_encrypted:
        raise NotEncrypted("the galleries are not encrypted")
    with closing(open_data_keys(encryption.data_keys, old, state.store)) as keys:
        return keys.rewrap(new, progress)


def _finish_later(database: Database, directory: Path) -> None:
    """Finish an encryption that was cut off; if the disk has no room for it, the next start tries it again."""
    try:
        _finish(database, directory)
    except VultusError as error:
        _log.warning("free space of the store may still have contents that are not encrypted: %s", error)


def _finish(database: Database, directory: Path) -> None:
    """Remove what a store that was just encrypted has left in snapshots and in free space."""
    for snapshot in directory.glob(SNAPSHOTS):
        snapshot.unlink()
    sync(directory)
    database.rewrite()
    with database.writing() as connection:
        write_state(connection, "aes-256-gcm")


def _require_complete(database: Database, keys: DataKeys) -> None:
    """Refuse a store whose subjects or galleries have no data key.

    Raises:
        DataKeysUnfit: The data keys are older than the store.
    """
    owners: tuple[Owner, ...] = ("gallery", "subject")
    with database.reading() as connection:
        for owner in owners:
            stored = {key for (key,) in connection.execute(_KEYS_OF[owner])}
            if lacking := len(stored - keys.all_of(owner)):
                raise DataKeysUnfit(
                    f"{lacking:,} of the {_PLURAL[owner]} have no data key, so the data keys are older than the "
                    "galleries; restore the newer ones"
                )
