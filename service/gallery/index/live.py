"""The index of one gallery: built in the background, updated with the store, and rebuilt after many changes.

Until the index is ready, a search scans the store, which is slower but exact.
"""

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from models.artefact.directories import sync
from models.errors import VultusError
from service.encryption.data_keys import DataKeys
from service.errors import SnapshotUnfit
from service.gallery.index.base import NO_KEY, Hits, TemplateIndex
from service.gallery.index.faiss_vectors import new_graph, within
from service.gallery.index.graph import GraphIndex
from service.gallery.index.scan import BLOCK_ROWS, read_blocks, scan
from service.gallery.index.segmented import SegmentedIndex
from service.gallery.index.snapshot import Origin, Snapshot, publish, read_snapshot, write_snapshot
from service.gallery.records import Block, Gallery, IndexKind
from service.gallery.store import template_rows as rows
from service.gallery.store.database import Database

ServedKind = Literal["flat", "flat-fp16", "sq8", "hnsw"]

_NEIGHBOURS, _EFFORT = 32, 80
_SAMPLE_BLOCKS = 4

_log = logging.getLogger("vultus")


@dataclass(frozen=True, slots=True)
class IndexLimits:
    """The numbers of templates at which the kind of an index changes.

    Attributes:
        max_flat_templates: Maximum number of templates that `auto` stores in float32. For more, float16 takes half
            the memory and half the time.
        min_learned_templates: Minimum number of templates for `sq8`, which learns a byte's range from them, and for
            `hnsw`. For fewer, `flat` serves.
    """

    max_flat_templates: int = 100_000
    min_learned_templates: int = 10_000


def served_kind(kind: IndexKind, templates: int, limits: IndexLimits) -> ServedKind:
    """Return the kind of index that serves a number of templates if `kind` is configured."""
    if kind == "auto":
        return "flat" if templates <= limits.max_flat_templates else "flat-fp16"
    if kind in ("sq8", "hnsw") and templates < limits.min_learned_templates:
        return "flat"
    return kind


