"""The galleries of one data directory, opened: the store, an index for each, and their upkeep.

What is done with them is in the modules beside this one. A change is committed to the store first and followed by the
index before it is told, both under the store's lock, so that changes reach an index in the order of the store.
"""

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from sqlite3 import Connection

from service.errors import ContractMismatch, StorageFull, StoreFailed
from service.gallery.index.faiss_vectors import search_threads
from service.gallery.index.live import IndexLimits, LiveIndex
from service.gallery.index.snapshot import remove_partial
from service.gallery.ownership import Ownership
from service.gallery.records import Gallery
from service.gallery.store import gallery_rows as rows
from service.gallery.store.database import Database

STORE = "store.sqlite"
_CUT_AGAIN_S = 1.0

_log = logging.getLogger("vultus")


@dataclass(eq=False)
class _Task:
    """An index to be built, of its snapshot or anew, and what tells when that is done."""

    anew: bool
    done: "Future[None]" = field(default_factory=Future)


class Galleries:
    """Store, indices and upkeep. Safe for use by several threads at once; the directory is this process' alone."""

    def __init__(
        self,
        directory: Path,
        contract_id: str | None,
        dimensions: int,
        search_on: int = 0,
        limits: IndexLimits | None = None,
        build: bool = True,
    ) -> None:
        """Open the galleries of a directory, made if it is not there, and begin to build their indices.

        Args:
            directory: Everything lies in it.
            contract_id: Of the embeddings that will be stored and searched for; None if none will be.
            dimensions: D of them.
            search_on: Threads that search; 0: one for each core.
            limits: Where one kind of index ends and another begins.
            build: Whether indices are built, for searching and for going on with what erasures begin.

        Raises:
            GalleriesInUse: Another process has the directory.
            StoreUnfit, StoreFailed, StorageFull: The store cannot be opened.
        """
        self.directory = directory
        self.contract_id = contract_id
        self.dimensions = dimensions
        self._limits = limits or IndexLimits()
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._owner = Ownership(directory)
        except OSError as error:
            raise StoreFailed(f"galleries cannot be kept in {directory}: {error.strerror}") from error
        try:
            self.database = Database(directory / STORE)
            self._try_truncate_log()  # a process that was killed may have left in the log what it was erasing
            remove_partial(directory)
        except BaseException:
            self._owner.release()
            raise
        self._threads = search_threads(search_on or len(os.sched_getaffinity(0)))
        self._upkeep = ThreadPoolExecutor(1, thread_name_prefix="upkeep")
        self._planning = threading.Lock()
        self._tasks: dict[int, Future[None]] = {}
        self._waiting: dict[int, _Task] = {}
        self._closing = threading.Event()
        self._live: dict[int, LiveIndex] = {}
        with self.database.reading() as connection:
            found = rows.page(connection, "", -1)
        self._remove_orphans({gallery.key for gallery in found})
        for gallery in found:
            live = self.begin(gallery)
            if build:
                self.rebuild(live)

    def close(self) -> None:
        """Break off the building of indices and give the directory back."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._upkeep.shutdown(cancel_futures=True)
        self._threads.shutdown()
        self.database.close()
        self._owner.release()

    def find(self, connection: Connection, name: str) -> Gallery:
        """Read a gallery whose embeddings can be compared with those of the model that is served.

        Raises:
            GalleryUnknown: There is none of that name.
            ContractMismatch: Its embeddings are another model's.
        """
        gallery = rows.find(connection, name)
        self.require_contract(gallery.contract_id, "the gallery holds embeddings")
        return gallery

    def find_all(self, connection: Connection, names: Sequence[str]) -> list[Gallery]:
        """Read several galleries as `find` does, each once, however its name is written."""
        found = [self.find(connection, name) for name in names]
        return list({gallery.key: gallery for gallery in found}.values())

    def served_contract(self) -> str:
        """Return the contract of the model that is served.

        Raises:
            ContractMismatch: The galleries were opened without one.
        """
        if self.contract_id is None:
            raise ContractMismatch("no model is loaded whose embeddings the gallery could hold")
        return self.contract_id

    def require_contract(self, contract_id: str, what: str) -> None:
        """Refuse embeddings of another contract.

        Raises:
            ContractMismatch: They are of another; the sentence has both ids.
        """
        if contract_id != self.contract_id:
            raise ContractMismatch(
                f"{what} of the contract {contract_id}, this model gives {self.contract_id}; such are never compared"
            )

    @contextmanager
    def changing(self) -> Iterator[Connection]:
        """Change the store in a transaction. Follow it up with the index while `database.exclusive` is held."""
        with self.database.exclusive(), self.database.writing() as connection:
            yield connection

    def begin(self, gallery: Gallery) -> LiveIndex:
        """Take up a gallery, without an index as yet."""
        live = self._live[gallery.key] = self._new_live(gallery)
        return live

    def live(self, gallery: Gallery) -> LiveIndex:
        """Return what a gallery is searched with; of one that was erased since it was read, what finds nothing."""
        live = self._live.get(gallery.key)
        return live if live is not None else self._new_live(gallery)

    def _new_live(self, gallery: Gallery) -> LiveIndex:
        return LiveIndex(self.database, gallery, self.directory, self._threads, self._limits, self._closing)

    def drop(self, gallery: Gallery) -> None:
        """Let go of an erased gallery's index and snapshot."""
        live = self._live.pop(gallery.key, None)
        if live is not None:
            live.drop()

    def rebuild(self, live: LiveIndex, anew: bool = False) -> "Future[None]":
        """Have an index built in the background. At most one such task waits for each gallery while one runs."""
        key = live.gallery.key
        with self._planning:
            waiting = self._waiting.get(key)
            if waiting is None or (anew and not waiting.anew):
                task = _Task(anew)
                self._waiting[key] = task
                task.done = self._tasks[key] = self._upkeep.submit(self._rebuild, live, task)
                return task.done
            return waiting.done

    def truncate_log(self) -> bool:
        """Cut what was erased from the store's log; where a reader or a full disk is in the way, a little later."""
        cut = self._try_truncate_log()
        if not cut:
            self._upkeep.submit(self._truncate_log_later)
        return cut

    def wait_idle(self) -> None:
        """Wait until no index is being built."""
        with self._planning:
            tasks = list(self._tasks.values())
        wait(tasks)

    def _try_truncate_log(self) -> bool:
        try:
            return self.database.checkpoint()
        except (StorageFull, StoreFailed) as error:  # what was erased is erased; only its traces remain
            _log.warning("the log of the store was not cut: %s", error)
            return False

    def _truncate_log_later(self) -> None:
        while not self._try_truncate_log() and not self._closing.wait(_CUT_AGAIN_S):
            pass

    def _rebuild(self, live: LiveIndex, task: "_Task") -> None:
        with self._planning:  # what is asked for from now on needs another task
            if self._waiting.get(live.gallery.key) is task:
                del self._waiting[live.gallery.key]
        try:
            if task.anew or live.outdated:
                live.build(task.anew or live.current is not None)  # its snapshot is what is outdated
            live.save_snapshot()
        except Exception as error:  # whatever it is, the next gallery's turn comes, and the store answers meanwhile
            _log.error("upkeep of index %d failed: %s: %s", live.gallery.key, type(error).__name__, error)

    def _remove_orphans(self, keys: set[int]) -> None:
        for path in self.directory.glob("*.graph"):
            if path.stem not in {str(key) for key in keys}:
                path.unlink()
