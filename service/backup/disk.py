"""Files of backups: private, flushed to disk, and with errors of the disk as errors of the service."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.artefact.directories import sync
from service.errors import StorageFull, StoreFailed
from service.storage.private_files import open_private

PART = ".part"
"""Suffix of a file that is not complete."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def translated_os_errors(what: str) -> Iterator[None]:
    """Raise errors of the file system as errors of the service.

    Args:
        what: What is read or written as messages name it, such as `the backup`.

    Raises:
        StorageFull: The disk is full.
        StoreFailed: The file system refused a read or write.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(f"the disk is full; {what} was not written") from error
        raise StoreFailed(f"{what} cannot be read or written: {error.strerror}") from error


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, and flush it to disk. It is complete once it has its name.

    Raises:
        OSError: The file system refused the write.
    """
    part = path.with_name(path.name + PART)
    with os.fdopen(open_private(part, os.O_WRONLY | os.O_TRUNC), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)
    sync(path.parent)
