"""SQLite access for the galleries: one writer, many readers, every commit durable before it is acknowledged."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, Full, LifoQueue

from models.deadline import Deadline
from models.errors import VultusError
from service.encryption.row_cipher import RowCipher
from service.errors import StoreUnfit
from service.gallery.store.contents import StoreConnection
from service.gallery.store.schema import PAGE_BYTES, migrate
from service.storage.disk_errors import translated_errors
from service.storage.private_files import open_private

_CACHE_KIB = 65536
_BUSY_WAIT_MS = 5000  # maximum time to wait for other programs that lock the store
_CHECKPOINT_WAIT_MS = 250  # maximum time that a WAL checkpoint waits for readers
_BLOCKED_WAIT_MS = 10  # the same after a checkpoint in vain: its reader, such as a backup, may need hours
_MAX_IDLE_READERS = 16
_CANCELLATION_CHECK_S = 0.1  # interval at which a wait for the lock checks whether the client has disconnected
_NAME = "the gallery store"


class Database:
    """A store file. Thread-safe."""

    def __init__(self, path: Path) -> None:
        """Open a store, creating it if missing. Its contents are not encrypted until `encrypt_with` names a cipher.

        Raises:
            StoreUnfit: The file is not a gallery store, or a newer version wrote it.
            StorageFull: The disk is full.
            StoreFailed: The file system refused a read or write.
        """
        self.path = path
        os.environ.setdefault("SQLITE_TMPDIR", str(path.parent))  # keeps the temporary files of VACUUM private
        self._lock = threading.RLock()
        self._checkpoint_wait_ms = _CHECKPOINT_WAIT_MS
        self._closed = False
        self._cipher: RowCipher | None = None
        self._readers: LifoQueue[StoreConnection] = LifoQueue(_MAX_IDLE_READERS)
        with translated_errors(_NAME):
            os.close(open_private(path, os.O_RDWR))
            self._writer = self._connect()
        try:
            with translated_errors(_NAME):
                self._writer.execute(f"PRAGMA page_size = {PAGE_BYTES}")
                self._writer.execute("PRAGMA journal_mode = WAL")
                self._writer.execute("PRAGMA synchronous = FULL")
                self._writer.execute("PRAGMA secure_delete = ON")
                self._writer.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
                migrate(self._writer)
        except VultusError:
            self._writer.close()
            raise
        except sqlite3.DatabaseError as error:
            self._writer.close()
            raise StoreUnfit(f"{path.name} is not a gallery store: {error}") from error

    def encrypt_with(self, cipher: RowCipher | None) -> None:
        """Encrypt and decrypt the contents with a cipher from the next transaction on."""
        self._cipher = self._writer.cipher = cipher

    def _connect(self) -> StoreConnection:
        connection = sqlite3.connect(
            self.path, isolation_level=None, check_same_thread=False, cached_statements=256, factory=StoreConnection
        )
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_WAIT_MS}")
        return connection

    @contextmanager
    def writing(self, deadline: Deadline | None = None) -> Iterator[StoreConnection]:
        """Change the store in one transaction, which is durable when the block ends without an error.

        Args:
            deadline: Deadline of the request; it is settled after the wait for other writers.

        Raises:
            RequestCancelled: The client disconnected while other writers were busy; nothing was changed.
            DeadlineExceeded: The deadline passed while other writers were busy; nothing was changed.
            StorageFull: The disk is full; nothing was changed.
            StoreBusy: Another program has locked the store; nothing was changed.
            StoreFailed: The file system refused a read or write; nothing was changed.
        """
        with self.exclusive(deadline), translated_errors(_NAME):
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.store_new_keys()
                self._writer.execute("COMMIT")
            except BaseException:
                self._writer.drop_new_keys()
                with suppress(sqlite3.Error):  # SQLite may already have rolled back
                    self._writer.execute("ROLLBACK")
                raise

    @contextmanager
    def exclusive(self, deadline: Deadline | None = None) -> Iterator[None]:
        """Exclude other writers, so that the caller can apply a change to the store and to an index as one step.

        `writing` may be used inside, because the lock is reentrant.

        Args:
            deadline: Deadline of the request; it is settled after the wait for other writers.

        Raises:
            RequestCancelled: The client disconnected while other writers were busy.
            DeadlineExceeded: The deadline passed while other writers were busy.
        """
        self._acquire(deadline)
        try:
            if deadline is not None:
                deadline.settle()
            yield
        finally:
            self._lock.release()

    def _acquire(self, deadline: Deadline | None) -> None:
        if deadline is None:
            self._lock.acquire()
            return
        while not self._lock.acquire(timeout=min(_CANCELLATION_CHECK_S, deadline.remaining_s or _CANCELLATION_CHECK_S)):
            deadline.check()

    @contextmanager
    def reading(self) -> Iterator[StoreConnection]:
        """Read the store in one transaction, which sees a single state of it.

        Raises:
            StoreFailed: The file system refused a read.
        """
        with translated_errors(_NAME):
            try:
                connection = self._readers.get_nowait()
            except Empty:
                connection = self._connect()
            try:
                connection.cipher = self._cipher
                connection.execute("BEGIN")
                yield connection
            finally:
                self._return(connection)

    def _return(self, connection: StoreConnection) -> None:
        """End the transaction of a reader, and keep the connection for other readers if it is usable and one may."""
        try:
            if connection.in_transaction:
                connection.execute("COMMIT")
            if not self._closed:
                self._readers.put_nowait(connection)
                return
        except (sqlite3.Error, Full):
            pass
        connection.close()

    def checkpoint(self) -> bool:
        """Move the contents of the write-ahead log into the store and truncate the log.

        Returns:
            Whether the log was truncated; an open reader may prevent it.

        Raises:
            StorageFull: The disk is full.
            StoreFailed: The file system refused a read or write.
        """
        with self._lock, translated_errors(_NAME):
            self._writer.execute(f"PRAGMA busy_timeout = {self._checkpoint_wait_ms}")
            try:
                busy, _, _ = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                self._writer.execute(f"PRAGMA busy_timeout = {_BUSY_WAIT_MS}")
            self._checkpoint_wait_ms = _BLOCKED_WAIT_MS if busy else _CHECKPOINT_WAIT_MS
            return not busy

    def rewrite(self) -> bool:
        """Rewrite the store without any erased bytes and truncate the write-ahead log.

        Returns:
            Whether the log was truncated; an open reader may prevent it, and then the old bytes stay in the store.

        Raises:
            StorageFull: The disk has no room for a second copy of the store; nothing was changed.
            StoreFailed: The file system refused a read or write.
        """
        with self._lock, translated_errors(_NAME):
            try:
                self._writer.execute("VACUUM")
            except BaseException:
                self.checkpoint()  # an interrupted VACUUM leaves its pages in the log, which would keep the disk full
                raise
            return self.checkpoint()

    def integrity_faults(self) -> list[str]:
        """Check the file's structure and references; return one sentence for each fault."""
        with self.reading() as connection:
            found = [row[0] for row in connection.execute("PRAGMA integrity_check(10)") if row[0] != "ok"]
            found += [
                f"a row of the table {row[0]} refers to a missing row"
                for row in connection.execute("PRAGMA foreign_key_check")
            ]
        return found

    def close(self) -> None:
        """Close all connections; SQLite then moves the write-ahead log into the store."""
        self._closed = True
        with suppress(Empty):
            while True:
                self._readers.get_nowait().close()
        self._writer.close()
