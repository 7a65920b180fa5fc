"""The first start of a service: who may use it before its operator has made a key."""

import logging
import os

from service.errors import KeyExists, StoreFailed
from service.security.keys.store import ADMIN_KEY_FILE, Key, KeyRequest, KeyStore
from service.security.keys.tokens import Token
from service.storage.private_files import open_private

_log = logging.getLogger("vultus")


def make_admin_key(store: KeyStore) -> Key | None:
    """Make a key with the scope admin in a file that only its owner can read; None if a key was made before.

    Raises:
        StorageFull: The disk is full.
        StoreFailed: The file system refused a write.
    """
    if store.list_all():
        return None
    path = store.directory / ADMIN_KEY_FILE

    def deliver(_key: Key, token: Token) -> None:
        try:
            path.unlink(missing_ok=True)  # what lies there may lead elsewhere
            with os.fdopen(open_private(path, os.O_WRONLY | os.O_EXCL), "w") as file:
                file.write(token.text + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreFailed(f"the admin key cannot be written to {path}: {error.strerror}") from error

    try:
        key, _ = store.create(KeyRequest("admin", ["admin"]), deliver)
    except KeyExists:  # another process was faster
        return None
    _log.warning("requests need a key; the first one, which may do everything, is in the file %s", path)
    return key
