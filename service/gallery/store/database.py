"""SQLite as the galleries use it: one writer, any number of readers, every commit on the disk before it is told."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, LifoQueue

from models.errors import VultusError
from service.errors import StorageFull, StoreFailed, StoreUnfit
from service.gallery.store.schema import PAGE_BYTES, migrate

_CACHE_KIB = 65536
_CUT_WITHIN_MS = 250  # what an erasure waits for readers before it leaves the log to be cut later
_MOST_IDLE_READERS = 16
_PRIMARY_CODE = 0xFF  # an extended result code of SQLite without its extension


class Database:
    """A store file. Safe for use by several threads at once."""

    def __init__(self, path: Path) -> None:
        """Open a store, made anew if there is none.

        Raises:
            StoreUnfit: The file is no store, or one of a newer version.
            StorageFull, StoreFailed: The file system refused.
        """
        self.path = path
        os.environ.setdefault("SQLITE_TMPDIR", str(path.parent))  # what VACUUM spills is nobody else's to read
        self._lock = threading.RLock()
        self._readers: LifoQueue[sqlite3.Connection] = LifoQueue(_MOST_IDLE_READERS)
        with _translated_errors():
            self._writer = self._connect()
        try:
            with _translated_errors():
                self._writer.execute(f"PRAGMA page_size = {PAGE_BYTES}")
                self._writer.execute(f"PRAGMA busy_timeout = {_CUT_WITHIN_MS}")  # only readers can be in its way
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
            raise StoreUnfit(f"{path.name} is not a store of galleries: {error}") from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, cached_statements=256)
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA busy_timeout = 5000")
        return connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Change the store in one transaction: all of it is on the disk afterwards, or nothing.

        Raises:
            StorageFull, StoreFailed: The file system refused; nothing was changed.
        """
        with self._lock, _translated_errors():
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # SQLite may have rolled back by itself
                    self._writer.execute("ROLLBACK")
                raise

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep every other writer out: for what must change together with the store."""
        with self._lock:
            yield

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Read the store as it is at one moment."""
        with _translated_errors():
            try:
                connection = self._readers.get_nowait()
            except Empty:
                connection = self._connect()
            try:
                connection.execute("BEGIN")
                yield connection
            finally:
                connection.execute("COMMIT")
                if self._readers.full():
                    connection.close()
                else:
                    self._readers.put_nowait(connection)

    def checkpoint(self) -> bool:
        """Move what the write-ahead log holds into the store and cut the log to nothing.

        Returns:
            Whether it was cut; a reader may have been in the way.
        """
        with self._lock, _translated_errors():
            busy, _, _ = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return not busy

    def rewrite(self) -> None:
        """Write the store anew without anything that was erased, and cut the log to nothing."""
        with self._lock, _translated_errors():
            try:
                self._writer.execute("VACUUM")
            finally:
                self.checkpoint()  # what a full disk broke off would keep it full

    def damages(self) -> list[str]:
        """Check the file's structure and references; an empty list is good."""
        with self.reading() as connection:
            found = [row[0] for row in connection.execute("PRAGMA integrity_check(10)") if row[0] != "ok"]
            found += [f"a row of {row[0]} refers to nothing" for row in connection.execute("PRAGMA foreign_key_check")]
        return found

    def close(self) -> None:
        """Close all connections; the log is moved into the store."""
        with suppress(Empty):
            while True:
                self._readers.get_nowait().close()
        self._writer.close()


@contextmanager
def _translated_errors() -> Iterator[None]:
    """Say in the project's own words what the file system refused."""
    try:
        yield
    except sqlite3.Error as error:
        code = (getattr(error, "sqlite_errorcode", 0) or 0) & _PRIMARY_CODE
        if code == sqlite3.SQLITE_FULL:
            raise StorageFull("the disk is full; nothing was changed") from error
        if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CORRUPT):
            raise StoreFailed(f"the store of the galleries failed: {error}") from error
        raise
