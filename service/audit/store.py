"""The store of the audit log: a table of the newest records, and files of older ones beside it."""

import hashlib
import hmac
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, delete, insert, select, update

from service.audit.archives import (
    PATTERN,
    Archive,
    digest_before,
    find_archives,
    records_between,
    records_of,
    write_archive,
)
from service.audit.chain import BEGINNING, chain_key, digest_after, faults_of, missing
from service.audit.records import Record
from service.audit.tables import SCHEMA, audit_ends, audit_records
from service.errors import AuditUnfit
from service.storage.disk_errors import translated_errors
from service.storage.tables import Tables

STORE = "audit.sqlite"
FILES = (f"{STORE}*", PATTERN)
"""Patterns of the names of the files of the audit log, which lie beside the keys."""

_ARCHIVED_AT_ONCE = 10_000  # while other writers wait, for a tenth of a second
_TOUCH = "UPDATE audit_ends SET seal = zeroblob(32)"
_READ_AT_ONCE = 1000


class _Ends(NamedTuple):
    """Both ends of the table: the number of the first record and the digest before it; number and digest of the last.

    `last` is `first - 1` if the table is empty.
    """

    first: int
    before_first: bytes
    last: int
    last_digest: bytes

    def seal(self, key: bytes) -> bytes:
        numbers = self.first.to_bytes(8, "big") + self.last.to_bytes(8, "big")
        return hmac.digest(key, b"ends" + numbers + self.before_first + self.last_digest, hashlib.sha256)


