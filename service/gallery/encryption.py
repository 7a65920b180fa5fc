"""Opening of encrypted galleries: with the right master key, or not at all."""

import logging
from dataclasses import dataclass
from pathlib import Path

from service.encryption.data_keys import DATA_KEYS, DataKeys, peek, require_fit
from service.encryption.master_key import MasterKey
from service.encryption.source import MasterKeySource
from service.errors import DataKeysUnfit, MasterKeyMissing, NotEncrypted, StoreFailed
from service.gallery.store.encryption_state import StoreState
from service.settings import Settings, SettingsInvalid
from service.storage.private_files import make_private

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
        SettingsInvalid: The data keys would lie among the galleries.
    """
    encryption = settings.encryption
    key = encryption.master_key
    source = MasterKeySource(
        encryption.master_key_file, None if key is None else key.get_secret_value(), encryption.master_key_command
    )
    if not source.is_set:
        return None
    if settings.data_keys_file.resolve().is_relative_to(settings.galleries_dir.resolve()):
        raise SettingsInvalid(
            "VULTUS_ENCRYPTION__DIRECTORY lies in the directory of the galleries; keep the data keys apart, because "
            "copies of the galleries must not have them"
        )
    return Encryption(settings.data_keys_file, source)


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
    if state is None or not state.is_encrypted:
        if encryption is None:
            return None
        if state is not None and state.has_galleries:
            raise NotEncrypted(
                "a master key is set, but the galleries are not encrypted; stop the service and run vultus encryption "
                "enable, or unset the master key"
            )
        return _read_or_make(encryption.master_key)
    if encryption is None:
        raise MasterKeyMissing(
            "the galleries are encrypted; set VULTUS_ENCRYPTION__MASTER_KEY_FILE, VULTUS_ENCRYPTION__MASTER_KEY or "
            "VULTUS_ENCRYPTION__MASTER_KEY_COMMAND"
        )
    master_key = encryption.master_key.read()
    found = peek(encryption.data_keys)
    if found is None:
        raise DataKeysUnfit(
            f"the data keys {encryption.data_keys} of the encrypted galleries are missing or damaged; restore them "
            "from a backup: without them, nothing of the galleries can be read"
        )
    require_fit(found, master_key, state.store)
    return master_key


def _read_or_make(source: MasterKeySource) -> MasterKey:
    is_new = source.file is not None and not source.file.exists()
    master_key = source.read_or_make()
    if is_new:
        _log.warning(
            "made the master key %s; keep a copy elsewhere: without it, nothing of the galleries can be read",
            source.file,
        )
    return master_key


def open_data_keys(path: Path, master_key: MasterKey, store: str) -> DataKeys:
    """Open the data keys of a store, creating their private directory and file if they are missing.

    Raises:
        VultusError: As the constructor of `DataKeys`.
    """
    try:
        make_private(path.parent, (f"{DATA_KEYS}*",))
    except OSError as error:
        raise StoreFailed(f"the data keys cannot be stored in {path.parent}: {error.strerror}") from error
    return DataKeys(path, master_key, store)
