"""The opened galleries of one data directory: the store, an index for each gallery, and index upkeep.

The modules beside this one implement the operations on galleries. A change is first committed to the store and then
applied to the index, before the caller gets its answer. Both steps hold the store's lock, so changes reach an index in
the order of the store.
"""

import logging
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from models.deadline import Deadline
from models.runtime import usable_cores
from service.errors import ContractMismatch, StoreFailed, StoreUnfit, SubjectFull
from service.gallery.encrypting import ErasedDataKeys, destroy_erased_keys, open_encrypted
from service.gallery.encryption import Encryption, require_master_key
from service.gallery.erasure_log import ERASURE_LOG, ErasureLog
from service.gallery.index.faiss_vectors import BYTES, search_pool
from service.gallery.index.live import IndexLimits, LiveIndex
from service.gallery.index.snapshot import remove_partial
from service.gallery.log_truncation import LogTruncation
from service.gallery.records import Gallery
from service.gallery.store import gallery_rows as rows
from service.gallery.store.contents import StoreConnection
from service.gallery.store.database import Database
from service.gallery.store.encryption_state import peek
from service.storage.ownership import LOCK, Ownership
from service.storage.private_files import make_private

STORE = "store.sqlite"
STORE_FILES = frozenset({STORE, f"{STORE}-wal", f"{STORE}-shm", f"{STORE}-journal", LOCK, ERASURE_LOG})
UNRESTORED = f"{STORE}.unrestored"
"""A store that `vultus restore` has not completed; the galleries cannot be opened beside it."""

_CANCELLATION_CHECK_S = 0.1  # interval at which a wait for builds checks whether the client has disconnected

_log = logging.getLogger("vultus")


@dataclass(eq=False)
class _Task:
    """A pending build of an index.

    Attributes:
        ignore_snapshot: Whether to build from the store even if there is a usable snapshot.
        done: Completes when the build has ended.
    """

    ignore_snapshot: bool
    done: "Future[None]" = field(default_factory=Future)


@dataclass(frozen=True, slots=True)
class IndexState:
    """The indices of all galleries.

    Attributes:
        galleries: Number of galleries.
        missing: Number of galleries whose index should exist and is not built.
        templates, bytes: Number of templates and memory of their vectors, by kind of index.
        builds: Number of builds since the galleries were opened.
        oldest_snapshot: Seconds since 1970 at which the oldest snapshot was written; None without one.
    """

    galleries: int
    missing: int
    templates: dict[str, int]
    bytes: dict[str, int]
    builds: int
    oldest_snapshot: float | None


