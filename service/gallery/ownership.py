"""One process owns the galleries of a data directory; all others go through its API."""

import fcntl
import os
from pathlib import Path

from service.errors import GalleriesInUse

_FILE = "owner.lock"


class Ownership:
    """A lock that the system gives back when the process ends, however it ends."""

    def __init__(self, directory: Path) -> None:
        """Take the lock.

        Raises:
            GalleriesInUse: Another process has it.
        """
        self._descriptor = os.open(directory / _FILE, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.read(self._descriptor, 32).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            whose = f"process {owner}" if owner.isdigit() else "another process"
            raise GalleriesInUse(
                f"{whose} serves the galleries of this data directory; ask it over HTTP, or stop it first"
            ) from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give the lock back."""
        os.close(self._descriptor)
