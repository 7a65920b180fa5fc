"""The data keys: one for each gallery, subject and snapshot of an index, wrapped under the master key.

They lie apart from the galleries, and backups keep only their newest state. So when the data key of a subject is
destroyed, every copy of what it encrypted is unreadable, wherever the copy lies.

A new key is on the disk before the row that it encrypts, and a key is destroyed after its row. A process that is killed
between the two leaves a key without a row, which does no harm, or an erasure whose keys the next start destroys. A row
without a key was erased a moment ago.
"""

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal, NamedTuple

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from models.types import Progress, no_progress
from service.encryption.master_key import KEY_BYTES, MasterKey
from service.encryption.tables import SCHEMA, data_keys, data_keys_state
from service.errors import DataKeysUnfit, MasterKeyWrong
from service.gallery.erased_keys import Erasure
from service.storage.disk_errors import translated_errors
from service.storage.reading import open_unchanged
from service.storage.tables import Tables

DATA_KEYS = "data_keys.sqlite"

Kind = Literal["gallery", "subject", "snapshot"]

_CACHED = 4096  # opened data keys, 1 kB each
_AT_ONCE = 500  # keys in one statement
_REWRAPPED_AT_ONCE = 10_000
_WRAPPED = select(data_keys.c.wrapped).where(
    data_keys.c.kind == bindparam("of_kind"), data_keys.c.key == bindparam("of_key")
)
_NEWEST = select(func.coalesce(func.max(data_keys.c.key), 0))


class DataKeysState(NamedTuple):
    """What the data keys belong to.

    Attributes:
        store: Id of the gallery store.
        master_key: Id of the master key.
        last_erasure: Number of the last erasure whose keys are destroyed.
    """

    store: str
    master_key: str
    last_erasure: int


class _New(NamedTuple):
    """A data key that is not stored yet."""

    gallery: int
    wrapped: bytes
    opened: AESGCM