class AuditStore:
    """The stored records. Thread-safe; several processes may append."""

    def __init__(self, directory: Path, server_secret: bytes) -> None:
        """Open the store of a directory, creating it if missing.

        Args:
            directory: Directory of the store, which is private: the store of keys restricts it and all files in it.
            server_secret: The server secret.

        Raises:
            StoreUnfit: The file is not an audit log, or a newer version wrote it.
            StorageFull: The disk is full.
            StoreBusy: Another process has locked the store.
            StoreFailed: The file system refused a read or write.
        """
        self.directory = directory
        self._key = chain_key(server_secret)
        self._tables = Tables(directory / STORE, SCHEMA)
        try:
            self._begin_if_new()
        except BaseException:
            self._tables.close()
            raise
        self._appending = threading.Lock()
        self._is_durable = True
        # Each request appends, so its statements are compiled once and go to the driver: through SQLAlchemy, an append
        # took 0.15 ms instead of 0.04, and 0.45 ms in a busy service.
        dialect = self._tables.engine.dialect
        self._read_ends = str(select(audit_ends).compile(dialect=dialect))
        self._insert = str(insert(audit_records).compile(dialect=dialect))
        self._update_ends = str(update(audit_ends).compile(dialect=dialect))
        self._connection = self._tables.engine.raw_connection()
        driver = self._connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        self._driver = driver

    def append(self, contents: Sequence[str], durable: bool = True) -> int:
        """Append records, which survive the end of the process; without records, check that they could be appended.

        Args:
            contents: Contents of the records.
            durable: Whether they and all earlier ones also survive a loss of power when this returns.

        Returns:
            The number of records in the table.

        Raises:
            AuditUnfit: The end of the log was altered.
            StorageFull: The disk is full; nothing was appended.
            StoreBusy: Another process has locked the store; nothing was appended.
            StoreFailed: The file system refused a write; nothing was appended.
        """
        with self._appending, translated_errors(SCHEMA.name):
            try:
                self._set_durable(durable)
                self._driver.execute("BEGIN IMMEDIATE")
                row = self._driver.execute(self._read_ends).fetchone()
                if row is None:
                    raise AuditUnfit("the ends of the audit log were removed; run vultus audit verify")
                ends = self._checked(_Ends(*row[:4]), row[4])
                digest, rows = ends.last_digest, []
                for number, content in enumerate(contents, ends.last + 1):
                    digest = digest_after(self._key, digest, number, content)
                    rows.append((number, content, digest))
                if rows:
                    self._driver.executemany(self._insert, rows)
                else:  # SQLite would write nothing, and so find no full disk and flush no earlier record
                    self._driver.execute(_TOUCH)
                ends = ends._replace(last=ends.last + len(rows), last_digest=digest)
                self._driver.execute(self._update_ends, (*ends, ends.seal(self._key)))
                self._driver.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # SQLite may already have rolled back
                    self._driver.execute("ROLLBACK")
                raise
        return ends.last - ends.first + 1

    def _set_durable(self, durable: bool) -> None:
        if durable is not self._is_durable:
            self._driver.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._is_durable = durable

    def archive(self, keep: int) -> None:
        """Move the oldest records to a file, at most 10,000 at a time; at least `keep` stay in the table.

        Raises:
            AuditUnfit: A file that is not of these records is in their place; nothing was moved.
            StorageFull: The disk is full; nothing was moved.
            StoreFailed: The file system refused a write; nothing was moved.
        """
        with self._tables.writing() as connection:
            ends = self._ends(connection)
            last = min(ends.last - keep, ends.first + _ARCHIVED_AT_ONCE - 1)
            if last < ends.first:
                return
            moved = select(audit_records).where(audit_records.c.number <= last).order_by(audit_records.c.number)
            records = [_record(row) for row in connection.execute(moved)]
            for left in find_archives(self.directory):
                if left.first == ends.first:  # of a process that was killed: its records are still in the table
                    left.path.unlink()
            write_archive(self.directory, ends.first, last, ends.before_first, records, self._key)
            connection.execute(delete(audit_records).where(audit_records.c.number <= last))
            self._set_ends(connection, ends._replace(first=last + 1, before_first=records[-1].digest))

    def records(self, newest: int | None = None) -> Iterator[Record]:
        """Yield the records of files and table as they are now, oldest first.

        Args:
            newest: How many of the newest records; None for all.

        Raises:
            AuditUnfit: A file is malformed.
            StoreFailed: The file system refused a read.
        """
        with self._tables.reading() as connection:
            ends = _ends_of(connection.execute(select(audit_ends)).one())
            since = 1 if newest is None else ends.last - newest + 1
            archives = self._archives(ends.first) if since < ends.first else []
            for record in chain(chain.from_iterable(map(records_of, archives)), self._stored(connection, since)):
                if record.number >= since:
                    yield record

    def page(self, count: int, before: int | None = None) -> list[Record]:
        """Read the newest records, newest first, or the newest of those before a number.

        Writers go on meanwhile, and of older files only the records of the page are read.

        Args:
            count: Maximum number of records.
            before: Number before which they are; None for no limit.

        Raises:
            AuditUnfit: A file is malformed.
            StoreFailed: The file system refused a read.
        """
        with self._tables.reading() as connection:
            ends = _ends_of(connection.execute(select(audit_ends)).one())
            last = ends.last if before is None else min(before - 1, ends.last)
            stored = select(audit_records).where(audit_records.c.number <= last)
            newest = stored.order_by(audit_records.c.number.desc()).limit(count)
            found = [_record(row) for row in connection.execute(newest)]
            archives = self._archives(ends.first) if len(found) < count else []
        for archive in reversed(archives):
            end = min(last, archive.last)
            begin = end - (count - len(found)) + 1
            if len(found) < count and archive.first <= end:
                found += reversed(records_between(archive, begin, end))
        return found

    def faults(self) -> Iterator[str]:
        """Check the whole chain as it is now, files first, and yield one sentence for each fault.

        Files of the oldest records may have been taken away as a whole.
        """
        with self._tables.reading() as connection:
            rows = connection.execute(select(audit_ends)).all()
            if len(rows) != 1:
                yield "the ends of the log were removed or repeated"
                return
            ends = _ends_of(rows[0])
            if not hmac.compare_digest(rows[0].seal, ends.seal(self._key)):
                yield "the ends of the log were changed, or the log was made under another server secret"
            try:
                yield from self._chain_faults(connection, ends)
            except AuditUnfit as error:
                yield str(error)  # what follows in the file cannot be read

    def _chain_faults(self, connection: Connection, ends: _Ends) -> Iterator[str]:
        archives = self._archives(ends.first)
        first = archives[0].first if archives else ends.first
        before = digest_before(archives[0], self._key) if archives else ends.before_first
        for archive in archives[1:]:
            digest_before(archive, self._key)
        last = Record(first - 1, "", BEGINNING)

        def followed() -> Iterator[Record]:
            nonlocal last
            for record in chain(chain.from_iterable(map(records_of, archives)), self._stored(connection, 0)):
                last = record
                yield record

        yield from faults_of(followed(), self._key, first, before)
        if last.number < ends.last:
            yield missing(last.number + 1, ends.last) + " at the end"
        elif last.number >= first and not hmac.compare_digest(last.digest, ends.last_digest):
            yield f"record {last.number} is not the one that was written last"

    def close(self) -> None:
        """Close the store."""
        self._connection.close()
        self._tables.close()

    def _begin_if_new(self) -> None:
        with self._tables.writing() as connection:
            if connection.execute(select(audit_ends)).first() is not None:
                return
            if find_archives(self.directory) or connection.execute(select(audit_records.c.number)).first():
                raise AuditUnfit(
                    f"the beginning of the audit log is missing in {STORE}, although it has older records; restore it, "
                    "or move all its files elsewhere to begin anew"
                )
            new = _Ends(1, BEGINNING, 0, BEGINNING)
            connection.execute(insert(audit_ends).values(**new._asdict(), seal=new.seal(self._key)))

    def _ends(self, connection: Connection) -> _Ends:
        """Return the ends of the table.

        Raises:
            AuditUnfit: They were altered.
        """
        row = connection.execute(select(audit_ends)).one()
        return self._checked(_ends_of(row), row.seal)

    def _checked(self, ends: _Ends, seal: bytes) -> _Ends:
        if not hmac.compare_digest(seal, ends.seal(self._key)):
            raise AuditUnfit("the end of the audit log was altered; run vultus audit verify")
        return ends

    def _set_ends(self, connection: Connection, ends: _Ends) -> None:
        connection.execute(update(audit_ends).values(**ends._asdict(), seal=ends.seal(self._key)))

    def _stored(self, connection: Connection, since: int) -> Iterator[Record]:
        stored = select(audit_records).where(audit_records.c.number >= since).order_by(audit_records.c.number)
        for row in connection.execution_options(yield_per=_READ_AT_ONCE).execute(stored):
            yield _record(row)

    def _archives(self, first: int) -> list[Archive]:
        """Return the files of the records before the first one of the table, oldest first.

        A process that was killed may have left a file of records that are still in the table.
        """
        return [archive for archive in find_archives(self.directory) if archive.last < first]


def _record(row: Row[Any]) -> Record:
    return Record(row.number, row.content, row.digest)


def _ends_of(row: Row[Any]) -> _Ends:
    return _Ends(row.first, row.before_first, row.last, row.last_digest)
