"""The data keys of encrypted galleries in a directory of backups: one file, of which only the newest state is kept.

If each backup kept data keys of its own, who was erased could be read in earlier backups. The file has all data keys
that no erasure has destroyed, so all backups can be restored with it.

Layout: a line of JSON (the header, with the SHA-256 of the rest), and the SQLite file of the data keys.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from service.backup.disk import PART, write_private
from service.encryption.data_keys import peek
from service.errors import BackupDamaged

KEPT_DATA_KEYS = "data_keys"
FILES = frozenset({KEPT_DATA_KEYS, KEPT_DATA_KEYS + PART})

_FORMAT = 1


def keep_data_keys(directory: Path, copy: Path) -> None:
    """Replace the data keys of a directory of backups.

    Args:
        directory: Directory of backups.
        copy: Copy of the SQLite file of the data keys.

    Raises:
        BackupDamaged: The copy is not a store of data keys.
        OSError: The file system refused a read or write.
    """
    state = peek(copy)
    if state is None:
        raise BackupDamaged("the copy of the data keys cannot be read")
    content = copy.read_bytes()
    header = {"format": _FORMAT, "store": state.store, "sha256": hashlib.sha256(content).hexdigest()}
    write_private(directory / KEPT_DATA_KEYS, json.dumps(header).encode() + b"\n" + content)


def read_data_keys(directory: Path, store: str) -> bytes:
    """Return the SQLite file of the data keys of a store.

    Raises:
        BackupDamaged: It is missing, altered, or that of another store.
        OSError: The file system refused the read.
    """
    path = directory / KEPT_DATA_KEYS
    try:
        head, _, content = path.read_bytes().partition(b"\n")
        header: dict[str, Any] = json.loads(head)
        if (header["format"], header["sha256"]) != (_FORMAT, hashlib.sha256(content).hexdigest()):
            raise ValueError
        is_of_store = header["store"] == store
    except FileNotFoundError as error:
        raise BackupDamaged(f"{path} with the data keys of the encrypted galleries is missing") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackupDamaged(
            f"{path} with the data keys of the encrypted galleries was altered or is cut off"
        ) from error
    if not is_of_store:
        raise BackupDamaged(f"{path} has the data keys of other galleries")
    return content