class LiveIndex:
    """The search index of a gallery, or a scan of the store while there is none.

    `apply_added`, `apply_removed`, `apply_reassigned` and `drop` are called under the store's lock.
    """

    def __init__(
        self,
        database: Database,
        gallery: Gallery,
        directory: Path,
        threads: Executor,
        limits: IndexLimits,
        closing: threading.Event,
        data_keys: DataKeys | None = None,
    ) -> None:
        """Start without an index; `build` creates it.

        Args:
            database: Store that the index is derived from.
            gallery: Gallery to index.
            directory: Directory of the snapshots.
            threads: Threads that search the index.
            limits: Template counts at which the kind of index changes.
            closing: Event that cancels a running build.
            data_keys: Data keys of the galleries; None if they are not encrypted.
        """
        self.gallery = gallery
        self._database = database
        self._threads = threads
        self._limits = limits
        self._closing = closing
        self._data_keys = data_keys
        self._path = directory / f"{gallery.key}.graph"
        self._index: TemplateIndex | None = None
        # Recorded before any addition: a store restored from a backup would later reach the sequence of the snapshot.
        self._opened = self._origin()
        self._erasures = 0
        self._dropped = False
        self._missed: list[tuple[NDArray[np.int64], int]] | None = None  # changes during a build

    @property
    def current(self) -> TemplateIndex | None:
        """The index, or None if it is not built."""
        return self._index

    @property
    def rounding(self) -> float:
        """Maximum difference between similarities of hits and those of the stored vectors."""
        index = self._index
        return 0.0 if index is None else index.rounding

    @property
    def outdated(self) -> bool:
        """Whether the index should be rebuilt: it is missing, has changed much, or has the wrong kind for its size."""
        index = self._index
        if index is None:
            return True
        if isinstance(index, GraphIndex) and index.needs_rebuild:
            return True
        return index.kind != served_kind(self.gallery.index, index.count, self._limits)

    @property
    def needs_snapshot(self) -> bool:
        """Whether the index takes long to build and has no snapshot."""
        return isinstance(self._index, GraphIndex) and not self._path.exists()

    def search(self, probes: NDArray[np.float32], depth: int) -> tuple[Hits, float]:
        """Find the nearest templates of (Q, D) probes.

        Returns:
            The hits, and the maximum difference between their similarities and those of the stored vectors.
        """
        index = self._index
        if index is None:
            return scan(self._database, self.gallery, probes, depth), 0.0
        return index.search(probes, depth), index.rounding

    def apply_added(self, block: Block) -> None:
        """Apply an addition that is committed to the store.

        The templates are durable, so a failure of the index does not fail the request; the index is discarded instead.
        """
        if self._index is None or not len(block.template_keys):
            return
        try:
            self._index.add(block)
        except (MemoryError, RuntimeError) as error:  # FAISS raises RuntimeError
            _log.error("index %d lacks new templates and is discarded: %s", self.gallery.key, error)
            self._index = None

    def drop(self) -> None:
        """Discard the index and the snapshot of an erased gallery, and prevent new snapshots."""
        self._dropped = True
        self._index = None
        self.remove_snapshot()

    def apply_removed(self, templates: list[int]) -> None:
        """Apply an erasure that is committed to the store, and remove a snapshot that may contain the templates."""
        self._change(np.array(sorted(templates), np.int64), NO_KEY)
        if templates:
            self._erasures += 1
            if self._path.exists():
                self.remove_snapshot()

    def apply_reassigned(self, templates: list[int], subject: int) -> None:
        """Apply a merge that is committed to the store: the templates belong to another subject."""
        self._change(np.array(sorted(templates), np.int64), subject)

    def _change(self, templates: NDArray[np.int64], subject: int) -> None:
        if self._missed is not None:
            self._missed.append((templates, subject))
        if self._index is not None:
            _apply(self._index, templates, subject)

    def usable_snapshot_keys(self) -> NDArray[np.int64]:
        """Read the keys of the templates in the snapshot; remove a snapshot that cannot be used."""
        try:
            keys = self._read_snapshot(self._origin()).template_keys
            return keys[keys > 0]
        except SnapshotUnfit:
            self.remove_snapshot()
            return np.empty(0, np.int64)

    def remove_snapshot(self) -> None:
        """Remove the snapshot, and destroy its data key."""
        self._path.unlink(missing_ok=True)
        sync(self._path.parent)
        self._destroy_snapshot_key()

    def _destroy_snapshot_key(self) -> None:
        if self._data_keys is not None:
            try:
                self._data_keys.destroy_snapshot(self.gallery.key)
            except VultusError as error:  # the next start destroys it
                _log.warning("the data key of a removed snapshot was not destroyed: %s", error)

    def _read_snapshot(self, now: Origin) -> Snapshot:
        """Read the snapshot.

        Raises:
            SnapshotUnfit: It is missing or cannot be used.
        """
        if self._data_keys is None:
            return read_snapshot(self._path, now, None)
        found = self._data_keys.find("snapshot", [self.gallery.key]).get(self.gallery.key)
        if found is None or not found.ciphers:
            raise SnapshotUnfit("the snapshot has no data key")
        return read_snapshot(self._path, now, found.ciphers[0])

    def _new_snapshot_key(self) -> AESGCM | None:
        """Return a data key for a new snapshot, which is on the disk; None if the galleries are not encrypted."""
        if self._data_keys is None:
            return None
        return self._data_keys.make_snapshot(self.gallery.key)

    def build(self, ignore_snapshot: bool = False) -> None:
        """Build the index from its snapshot if that is usable, otherwise from the store.

        Args:
            ignore_snapshot: Whether to ignore the snapshot.
        """
        with self._database.exclusive():
            self._missed = []
        try:
            with self._database.reading() as connection:
                templates = rows.count(connection, self.gallery)
            kind = served_kind(self.gallery.index, templates, self._limits)
            if kind != "hnsw":
                self.remove_snapshot()
                self._build_segments(kind)
            elif ignore_snapshot or not self._load_graph():
                self._build_graph()
        finally:
            self._missed = None

    def save_snapshot(self) -> None:
        """Write a snapshot if the index takes long to build and has none."""
        index = self._index
        while isinstance(index, GraphIndex) and self.needs_snapshot and not self._cancelled:
            before = self._erasures
            snapshot = Snapshot(index.graph, index.sealed())
            part = write_snapshot(self._path, snapshot, self._origin(), self._new_snapshot_key())
            with self._database.exclusive():
                if self._erasures == before and not self._dropped:
                    publish(part, self._path)
                else:  # templates erased during the write may be in it
                    part.unlink()
                    self._destroy_snapshot_key()

    def _build_segments(self, kind: Literal["flat", "flat-fp16", "sq8"]) -> None:
        sample = self._sample() if kind == "sq8" else None
        index = SegmentedIndex(kind, self.gallery.dimensions, self._threads, sample)
        last = 0
        for block in read_blocks(self._database, self.gallery):
            if self._cancelled:
                return
            index.add(block)
            last = int(block.template_keys[-1])
        self._put(index, last)

    def _build_graph(self) -> None:
        sample = self._sample()
        graph = new_graph(self.gallery.dimensions, _NEIGHBOURS, _EFFORT, sample)
        sealed: list[Block] = []
        outside: list[Block] = []
        last = 0
        for block in read_blocks(self._database, self.gallery):
            if self._cancelled:
                return
            inside = within(block.vectors, sample)
            graph.add(block.vectors[inside])
            sealed.append(Block(block.template_keys[inside], block.subject_keys[inside], block.vectors[:0]))
            outside.append(block.where(~inside))
            last = int(block.template_keys[-1])
        if not graph.ntotal:  # all templates were erased during the build
            self._build_segments("flat")
            return
        templates = np.concatenate([block.template_keys for block in sealed])
        subjects = np.concatenate([block.subject_keys for block in sealed])
        index = GraphIndex(graph, templates, subjects, self.gallery.dimensions, self._threads)
        for block in outside:
            index.add(block)
        self.remove_snapshot()
        self._put(index, last)

    def _load_graph(self) -> bool:
        """Load the graph from its snapshot and update it from the store; return whether the snapshot was usable."""
        try:
            graph, sealed = self._read_snapshot(self._opened)
        except SnapshotUnfit as error:
            if self._path.exists():
                _log.warning("index %d is rebuilt: %s", self.gallery.key, error)
            self.remove_snapshot()
            return False
        with self._database.reading() as connection:
            keys, subjects = rows.owners(connection, self.gallery)
        templates = np.abs(sealed)
        stored = np.isin(sealed, keys, assume_unique=True)
        sealed_subjects = np.full(len(templates), NO_KEY)
        sealed_subjects[stored] = subjects[np.isin(keys, sealed, assume_unique=True)]
        index = GraphIndex(graph, templates, sealed_subjects, self.gallery.dimensions, self._threads)
        index.remove(templates[~stored])
        if (sealed[~stored] > 0).any():  # a process ended after an erasure and before it removed the snapshot
            self.remove_snapshot()
        missing = keys[~np.isin(keys, sealed, assume_unique=True)]
        for start in range(0, len(missing), BLOCK_ROWS):
            with self._database.reading() as connection:
                index.add(rows.block_of(connection, missing[start : start + BLOCK_ROWS], self.gallery.dimensions))
        self._put(index, int(max(keys[-1:].max(initial=0), templates[-1])))
        return True

    def _origin(self) -> Origin:
        with self._database.reading() as connection:
            return Origin(self.gallery.contract_id, *rows.store_and_sequence(connection))

    @property
    def _cancelled(self) -> bool:
        return self._closing.is_set() or self._dropped

    def _sample(self) -> NDArray[np.float32]:
        """Return the vectors of the first blocks and a zero vector, from which the range of a byte is learned."""
        blocks: Iterator[Block] = read_blocks(self._database, self.gallery)
        sample = [block.vectors for _, block in zip(range(_SAMPLE_BLOCKS), blocks, strict=False)]
        return np.concatenate([np.zeros((1, self.gallery.dimensions), np.float32), *sample])

    def _put(self, index: TemplateIndex, last: int) -> None:
        """Update an index that was built up to the template `last` from the store, and replace the current index."""
        for block in read_blocks(self._database, self.gallery, last):
            index.add(block)
            last = int(block.template_keys[-1])
        with self._database.exclusive():
            for block in read_blocks(self._database, self.gallery, last):
                index.add(block)
            for templates, subject in self._missed or ():
                _apply(index, templates, subject)
            self._index = index


def _apply(index: TemplateIndex, templates: NDArray[np.int64], subject: int) -> None:
    if subject == NO_KEY:
        index.remove(templates)
    else:
        index.reassign(templates, subject)
