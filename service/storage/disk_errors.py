"""Errors of files and of SQLite as errors of the service."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import StorageFull, StoreBusy, StoreFailed

_PRIMARY_CODE = 0xFF  # mask that removes the extension from an extended result code of SQLite
_UNUSABLE = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CORRUPT)


@contextmanager
def translated_errors(store: str) -> Iterator[None]:
    """Raise storage errors of SQLite, also those that SQLAlchemy wraps, as errors of the service; pass others on.

    Args:
        store: The store as messages name it, such as `the gallery store`.

    Raises:
        StorageFull: The disk is full.
        StoreBusy: Another program has locked the store.
        StoreFailed: The file system refused a read or write.
    """
    try:
        yield
    except OSError as error:
        raise StoreFailed(f"{store} cannot be opened: {error.strerror}") from error
    except Exception as error:
        cause = getattr(error, "orig", error)  # SQLAlchemy keeps SQLite's error there
        if not isinstance(cause, sqlite3.Error):
            raise
        code = (getattr(cause, "sqlite_errorcode", 0) or 0) & _PRIMARY_CODE
        if code == sqlite3.SQLITE_FULL:
            raise StorageFull("the disk is full; nothing was changed") from error
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StoreBusy(f"another program has locked {store}; nothing was changed; try again") from error
        if code in _UNUSABLE:
            raise StoreFailed(f"{store} failed: {cause}") from error
        raise
