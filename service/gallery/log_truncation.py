"""Truncation of the store's write-ahead log, which keeps copies of erased records until then.

A reader, such as a backup by another program, prevents it as long as its transaction is open. The truncation is then
retried in a thread of its own, so that other upkeep goes on.
"""

import logging
import threading
from typing import Protocol

from service.errors import StorageFull, StoreBusy, StoreFailed

_RETRY_S = 1.0

_log = logging.getLogger("vultus")


class Store(Protocol):
    """A store with a write-ahead log."""

    def checkpoint(self) -> bool:
        """Truncate the log; return whether it was truncated."""


class LogTruncation:
    """Truncates the log now or later. Thread-safe."""

    def __init__(self, store: Store) -> None:
        """Do nothing yet.

        Args:
            store: Store whose log to truncate.
        """
        self._store = store
        self._lock = threading.Lock()
        self._wanted = False
        self._retrying: threading.Thread | None = None
        self._closing = threading.Event()

    def truncate(self) -> bool:
        """Truncate the log.

        Returns:
            Whether the log was truncated. If a reader or a full disk prevents it, it is truncated later.
        """
        if self._try_truncate():
            return True
        with self._lock:
            self._wanted = True
            if self._retrying is None and not self._closing.is_set():
                self._retrying = threading.Thread(target=self._retry, name="truncate", daemon=True)
                self._retrying.start()
        return False

    def close(self) -> None:
        """End the retries; the next start truncates the log."""
        self._closing.set()
        with self._lock:
            retrying = self._retrying
        if retrying is not None:
            retrying.join()

    def _retry(self) -> None:
        while not self._closing.wait(_RETRY_S):
            with self._lock:
                self._wanted = False  # an erasure from now on wants another truncation
            if not self._try_truncate():
                continue
            with self._lock:
                if not self._wanted:
                    self._retrying = None
                    return

    def _try_truncate(self) -> bool:
        try:
            return self._store.checkpoint()
        except (StorageFull, StoreFailed, StoreBusy) as error:  # the erasure is committed; only the log keeps copies
            _log.warning("the store's write-ahead log was not truncated: %s", error)
            return False