class DataKeys:
    """The stored data keys. Thread-safe; new keys are made under the lock of the gallery store's writer."""

    def __init__(self, path: Path, master_key: MasterKey, store: str) -> None:
        """Open the data keys of a gallery store, creating their file if it is missing.

        Args:
            path: The SQLite file.
            master_key: Master key under which they are wrapped.
            store: Id of the gallery store.

        Raises:
            DataKeysUnfit: They belong to other galleries.
            MasterKeyWrong: They are wrapped under another master key.
            StoreUnfit: The file is not a store of data keys, or a newer version wrote it.
            StorageFull: The disk is full.
            StoreFailed: The file system refused a read or write.
        """
        self._master_key = master_key
        self._store = store
        self._new: dict[tuple[Kind, int], _New] = {}
        self._opened: OrderedDict[tuple[Kind, int], AESGCM] = OrderedDict()
        self._lock = threading.Lock()
        self._tables = Tables(path, SCHEMA)
        try:
            with self._tables.writing() as connection:
                state = read_state(connection)
                if state is None or not connection.execute(select(data_keys).limit(1)).first():  # nothing is encrypted
                    state = DataKeysState(store, master_key.id, 0)
                    connection.execute(delete(data_keys_state))
                    connection.execute(insert(data_keys_state).values(state._asdict()))
                self._newest = connection.execute(_NEWEST).scalar_one()
            require_fit(state, master_key, store)
            self._last_erasure = state.last_erasure
            # Many are read at once, so the statement is compiled once and goes to the driver.
            self._select = str(_WRAPPED.compile(dialect=self._tables.engine.dialect))
        except BaseException:
            self._tables.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._tables.close()

    def make(self, kind: Kind, keys: Iterable[int], gallery: int) -> None:
        """Make data keys for new rows of a gallery, which `store_new` stores.

        A stored data key is used again: its row was not committed, or is in a backup only.

        Raises:
            DataKeysUnfit: A stored data key was altered.
            StoreFailed: The file system refused a read.
        """
        wanted = list(keys)
        stored = self.find(kind, [key for key in wanted if key <= self._newest])
        for key in wanted:
            if key in stored:
                continue
            plain = AESGCM.generate_key(8 * KEY_BYTES)
            wrapped = self._master_key.wrap(plain, self._context(kind, key))
            self._new[kind, key] = _New(gallery, wrapped, AESGCM(plain))

    def store_new(self) -> None:
        """Write the data keys that were made since the last call to the disk.

        Raises:
            StorageFull: The disk is full.
            StoreBusy: Another program has locked the store of data keys.
            StoreFailed: The file system refused the write.
        """
        if not self._new:
            return
        rows = [
            {"kind": kind, "key": key, "gallery": new.gallery, "wrapped": new.wrapped}
            for (kind, key), new in self._new.items()
        ]
        with self._tables.writing() as connection:
            connection.execute(insert(data_keys), rows)
        self._newest = max(self._newest, *(key for _, key in self._new))
        self._new.clear()

    def drop_new(self) -> None:
        """Drop the data keys that were made since the last call of `store_new`."""
        self._new.clear()

    def find(self, kind: Kind, keys: Iterable[int]) -> dict[int, AESGCM]:
        """Return data keys by the keys of their rows; destroyed ones are missing from the answer.

        Raises:
            DataKeysUnfit: A data key was altered.
            StoreFailed: The file system refused a read.
        """
        found: dict[int, AESGCM] = {}
        missing = []
        with self._lock:
            for key in dict.fromkeys(keys):
                opened = self._opened.get((kind, key))
                if opened is not None:
                    found[key] = opened
                elif (new := self._new.get((kind, key))) is not None:
                    found[key] = new.opened
                else:
                    missing.append(key)
        if missing:
            for key, wrapped in self._read(kind, missing):
                found[key] = AESGCM(self._master_key.unwrap(wrapped, self._context(kind, key)))
                self._remember(kind, key, found[key])
        return found

    def make_snapshot(self, gallery: int) -> AESGCM:
        """Make a data key for a new snapshot of the index of a gallery; it is on the disk when this returns.

        Raises:
            StorageFull: The disk is full.
            StoreBusy: Another program has locked the store of data keys.
            StoreFailed: The file system refused the write.
        """
        plain = AESGCM.generate_key(8 * KEY_BYTES)
        wrapped = self._master_key.wrap(plain, self._context("snapshot", gallery))
        with self._tables.writing() as connection:
            _delete(connection, "snapshot", [gallery])
            connection.execute(insert(data_keys).values(kind="snapshot", key=gallery, gallery=gallery, wrapped=wrapped))
        self._remember("snapshot", gallery, AESGCM(plain))
        return AESGCM(plain)

    def destroy_snapshot(self, gallery: int) -> None:
        """Destroy the data key of a snapshot, if there is one; the snapshot cannot be read any more.

        Raises:
            StorageFull: The disk is full.
            StoreBusy: Another program has locked the store of data keys.
            StoreFailed: The file system refused the write.
        """
        if not self.find("snapshot", [gallery]):
            return
        with self._tables.writing() as connection:
            _delete(connection, "snapshot", [gallery])
        self._close_all([("snapshot", gallery)])
        self._tables.truncate_log()

    def destroy_erased(self, erasures: Sequence[Erasure]) -> None:
        """Destroy the data keys of erased galleries and subjects.

        Args:
            erasures: Erasures of the gallery store, oldest first, among them all after `last_erasure`.

        Raises:
            StorageFull: The disk is full.
            StoreBusy: Another program has locked the store of data keys.
            StoreFailed: The file system refused the write.
        """
        if not erasures:
            return
        with self._tables.writing() as connection:
            for erasure in erasures:
                _delete(connection, "subject", erasure.keys.subjects)
                for gallery in erasure.keys.galleries:
                    connection.execute(delete(data_keys).where(data_keys.c.gallery == gallery))
            connection.execute(update(data_keys_state).values(last_erasure=erasures[-1].number))
        self._last_erasure = erasures[-1].number
        if any(erasure.keys.galleries for erasure in erasures):
            with self._lock:
                self._opened.clear()
        self._close_all([("subject", key) for erasure in erasures for key in erasure.keys.subjects])
        self._tables.truncate_log()

    @property
    def last_erasure(self) -> int:
        """Number of the last erasure whose data keys are destroyed."""
        return self._last_erasure

    def all_of(self, kind: Kind) -> set[int]:
        """Return the keys of all rows of a kind that have a data key."""
        with self._tables.reading() as connection:
            return set(connection.execute(select(data_keys.c.key).where(data_keys.c.kind == kind)).scalars())

    def rewrap(self, master_key: MasterKey, progress: Progress = no_progress) -> int:
        """Wrap all data keys under another master key, in one transaction, and return their number.

        Nothing that they encrypt changes. When this returns, the earlier master key opens nothing of the file.

        Raises:
            DataKeysUnfit: A data key was altered; nothing was changed.
            StorageFull: The disk is full; nothing was changed.
            StoreBusy: Another program has locked the store of data keys; nothing was changed.
            StoreFailed: The file system refused a read or write; nothing was changed.
        """
        with self._tables.writing() as connection:
            total = int(connection.execute(select(func.count()).select_from(data_keys)).scalar_one())
            done = 0
            for kind, rows in _parts(connection):
                changed = []
                for key, wrapped in rows:
                    context = self._context(kind, key)
                    plain = self._master_key.unwrap(wrapped, context)
                    changed.append({"of_key": key, "wrapped": master_key.wrap(plain, context)})
                row = (data_keys.c.kind == kind) & (data_keys.c.key == bindparam("of_key"))
                connection.execute(update(data_keys).where(row), changed)
                done += len(rows)
                progress("wrapping data keys", done, total)
            connection.execute(update(data_keys_state).values(master_key=master_key.id))
        self._master_key = master_key
        self._tables.truncate_log()
        return total

    def _read(self, kind: Kind, keys: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        with translated_errors(SCHEMA.name), closing(self._tables.engine.raw_connection()) as connection:
            cursor = connection.cursor()
            for key in keys:
                cursor.execute(self._select, (kind, key))
                for row in cursor.fetchall():
                    yield key, row[0]
            cursor.close()

    def _remember(self, kind: Kind, key: int, opened: AESGCM) -> None:
        with self._lock:
            self._opened[kind, key] = opened
            if len(self._opened) > _CACHED:
                self._opened.popitem(last=False)

    def _close_all(self, keys: Iterable[tuple[Kind, int]]) -> None:
        with self._lock:
            for key in keys:
                self._opened.pop(key, None)

    def _context(self, kind: Kind, key: int) -> bytes:
        return f"{self._store}/{kind}/{key}".encode()


def peek(path: Path) -> DataKeysState | None:
    """Read what data keys belong to without changing a file; None if it cannot be known."""
    try:
        with closing(open_unchanged(path)) as connection:
            row = connection.execute("SELECT store, master_key, last_erasure FROM data_keys_state").fetchone()
    except sqlite3.Error:
        return None
    return None if row is None else DataKeysState(*row)


def read_state(connection: Connection) -> DataKeysState | None:
    """Read what data keys belong to; None if their store is new."""
    row = connection.execute(select(data_keys_state)).one_or_none()
    return None if row is None else DataKeysState(*row)


def require_fit(state: DataKeysState, master_key: MasterKey, store: str) -> None:
    """Refuse data keys of other galleries, or under another master key.

    Raises:
        DataKeysUnfit: They belong to other galleries.
        MasterKeyWrong: They are wrapped under another master key.
    """
    if state.store != store:
        raise DataKeysUnfit(
            "the data keys belong to other galleries; restore the galleries and their data keys together"
        )
    if state.master_key != master_key.id:
        raise MasterKeyWrong(
            f"the galleries are encrypted under the master key {state.master_key}, and this one is {master_key.id}; "
            "nothing was changed"
        )


def _delete(connection: Connection, kind: Kind, keys: Sequence[int]) -> None:
    for start in range(0, len(keys), _AT_ONCE):
        part = keys[start : start + _AT_ONCE]
        connection.execute(delete(data_keys).where((data_keys.c.kind == kind) & data_keys.c.key.in_(part)))


def _parts(connection: Connection) -> Iterator[tuple[Kind, Sequence[tuple[int, bytes]]]]:
    """Read all data keys, a bounded number at a time, so that they can be changed meanwhile."""
    kinds: tuple[Kind, ...] = ("gallery", "subject", "snapshot")
    for kind in kinds:
        last = -1
        while True:
            after = (data_keys.c.kind == kind) & (data_keys.c.key > last)
            rows = connection.execute(
                select(data_keys.c.key, data_keys.c.wrapped)
                .where(after)
                .order_by(data_keys.c.key)
                .limit(_REWRAPPED_AT_ONCE)
            )
            part = [(key, wrapped) for key, wrapped in rows]
            if not part:
                break
            yield kind, part
            last = part[-1][0]
