"""Exclusive ownership of a directory: one process opens its store, other processes use that process's HTTP API."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.errors import GalleriesInUse
from service.storage.private_files import open_private

LOCK = "owner.lock"


class Ownership:
    """A file lock that the operating system releases when the process ends, even if it is killed."""

    def __init__(self, directory: Path, what: str = "the galleries of this data directory", lock: str = LOCK) -> None:
        """Acquire the lock.

        Args:
            directory: The directory.
            what: What is in it, for the message.
            lock: Name of the file that is locked.

        Raises:
            GalleriesInUse: Another process holds the lock.
        """
        self._descriptor = open_private(directory / lock, os.O_RDWR)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = os.read(self._descriptor, 32).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            owner = f"process {pid}" if pid.isdigit() else "another process"
            raise GalleriesInUse(f"{owner} serves {what}; use its HTTP API, or stop it first") from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Release the lock."""
        os.close(self._descriptor)


@contextmanager
def owned(directory: Path) -> Iterator[None]:
    """Own the galleries of a data directory until the block ends.

    Raises:
        GalleriesInUse: Another process holds the lock.
    """
    owner = Ownership(directory)
    try:
        yield
    finally:
        owner.release()
