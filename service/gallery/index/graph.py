"""An index that looks at few templates: HNSW (Malkov and Yashunin, arXiv 1603.09320), with a tail looked at whole.

A graph cannot let a template go, and changing it keeps readers out. So it is built once and sealed: what comes later
goes into the tail, what goes is overwritten with zeros where it lies and passed over, and when either grows large the
whole is built anew.
"""

from collections.abc import Iterator
from concurrent.futures import Executor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.gallery.index.base import NOTHING, Hits, nearest, stacked
from service.gallery.index.faiss_vectors import blank, search_graph, stored_vectors
from service.gallery.index.locking import ReadWriteLock
from service.gallery.index.segmented import SegmentedIndex
from service.gallery.records import Block

EFFORT = 256  # efSearch; `make bench-gallery` prints how often top 1 is then that of the exact search
_TAIL_SHARE, _GONE_SHARE = 0.1, 0.2
_BLOCK_ROWS = 8192
_TAIL_ROWS = 4096  # a smaller tail costs nothing worth building for


class GraphIndex:
    """A sealed graph and a tail."""

    kind = "hnsw"
    rounding = 5e-3  # of one byte for each number, as of `sq8`

    def __init__(
        self,
        graph: Any,
        templates: NDArray[np.int64],
        subjects: NDArray[np.int64],
        dimensions: int,
        threads: Executor,
    ) -> None:
        """Seal a graph.

        Args:
            graph: Of N vectors.
            templates: (N,) their keys, rising.
            subjects: (N,) whose they are.
            dimensions: D.
            threads: In which the tail is searched.
        """
        self.graph = graph
        self.template_keys = templates
        self._subjects = subjects
        self._gone = np.zeros(len(templates), bool)
        self._tail = SegmentedIndex("flat-fp16", dimensions, threads)
        self._threads = threads
        self._lock = ReadWriteLock()

    @property
    def count(self) -> int:
        """How many templates can be found."""
        return len(self.template_keys) - int(self._gone.sum()) + self._tail.count

    @property
    def worn(self) -> bool:
        """Whether it should be built anew."""
        tail_limit = max(_TAIL_ROWS, _TAIL_SHARE * len(self.template_keys))
        return self._tail.count > tail_limit or self._gone.sum() > _GONE_SHARE * len(self.template_keys)

    def sealed(self) -> NDArray[np.int64]:
        """Give (N,) keys of the sealed templates, negative where one was taken out."""
        with self._lock.reading():
            return np.where(self._gone, -self.template_keys, self.template_keys)

    def add(self, block: Block) -> None:
        """Add templates whose keys are larger than all before."""
        self._tail.add(block)

    def remove(self, templates: NDArray[np.int64]) -> None:
        """Take templates out; those that are not there are passed over."""
        self._tail.remove(templates)
        with self._lock.writing():
            places = self._places(templates)
            blank(self.graph, places)
            self._gone[places] = True
            self._subjects[places] = NOTHING

    def reassign(self, templates: NDArray[np.int64], subject: int) -> None:
        """Give templates another subject."""
        self._tail.reassign(templates, subject)
        with self._lock.writing():
            self._subjects[self._places(templates)] = subject

    def search(self, probes: NDArray[np.float32], depth: int) -> Hits:
        """Find near templates of (Q, D) probes; not always the nearest."""

        def look(some: NDArray[np.float32]) -> Hits:
            with self._lock.reading():
                similarities, places = search_graph(
                    self.graph, some, min(depth, len(self.template_keys)), EFFORT, np.flatnonzero(self._gone)
                )
                found = places >= 0
                return Hits(
                    np.where(found, similarities, -np.inf).astype(np.float32),
                    np.where(found, self.template_keys[places], NOTHING),
                    np.where(found, self._subjects[places], NOTHING),
                )

        pieces = np.array_split(probes, min(len(probes), 8))
        sealed = stacked(list(self._threads.map(look, pieces)))
        return nearest([sealed, self._tail.search(probes, depth)], depth)

    def blocks(self) -> Iterator[Block]:
        """Give all templates as the index has them; nothing may change meanwhile."""
        for start in range(0, len(self.template_keys), _BLOCK_ROWS):
            some = slice(start, min(start + _BLOCK_ROWS, len(self.template_keys)))
            vectors = stored_vectors(self.graph, start, some.stop - start)
            yield Block(self.template_keys[some], self._subjects[some], vectors).where(~self._gone[some])
        yield from self._tail.blocks()

    def _places(self, templates: NDArray[np.int64]) -> NDArray[np.int64]:
        places = np.searchsorted(self.template_keys, templates).clip(max=len(self.template_keys) - 1)
        sealed: NDArray[np.int64] = places[(self.template_keys[places] == templates) & ~self._gone[places]]
        return sealed
