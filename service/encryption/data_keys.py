"""The data keys: one for each gallery, subject and snapshot of an index, wrapped under the master key.

They lie apart from the galleries, and backups keep only their newest state. So when the data key of a subject is
destroyed, every copy of what it encrypted is unreadable, wherever the copy lies. The row of a destroyed key stays,
empty: so a key that was destroyed differs from one that an older copy of this file never had.

A new key is on the disk before the row that it encrypts, and a key is destroyed after its row. A process that is
killed between the two leaves a key without a row, which does no harm, or an erasure whose keys the next start destroys.
A row may have several keys: one for each time at which the store was encrypted, as after the restore of a backup that
was not. The authentication of a value tells which one it needs. A reader of an earlier state of the store may see a row
whose keys are destroyed: it was erased a moment ago.
"""

import secrets
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
from service.encryption.tables import DESTROYED, SCHEMA, data_keys, data_keys_state
from service.errors import DataKeysUnfit, MasterKeyWrong
from service.storage.disk_errors import translated_errors
from service.storage.ownership import Ownership
from service.storage.reading import open_unchanged
from service.storage.tables import Tables

DATA_KEYS = "data_keys.sqlite"
DATA_KEYS_LOCK = "data_keys.lock"
UNFINISHED = f"{DATA_KEYS}.part*"
"""What a restore that was cut off leaves beside the data keys."""

Owner = Literal["gallery", "subject"]
Kind = Literal["gallery", "subject", "snapshot"]

_CACHED = 4096  # opened data keys, 1 kB each
_AT_ONCE = 500  # keys in one statement
_ID_BYTES = 16
_REWRAPPED = 10_000  # at once
# Many are read at once, and SQLAlchemy's work for each takes 0.7 ms.
_SELECT = "SELECT id, wrapped FROM data_keys WHERE kind = ? AND key = ? ORDER BY rowid DESC"
_LIVE = data_keys.c.wrapped != DESTROYED


class DataKeysState(NamedTuple):
    """What the data keys belong to.

    Attributes:
        store: Id of the gallery store.
        master_key: Id of the master key.
        last_erasure: Number of the last erasure whose keys are destroyed.
        has_keys: Whether there is a data key, or was one.
    """

    store: str
    master_key: str
    last_erasure: int
    has_keys: bool


class Candidates(NamedTuple):
    """The data keys of a row.

    Attributes:
        ciphers: Those that are not destroyed, newest first.
        destroyed: Whether one was destroyed.
    """

    ciphers: tuple[AESGCM, ...]
    destroyed: bool


class _New(NamedTuple):
    """A data key that is not stored yet."""

    id: bytes
    gallery: int
    wrapped: bytes
    cipher: AESGCM