class Galleries:
    """Store, indices and index upkeep. Thread-safe; the process owns the directory exclusively."""

    def __init__(
        self,
        directory: Path,
        contract_id: str | None,
        dimensions: int,
        search_threads: int = 0,
        limits: IndexLimits | None = None,
        build: bool = True,
        max_templates: int = sys.maxsize,
        erasure_log: Path | None = None,
        encryption: Encryption | None = None,
    ) -> None:
        """Open the galleries of a directory, creating it if missing, and start building their indices.

        Args:
            directory: Directory of the store and the snapshots.
            contract_id: Contract of the embeddings to store and search for; None if no model is loaded.
            dimensions: D, length of each embedding vector.
            search_threads: Number of search threads; 0 means one for each available core.
            limits: Template counts at which the kind of index changes.
            build: Whether to build indices, which searching and completing erasures require.
            max_templates: Maximum number of templates of a subject; a subject that has more keeps them.
            erasure_log: File of the list of erasures; None for one in the directory.
            encryption: Encryption at rest; None for none.

        Raises:
            GalleriesInUse: Another process owns the directory.
            StoreUnfit: The file is not a gallery store, it lost its contents, or a newer version wrote it.
            StoreFailed: The file system refused to create or open the store.
            StorageFull: The disk is full.
            EncryptionError: The master key or the data keys do not fit the store; nothing was changed.
        """
        self.directory = directory
        self.contract_id = contract_id
        self.dimensions = dimensions
        self.max_templates = max_templates
        self._limits = limits or IndexLimits()
        try:
            make_private(directory, (*STORE_FILES, f"{UNRESTORED}*", "*.graph", "*.graph.part"))
            self._owner = Ownership(directory)
        except OSError as error:
            raise StoreFailed(f"galleries cannot be stored in {directory}: {error.strerror}") from error
        try:
            _refuse_unrestored(directory)
            _refuse_truncated(directory)
            master_key = require_master_key(encryption, peek(directory / STORE))
            self.database = Database(directory / STORE)
            self._data_keys = open_encrypted(self.database, encryption, master_key, directory)
            self._erasure_log = ErasureLog(erasure_log or directory / ERASURE_LOG, self.database)
            self.complete_erasures()  # a killed process may not have completed its last erasure
            self._log_truncations = [LogTruncation(self.database)]
            if self._data_keys is not None:
                self._log_truncations.append(LogTruncation(ErasedDataKeys(self._data_keys, self.database)))
            self.truncate_log()  # a killed process may have left erased records in the log
            remove_partial(directory)
        except BaseException:
            self._owner.release()
            raise
        self._threads = search_pool(search_threads or usable_cores())
        self._upkeep = ThreadPoolExecutor(1, thread_name_prefix="upkeep")
        self._planning = threading.Lock()
        self._tasks: dict[int, Future[None]] = {}
        self._waiting: dict[int, _Task] = {}
        self._closing = threading.Event()
        self._live: dict[int, LiveIndex] = {}
        self._builds = 0
        with self.database.reading() as connection:
            found = list(rows.iterate(connection))
        self._remove_orphans({gallery.key for gallery in found})
        for gallery in found:
            live = self.register(gallery)
            if build and self.searches(gallery):
                self.rebuild(live)

    def close(self) -> None:
        """Stop building indices, close the store and release the directory."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._upkeep.shutdown(cancel_futures=True)
        for truncation in self._log_truncations:
            truncation.close()
        self._threads.shutdown()
        self.database.close()
        if self._data_keys is not None:
            self._data_keys.close()
        self._owner.release()

    def find(self, connection: StoreConnection, name: str | Gallery) -> Gallery:
        """Read a gallery whose embedding contract is that of the loaded model.

        Work in several transactions names the gallery in the first only, because the name may be given to another one.

        Args:
            connection: Connection with an open transaction.
            name: Name of the gallery, or the gallery as it was read earlier.

        Raises:
            GalleryUnknown: No gallery has this name, or the gallery was erased.
            ContractMismatch: The gallery holds embeddings of another contract.
        """
        gallery = rows.find(connection, name)
        self.require_contract(gallery.contract_id, "the gallery holds embeddings")
        return gallery

    def find_all(self, connection: StoreConnection, names: Sequence[str]) -> list[Gallery]:
        """Read several galleries like `find`; names that refer to the same gallery return it once.

        Raises:
            GalleryUnknown: No gallery has one of the names.
            ContractMismatch: A gallery holds embeddings of another contract.
        """
        found = [self.find(connection, name) for name in names]
        return list({gallery.key: gallery for gallery in found}.values())

    def searches(self, gallery: Gallery) -> bool:
        """Return whether the index of a gallery is of use: for a search, or without a model, for a check."""
        return self.contract_id is None or gallery.contract_id == self.contract_id

    def served_contract(self) -> str:
        """Return the contract of the loaded model.

        Raises:
            ContractMismatch: No model is loaded.
        """
        if self.contract_id is None:
            raise ContractMismatch("no model is loaded, so the gallery would have no embedding contract")
        return self.contract_id

    def require_contract(self, contract_id: str, what: str) -> None:
        """Refuse embeddings of another contract.

        Args:
            contract_id: Contract of the embeddings.
            what: Beginning of the error message, such as "the gallery holds embeddings".

        Raises:
            ContractMismatch: The contract is not that of the loaded model; the sentence states both ids.
        """
        if contract_id != self.contract_id:
            raise ContractMismatch(
                f"{what} of the contract {contract_id}, but this model produces {self.contract_id}; "
                "embeddings of different contracts are never compared"
            )

    def subject_full(self) -> SubjectFull:
        """Return the error of a subject that would have more templates than allowed."""
        return SubjectFull(
            f"the subject would have more than {self.max_templates:,} templates; erase some, or raise "
            "VULTUS_GALLERY__MAX_TEMPLATES"
        )

    def register(self, gallery: Gallery) -> LiveIndex:
        """Register a gallery, with an index that is not built yet."""
        live = self._live[gallery.key] = self._new_live(gallery)
        return live

    def live(self, gallery: Gallery) -> LiveIndex:
        """Return the index of a gallery; if the gallery was erased after it was read, return one that finds nothing."""
        live = self._live.get(gallery.key)
        return live if live is not None else self._new_live(gallery)

    def _new_live(self, gallery: Gallery) -> LiveIndex:
        return LiveIndex(
            self.database, gallery, self.directory, self._threads, self._limits, self._closing, self._data_keys
        )

    def drop(self, gallery: Gallery) -> None:
        """Discard the index and the snapshot of an erased gallery."""
        live = self._live.pop(gallery.key, None)
        if live is not None:
            live.drop()

    def rebuild(self, live: LiveIndex, ignore_snapshot: bool = False) -> "Future[None]":
        """Schedule the build of an index in the background.

        A request shares the waiting task of its gallery, so that repeated requests do not accumulate. A request with
        `ignore_snapshot` does not share a task without it.

        Args:
            live: Index to build.
            ignore_snapshot: Whether to build from the store even if there is a usable snapshot.

        Returns:
            A future that completes when the build has ended.
        """
        key = live.gallery.key
        with self._planning:
            waiting = self._waiting.get(key)
            if waiting is None or (ignore_snapshot and not waiting.ignore_snapshot):
                task = _Task(ignore_snapshot)
                self._waiting[key] = task
                task.done = self._tasks[key] = self._upkeep.submit(self._rebuild, live, task)
                return task.done
            return waiting.done

    def complete_erasures(self) -> None:
        """List the committed erasures, and destroy the data keys of who was erased; called under the store's lock."""
        self._erasure_log.update()
        if self._data_keys is not None:
            destroy_erased_keys(self._data_keys, self.database)

    def require_readable(self) -> None:
        """Read the store, and a data key if it is encrypted, so that a failure is known before a request needs them.

        Raises:
            StoreFailed: The file system refused a read.
            StoreBusy: Another program has locked the store.
            DataKeysUnfit: A data key was altered.
        """
        with self.database.reading() as connection:
            for _ in rows.iterate(connection):
                break
        if self._data_keys is not None:
            self._data_keys.find("gallery", list(self._live)[:1])

    def index_state(self) -> IndexState:
        """Return what the indices hold now; nothing is read from the store."""
        live = list(self._live.values())
        templates: dict[str, int] = {}
        sizes: dict[str, int] = {}
        for current in (each.current for each in live):
            if current is not None:
                templates[current.kind] = templates.get(current.kind, 0) + current.count
                sizes[current.kind] = sizes.get(current.kind, 0) + current.count * BYTES[current.kind] * self.dimensions
        written = []
        for path in self.directory.glob("*.graph"):
            with suppress(FileNotFoundError):  # it was removed meanwhile
                written.append(path.stat().st_mtime)
        missing = sum(each.current is None and self.searches(each.gallery) for each in live)
        return IndexState(len(live), missing, templates, sizes, self._builds, min(written, default=None))

    def truncate_log(self) -> bool:
        """Truncate the write-ahead logs of the store and its data keys, so that they contain no erased records.

        Returns:
            Whether both were truncated. If a reader or a full disk prevents it, it is truncated later.
        """
        truncated = [truncation.truncate() for truncation in self._log_truncations]
        return all(truncated)

    def wait_idle(self, deadline: Deadline | None = None, gallery: Gallery | None = None) -> None:
        """Wait until no index is being built.

        Args:
            deadline: Deadline of the request.
            gallery: Gallery whose index is waited for; all if None.

        Raises:
            RequestCancelled: The client disconnected.
            DeadlineExceeded: The deadline passed.
        """
        with self._planning:
            tasks = [task for key, task in self._tasks.items() if gallery is None or key == gallery.key]
        while wait(tasks, None if deadline is None else _CANCELLATION_CHECK_S).not_done:
            if deadline is not None:
                deadline.check()

    def _rebuild(self, live: LiveIndex, task: "_Task") -> None:
        with self._planning:  # a request from now on needs another task
            if self._waiting.get(live.gallery.key) is task:
                del self._waiting[live.gallery.key]
        try:
            if task.ignore_snapshot or live.outdated:
                self._builds += 1
                live.build(task.ignore_snapshot or live.current is not None)  # its snapshot is outdated too
            live.save_snapshot()
        except Exception as error:  # any failure: upkeep continues with other galleries, and the store answers searches
            _log.error("upkeep of index %d failed: %s: %s", live.gallery.key, type(error).__name__, error)

    def _remove_orphans(self, keys: set[int]) -> None:
        """Remove the snapshots of galleries that no longer exist, and destroy the data keys of missing snapshots."""
        names = {str(key) for key in keys}
        for path in self.directory.glob("*.graph"):
            if path.stem not in names:
                path.unlink()
        if self._data_keys is not None:
            for key in self._data_keys.snapshots():
                if not (self.directory / f"{key}.graph").exists():
                    self._data_keys.destroy_snapshot(key)


def _refuse_unrestored(directory: Path) -> None:
    """Refuse a directory in which a restore was cut off, because an empty store would take the place of the backup.

    Raises:
        StoreUnfit: A restore was cut off.
    """
    if (directory / UNRESTORED).exists():
        raise StoreUnfit(f"a restore into {directory} was cut off; run vultus restore again")


def _refuse_truncated(directory: Path) -> None:
    """Refuse an empty store beside files that belong to its contents, which opening it would remove.

    Raises:
        StoreUnfit: The store has lost its contents.
    """
    store = directory / STORE
    if not store.is_file() or store.stat().st_size:
        return
    log = directory / f"{STORE}-wal"
    others = [*directory.glob("*.graph"), *([log] if log.is_file() and log.stat().st_size else [])]
    if others:
        raise StoreUnfit(
            f"{STORE} is empty, although {others[0].name} beside it belongs to galleries; restore it from a backup, or "
            "remove these files to begin anew"
        )
