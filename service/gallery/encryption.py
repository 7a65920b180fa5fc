"""Encryption at rest as it is configured, and what must hold before encrypted galleries are opened."""

import logging
from dataclasses import dataclass
from pathlib import Path

from service.encryption.data_keys import peek, require_fit
from service.encryption.master_key import MasterKey
from service.encryption.source import MasterKeySource
from service.errors import DataKeysUnfit, MasterKeyMissing, NotEncrypted
from service.gallery.store.encryption_state import StoreState
from service.settings import Settings, SettingsInvalid

_log = logging.getLogger("vultus")


@dataclass(frozen=True, slots=True)
class Encryption:
    """The encryption at rest that is configured.

    Attributes:
        data_keys: File of the data keys.
        master_key: Where the master key comes from.
    """

    data_keys: Path
    master_key: MasterKeySource


def encryption_of(settings: Settings) -> Encryption | None:
    """Return the encryption that the settings configure; None for none.

    Raises:
        SettingsInvalid: The data keys would lie among the galleries, or among keys and audit log.
    """
    encryption = settings.encryption
    key = encryption.master_key
    source = MasterKeySource(
        encryption.master_key_file, None if key is None else key.get_secret_value(), encryption.master_key_command
    )
    directory = settings.data_keys_file.parent.resolve()
    if directory == settings.security_dir.resolve():
        raise SettingsInvalid(
            "VULTUS_ENCRYPTION__DIRECTORY is the directory of the keys and the audit log; keep the data keys in one of "
            "their own, because a restore treats both differently"
        )
    if directory.is_relative_to(settings.galleries_dir.resolve()):
        raise SettingsInvalid(
            "VULTUS_ENCRYPTION__DIRECTORY lies in the directory of the galleries; keep the data keys apart, because "
            "copies of the galleries must not have them"
        )
    return Encryption(settings.data_keys_file, source) if source.is_set else None


def require_master_key(encryption: Encryption | None, state: StoreState | None) -> MasterKey | None:
    """Return the master key of a store before any of its files is changed.

    Args:
        encryption: The configured encryption.
        state: State of the store; None if it is new.

    Returns:
        The master key, made if nothing is encrypted yet and its file is missing; None if encryption is off.

    Raises:
        MasterKeyMissing: The store is encrypted, and no master key is configured.
        MasterKeyUnfit: The master key cannot be read or is not a key.
        MasterKeyWrong: The store is encrypted under another master key.
        DataKeysUnfit: The data keys are missing, damaged, or those of other galleries.
        NotEncrypted: A master key is configured, and the store has contents that are not encrypted.
    """
    require_encrypted(encryption, state)
    if encryption is None:
        return None
    found = peek(encryption.data_keys)
    if state is not None and state.is_encrypted:
        if found is None:
            raise DataKeysUnfit(
                f"the data keys {encryption.data_keys} of the encrypted galleries are missing; restore them from a "
                "backup: without them, nothing of the galleries can be read"
            )
        master_key = encryption.master_key.read()
        require_fit(found, master_key, state.store)
        return master_key
    if found is not None and found.has_keys and (state is None or found.store != state.store):
        raise DataKeysUnfit(
            f"the data keys {encryption.data_keys} belong to galleries that are missing here; restore these with "
            "vultus restore, or move the data keys away to begin without them"
        )
    return _read_or_make(encryption.master_key)


def master_key_to_encrypt(encryption: Encryption, state: StoreState) -> MasterKey:
    """Return the master key under which a store is encrypted now, or was until that was cut off.

    Raises:
        MasterKeyUnfit: The master key cannot be read or written, or is not a key.
        MasterKeyWrong: There are data keys under another master key.
        DataKeysUnfit: The data keys of an encrypted store are missing, or there are data keys of other galleries.
    """
    if state.is_encrypted:
        master_key = require_master_key(encryption, state)
        assert master_key is not None  # because `encryption` is not
        return master_key
    found = peek(encryption.data_keys)
    if found is None or not found.has_keys:
        return _read_or_make(encryption.master_key)
    master_key = encryption.master_key.read()
    require_fit(found, master_key, state.store)
    return master_key


def require_encrypted(encryption: Encryption | None, state: StoreState | None) -> None:
    """Refuse a store that is encrypted without a master key, or one that has contents and is not encrypted with one.

    Raises:
        MasterKeyMissing: The store is encrypted, and no master key is configured.
        NotEncrypted: A master key is configured, and the store has contents that are not encrypted.
    """
    if state is None:
        return
    if encryption is None and state.is_encrypted:
        raise MasterKeyMissing(
            "the galleries are encrypted; set VULTUS_ENCRYPTION__MASTER_KEY_FILE, VULTUS_ENCRYPTION__MASTER_KEY or "
            "VULTUS_ENCRYPTION__MASTER_KEY_COMMAND"
        )
    if encryption is not None and state.has_galleries and not state.is_encrypted:
        raise NotEncrypted(
            "a master key is set, but the galleries are not encrypted; stop the service and run vultus encryption "
            "enable, or unset the master key"
        )


def _read_or_make(source: MasterKeySource) -> MasterKey:
    is_new = source.file is not None and not source.file.exists()
    master_key = source.read_or_make()
    if is_new:
        _log.warning(
            "made the master key %s; keep a copy elsewhere: without it, nothing of the galleries can be read",
            source.file,
        )
    return master_key