class DataKeys:
    """The stored data keys. Thread-safe, except that new keys are made by one thread at a time: the store's writer."""

    def __init__(self, path: Path, master_key: MasterKey, store: str) -> None:
        """Open the data keys of a gallery store, which one process may do, and create their file if it is missing.

        Args:
            path: The SQLite file.
            master_key: Master key under which they are wrapped.
            store: Id of the gallery store.

        Raises:
            GalleriesInUse: Another service or command uses them.
            DataKeysUnfit: They belong to other galleries.
            MasterKeyWrong: They are wrapped under another master key.
            StoreUnfit: The file is not a store of data keys, or a newer version wrote it.
            StorageFull: The disk is full.
            StoreFailed: The file system refused a read or write.
        """
        self._master_key = master_key
        self._store = store
        self._lock = threading.Lock()  # of the following three
        self._new: dict[tuple[Kind, int], _New] = {}
        self._opened: OrderedDict[tuple[Kind, int], Candidates] = OrderedDict()
        self._destructions = 0
        self._owner = own_data_keys(path)
        try:
            for left in path.parent.glob(UNFINISHED):  # erasures would not reach the keys in it
                left.unlink()
            self._tables = Tables(path, SCHEMA)
        except BaseException:
            self._owner.release()
            raise
        try:
            with self._tables.writing() as connection:
                state = _read_state(connection)
                if state is None or not state.has_keys:  # nothing is encrypted
                    state = DataKeysState(store, master_key.id, 0, has_keys=False)
                    connection.execute(delete(data_keys_state))
                    row = {"store": store, "master_key": master_key.id, "last_erasure": 0}
                    connection.execute(insert(data_keys_state).values(row))
            require_fit(state, master_key, store)
            self._last_erasure = state.last_erasure
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._tables.close()
        self._owner.release()

    @property
    def last_erasure(self) -> int:
        """Number of the last erasure whose data keys are destroyed."""
        return self._last_erasure

    def make(self, owner: Owner, keys: Iterable[int], gallery: int) -> None:
        """Make data keys for new rows of a gallery, which `store_new` stores."""
        for key in keys:
            plain, key_id = AESGCM.generate_key(8 * KEY_BYTES), secrets.token_bytes(_ID_BYTES)
            new = _New(key_id, gallery, self._master_key.wrap(plain, self._context(owner, key, key_id)), AESGCM(plain))
            with self._lock:
                self._new[owner, key] = new

    def discard(self, owner: Owner, keys: Iterable[int]) -> None:
        """Discard new data keys whose rows were removed before they were committed."""
        with self._lock:
            for key in keys:
                self._new.pop((owner, key), None)

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
            {"id": new.id, "kind": kind, "key": key, "gallery": new.gallery, "wrapped": new.wrapped}
            for (kind, key), new in self._new.items()
        ]
        with self._tables.writing() as connection:
            connection.execute(insert(data_keys), rows)
        with self._lock:
            for owner_and_key in self._new:
                self._opened.pop(owner_and_key, None)
            self._new.clear()

    def drop_new(self) -> None:
        """Drop the data keys that were made since the last call of `store_new`."""
        with self._lock:
            self._new.clear()

    def find(self, kind: Kind, keys: Iterable[int]) -> dict[int, Candidates]:
        """Return the data keys of rows by the keys of these rows; those without any are missing from the answer.

        Raises:
            DataKeysUnfit: A data key was altered.
            StoreFailed: The file system refused a read.
        """
        found: dict[int, Candidates] = {}
        missing = []
        with self._lock:
            destructions = self._destructions
            for key in dict.fromkeys(keys):
                if (new := self._new.get((kind, key))) is not None:
                    found[key] = Candidates((new.cipher,), destroyed=False)
                elif (opened := self._opened.get((kind, key))) is not None:
                    found[key] = opened
                else:
                    missing.append(key)
        read = dict(self._read(kind, missing))
        with self._lock:
            if self._destructions == destructions:  # otherwise one of them may be destroyed by now
                for key, opened in read.items():
                    self._opened[kind, key] = opened
                while len(self._opened) > _CACHED:
                    self._opened.popitem(last=False)
        return found | read

    def greatest(self, owner: Owner) -> int:
        """Return the greatest key of a gallery or subject that has or had a data key."""
        with self._tables.reading() as connection:
            greatest = select(func.coalesce(func.max(data_keys.c.key), 0)).where(data_keys.c.kind == owner)
            return int(connection.execute(greatest).scalar_one())

    def make_snapshot(self, gallery: int) -> AESGCM:
        """Make a data key for a new snapshot of the index of a gallery; it is on the disk when this returns.

        Raises:
            StorageFull: The disk is full.
            StoreBusy: Another program has locked the store of data keys.
            StoreFailed: The file system refused the write.
        """
        plain, key_id = AESGCM.generate_key(8 * KEY_BYTES), secrets.token_bytes(_ID_BYTES)
        wrapped = self._master_key.wrap(plain, self._context("snapshot", gallery, key_id))
        row = {"id": key_id, "kind": "snapshot", "key": gallery, "gallery": gallery, "wrapped": wrapped}
        with self._tables.writing() as connection:
            _delete_snapshot(connection, gallery)
            connection.execute(insert(data_keys).values(row))
        self._forget()
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
            _delete_snapshot(connection, gallery)
        self._forget()

    def destroy(self, subjects: Sequence[int], galleries: Sequence[int], last_erasure: int) -> None:
        """Destroy the data keys of erased subjects, and of erased galleries with all that is in them.

        Args:
            subjects: Keys of erased subjects.
            galleries: Keys of erased galleries.
            last_erasure: Number of the last erasure whose keys are then destroyed.

        Raises:
            StorageFull: The disk is full.
            StoreBusy: Another program has locked the store of data keys.
            StoreFailed: The file system refused the write.
        """
        with self._tables.writing() as connection:
            _empty(connection, "subject", subjects)
            for gallery in galleries:
                of_contents = (data_keys.c.gallery == gallery) & (data_keys.c.kind != "gallery")
                connection.execute(delete(data_keys).where(of_contents))
            _empty(connection, "gallery", galleries)
            connection.execute(update(data_keys_state).values(last_erasure=last_erasure))
        self._last_erasure = last_erasure
        self._forget()

    def checkpoint(self) -> bool:
        """Truncate the write-ahead log, which may have data keys that are destroyed; return whether it was truncated.

        Raises:
            StorageFull: The disk is full.
            StoreFailed: The file system refused a read or write.
        """
        return self._tables.truncate_log()

    def snapshots(self) -> set[int]:
        """Return the keys of the galleries whose snapshot has a data key."""
        with self._tables.reading() as connection:
            return set(connection.execute(select(data_keys.c.key).where(data_keys.c.kind == "snapshot")).scalars())

    def rewrap(self, master_key: MasterKey, progress: Progress = no_progress) -> int:
        """Wrap all data keys under another master key, in one transaction, and return their number.

        Nothing that they encrypt changes. After a `checkpoint`, the earlier master key opens nothing of the file.

        Raises:
            DataKeysUnfit: A data key was altered; nothing was changed.
            StorageFull: The disk is full; nothing was changed.
            StoreBusy: Another program has locked the store of data keys; nothing was changed.
            StoreFailed: The file system refused a read or write; nothing was changed.
        """
        with self._tables.writing() as connection:
            total = int(connection.execute(select(func.count()).select_from(data_keys).where(_LIVE)).scalar_one())
            done = 0
            for rows in _parts(connection):
                changed = []
                for key_id, kind, key, wrapped in rows:
                    context = self._context(kind, key, key_id)
                    plain = self._master_key.unwrap(wrapped, context)
                    changed.append({"of_id": key_id, "wrapped": master_key.wrap(plain, context)})
                connection.execute(update(data_keys).where(data_keys.c.id == bindparam("of_id")), changed)
                done += len(rows)
                progress("wrapping data keys", done, total)
            connection.execute(update(data_keys_state).values(master_key=master_key.id))
        self._master_key = master_key
        return total

    def _read(self, kind: Kind, keys: Sequence[int]) -> Iterator[tuple[int, Candidates]]:
        if not keys:
            return
        with translated_errors(SCHEMA.name), closing(self._tables.engine.raw_connection()) as connection:
            cursor = connection.cursor()
            for key in keys:
                cursor.execute(_SELECT, (kind, key))
                if rows := cursor.fetchall():
                    ciphers = tuple(
                        AESGCM(self._master_key.unwrap(wrapped, self._context(kind, key, key_id)))
                        for key_id, wrapped in rows
                        if wrapped != DESTROYED
                    )
                    yield key, Candidates(ciphers, destroyed=len(ciphers) < len(rows))
            cursor.close()

    def _forget(self) -> None:
        """Forget all opened data keys, after one was destroyed."""
        with self._lock:
            self._destructions += 1
            self._opened.clear()

    def _context(self, kind: Kind, key: int, key_id: bytes) -> bytes:
        return f"{self._store}/{kind}/{key}/{key_id.hex()}".encode()


