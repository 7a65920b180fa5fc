"""The index of one gallery through its life: built in the background, changed with the store, built anew when worn.

Until it is ready, probes are answered from the store itself: slower, and as exact.
"""

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.artefact.directories import sync
from service.errors import SnapshotUnfit
from service.gallery.index.base import NOTHING, Hits, TemplateIndex
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
    """Where one kind of index ends and another begins.

    Attributes:
        flat_most: Most templates that `auto` holds in float32; beyond, float16 takes half the memory and half the time.
        learned_least: Fewest templates from which a byte's range or a graph is learned; below, `flat` serves.
    """

    flat_most: int = 100_000
    learned_least: int = 10_000


def served_kind(kind: IndexKind, templates: int, limits: IndexLimits) -> ServedKind:
    """Choose how that many templates are held."""
    if kind == "auto":
        return "flat" if templates <= limits.flat_most else "flat-fp16"
    if kind in ("sq8", "hnsw") and templates < limits.learned_least:
        return "flat"
    return kind


class LiveIndex:
    """What a gallery is searched with. `added`, `removed` and `reassigned` are called by the store's one writer."""

    def __init__(
        self,
        database: Database,
        gallery: Gallery,
        directory: Path,
        threads: Executor,
        limits: IndexLimits,
        closing: threading.Event,
    ) -> None:
        """Begin without an index; `build` makes it.

        Args:
            database: The truth.
            gallery: Whose index it is.
            directory: Where snapshots lie.
            threads: In which segments are searched.
            limits: Where one kind ends and another begins.
            closing: When set, building is broken off.
        """
        self.gallery = gallery
        self._database = database
        self._threads = threads
        self._limits = limits
        self._closing = closing
        self._path = directory / f"{gallery.key}.graph"
        self._index: TemplateIndex | None = None
        self._opened = self._origin()  # before anything is added: a store that was put back would catch up in numbers
        self._erasures = 0
        self._dropped = False
        self._missed: list[tuple[NDArray[np.int64], int]] | None = None  # changes while one is built

    @property
    def current(self) -> TemplateIndex | None:
        """The index, or None while there is none."""
        return self._index

    @property
    def rounding(self) -> float:
        """Most that similarities of hits differ from those of the stored vectors."""
        index = self._index
        return 0.0 if index is None else index.rounding

    @property
    def outdated(self) -> bool:
        """Whether it should be built anew: worn, or too large or small for its kind."""
        index = self._index
        if index is None:
            return True
        if isinstance(index, GraphIndex) and index.worn:
            return True
        return index.kind != served_kind(self.gallery.index, index.count, self._limits)

    @property
    def needs_snapshot(self) -> bool:
        """Whether it takes long to build and has no snapshot."""
        return isinstance(self._index, GraphIndex) and not self._path.exists()

    def search(self, probes: NDArray[np.float32], depth: int) -> tuple[Hits, float]:
        """Find the nearest templates of (Q, D) probes, and say how far their similarities may be off."""
        index = self._index
        if index is None:
            return scan(self._database, self.gallery, probes, depth), 0.0
        return index.search(probes, depth), index.rounding

    def added(self, block: Block) -> None:
        """Follow the store: templates were added. They are on the disk, so what fails here fails nobody's request."""
        if self._index is None or not len(block.template_keys):
            return
        try:
            self._index.add(block)
        except (MemoryError, RuntimeError) as error:  # the latter is what FAISS raises
            _log.error("index %d lacks templates and is given up: %s", self.gallery.key, error)
            self._index = None

    def drop(self) -> None:
        """Follow the store: the gallery was erased. No snapshot of it appears any more."""
        self._dropped = True
        self._index = None
        self.remove_snapshot()

    def removed(self, templates: list[int]) -> None:
        """Follow the store: templates were erased. A snapshot that has them is gone when this returns."""
        self._change(np.array(sorted(templates), np.int64), NOTHING)
        if templates:
            self._erasures += 1
            if self._path.exists():
                self.remove_snapshot()

    def reassigned(self, templates: list[int], subject: int) -> None:
        """Follow the store: templates have another subject."""
        self._change(np.array(sorted(templates), np.int64), subject)

    def _change(self, templates: NDArray[np.int64], subject: int) -> None:
        if self._missed is not None:
            self._missed.append((templates, subject))
        if self._index is not None:
            _apply(self._index, templates, subject)

    def snapshot_keys(self) -> NDArray[np.int64]:
        """Read the keys of the templates that the snapshot holds."""
        try:
            keys = read_snapshot(self._path, self._origin()).template_keys
            return keys[keys > 0]
        except SnapshotUnfit:
            self.remove_snapshot()
            return np.empty(0, np.int64)

    def remove_snapshot(self) -> None:
        """Remove the snapshot."""
        self._path.unlink(missing_ok=True)
        sync(self._path.parent)

    def build(self, anew: bool = False) -> None:
        """Make the index from its snapshot if there is a good one, else from the store.

        Args:
            anew: Pass over the snapshot.
        """
        with self._database.exclusive():
            self._missed = []
            with self._database.reading() as connection:
                templates = rows.count(connection, self.gallery)
        try:
            holding = served_kind(self.gallery.index, templates, self._limits)
            if holding != "hnsw":
                self.remove_snapshot()
                self._build_segments(holding)
            elif anew or not self._load_graph():
                self._build_graph()
        finally:
            self._missed = None

    def save_snapshot(self) -> None:
        """Write a snapshot if the index takes long to build and there is none."""
        index = self._index
        while isinstance(index, GraphIndex) and self.needs_snapshot and not self._over:
            before = self._erasures
            part = write_snapshot(self._path, Snapshot(index.graph, index.sealed()), self._origin())
            with self._database.exclusive():
                if self._erasures == before and not self._dropped:
                    publish(part, self._path)
                else:  # it may hold what was erased meanwhile
                    part.unlink()

    def _build_segments(self, holding: Literal["flat", "flat-fp16", "sq8"]) -> None:
        sample = self._sample() if holding == "sq8" else None
        index = SegmentedIndex(holding, self.gallery.dimensions, self._threads, sample)
        last = 0
        for block in read_blocks(self._database, self.gallery):
            if self._over:
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
            if self._over:
                return
            inside = within(block.vectors, sample)
            graph.add(block.vectors[inside])
            sealed.append(Block(block.template_keys[inside], block.subject_keys[inside], block.vectors[:0]))
            outside.append(block.where(~inside))
            last = int(block.template_keys[-1])
        if not graph.ntotal:  # everybody was erased meanwhile
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
        try:
            graph, sealed = read_snapshot(self._path, self._opened)
        except SnapshotUnfit as error:
            if self._path.exists():
                _log.warning("index %d is built anew: %s", self.gallery.key, error)
            self.remove_snapshot()
            return False
        with self._database.reading() as connection:
            keys, subjects = rows.owners(connection, self.gallery)
        templates = np.abs(sealed)
        there = np.isin(sealed, keys, assume_unique=True)
        own = np.full(len(templates), NOTHING)
        own[there] = subjects[np.isin(keys, sealed, assume_unique=True)]
        index = GraphIndex(graph, templates, own, self.gallery.dimensions, self._threads)
        index.remove(templates[~there])
        if (sealed[~there] > 0).any():  # erased, and the process ended before the snapshot was
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
    def _over(self) -> bool:
        return self._closing.is_set() or self._dropped

    def _sample(self) -> NDArray[np.float32]:
        blocks: Iterator[Block] = read_blocks(self._database, self.gallery)
        sample = [block.vectors for _, block in zip(range(_SAMPLE_BLOCKS), blocks, strict=False)]
        return np.concatenate([np.zeros((1, self.gallery.dimensions), np.float32), *sample])

    def _put(self, index: TemplateIndex, last: int) -> None:
        """Catch up with the store and take the place of the index before."""
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
    if subject == NOTHING:
        index.remove(templates)
    else:
        index.reassign(templates, subject)