def own_data_keys(path: Path) -> Ownership:
    """Own a file of data keys, so that no other process changes or replaces it.

    Raises:
        GalleriesInUse: Another service or command uses it.
    """
    return Ownership(path.parent, f"galleries with the data keys in {path.parent}", DATA_KEYS_LOCK)


def peek(path: Path) -> DataKeysState | None:
    """Read what data keys belong to without changing a file; None if there are none.

    Raises:
        DataKeysUnfit: The file is damaged or is not a store of data keys.
        StoreBusy: Another program has locked it.
        StoreFailed: The file system refused the read.
    """
    if not path.is_file() or not path.stat().st_size:
        return None
    try:
        with translated_errors(SCHEMA.name):
            return _peek(path)
    except sqlite3.DatabaseError as error:
        raise DataKeysUnfit(f"{path} is not a store of data keys: {error}") from error


def _peek(path: Path) -> DataKeysState | None:
    try:
        with closing(open_unchanged(path)) as connection:
            if connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None:
                return None  # its creation was cut off
            row = connection.execute(
                "SELECT store, master_key, last_erasure, EXISTS (SELECT 1 FROM data_keys) FROM data_keys_state"
            ).fetchone()
    except sqlite3.OperationalError:  # the file is locked, or the disk fails
        raise
    except sqlite3.DatabaseError as error:
        raise DataKeysUnfit(f"{path} is damaged or is not a store of data keys: {error}") from error
    return None if row is None else DataKeysState(row[0], row[1], row[2], bool(row[3]))


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
            f"the data keys are wrapped under the master key {state.master_key}, and this one is {master_key.id}; "
            "nothing was changed"
        )


def _read_state(connection: Connection) -> DataKeysState | None:
    row = connection.execute(select(data_keys_state)).one_or_none()
    has_keys = connection.execute(select(data_keys.c.key).limit(1)).first() is not None
    return None if row is None else DataKeysState(row.store, row.master_key, row.last_erasure, has_keys)


def _delete_snapshot(connection: Connection, gallery: int) -> None:
    of_snapshot = (data_keys.c.kind == "snapshot") & (data_keys.c.key == gallery)
    connection.execute(delete(data_keys).where(of_snapshot))


def _empty(connection: Connection, owner: Owner, keys: Sequence[int]) -> None:
    for start in range(0, len(keys), _AT_ONCE):
        part = data_keys.c.key.in_(keys[start : start + _AT_ONCE])
        connection.execute(update(data_keys).where((data_keys.c.kind == owner) & part).values(wrapped=DESTROYED))


def _parts(connection: Connection) -> Iterator[Sequence[tuple[bytes, Kind, int, bytes]]]:
    """Read all data keys that are not destroyed, a bounded number at a time, so that they can be changed meanwhile."""
    last = b""
    columns = (data_keys.c.id, data_keys.c.kind, data_keys.c.key, data_keys.c.wrapped)
    while True:
        after = select(*columns).where((data_keys.c.id > last) & _LIVE).order_by(data_keys.c.id)
        part = [
            (key_id, kind, key, wrapped) for key_id, kind, key, wrapped in connection.execute(after.limit(_REWRAPPED))
        ]
        if not part:
            return
        yield part
        last = part[-1][0]
