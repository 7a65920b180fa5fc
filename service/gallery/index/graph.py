"""An approximate index: a sealed HNSW graph (Malkov and Yashunin, arXiv 1603.09320) and an exactly searched tail.

A graph cannot remove a template, and changing it blocks readers. It is therefore built once and sealed. Templates added
later go into the tail. Removed templates are overwritten with zeros in place and excluded from searches. When the tail
or the number of removed templates grows large, the index is rebuilt.
"""

from collections.abc import Iterator
from concurrent.futures import Executor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.gallery.index.base import NO_KEY, Hits, joined_blocks, nearest, stacked
from service.gallery.index.faiss_vectors import blank, search_graph, stored_vectors
from service.gallery.index.locking import ReadWriteLock
from service.gallery.index.segmented import SegmentedIndex
from service.gallery.records import Block

EFFORT = 256  # efSearch; `make bench-gallery` prints how often top 1 then agrees with the exact search
_TAIL_SHARE, _GONE_SHARE = 0.1, 0.2  # shares of the sealed templates above which the index is rebuilt
_BLOCK_ROWS = 8192
_TAIL_ROWS = 4096  # a smaller tail never causes a rebuild, because searching it is cheap


class GraphIndex:
    """A sealed graph and a tail."""

    kind = "hnsw"
    rounding = 5e-3  # of one byte for each number, as for `sq8`

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
            graph: HNSW graph of N vectors.
            templates: (N,) template keys, ascending.
            subjects: (N,) subject key of each template.
            dimensions: D.
            threads: Threads that search the graph and the tail.
        """
        self.graph = graph
        self.template_keys = templates
        self._subjects = subjects
        self._gone = np.zeros(len(templates), bool)
        self._tail = SegmentedIndex("flat-fp16", dimensions, threads)
        self._threads = threads
        self._dimensions = dimensions
        self._lock = ReadWriteLock()

    @property
    def count(self) -> int:
        """Number of templates in the index."""
        return len(self.template_keys) - int(self._gone.sum()) + self._tail.count

    @property
    def needs_rebuild(self) -> bool:
        """Whether the tail or the number of removed templates is large enough to rebuild the index."""
        tail_limit = max(_TAIL_ROWS, _TAIL_SHARE * len(self.template_keys))
        return self._tail.count > tail_limit or self._gone.sum() > _GONE_SHARE * len(self.template_keys)

    def sealed(self) -> NDArray[np.int64]:
        """Return the (N,) keys of the sealed templates, negative for removed templates."""
        with self._lock.reading():
            return np.where(self._gone, -self.template_keys, self.template_keys)

    def add(self, block: Block) -> None:
        """Add templates whose keys are larger than all previous keys."""
        self._tail.add(block)

    def remove(self, templates: NDArray[np.int64]) -> None:
        """Remove templates by key; ignore unknown keys."""
        self._tail.remove(templates)
        with self._lock.writing():
            positions = self._positions(templates)
            blank(self.graph, positions)
            self._gone[positions] = True
            self._subjects[positions] = NO_KEY

    def reassign(self, templates: NDArray[np.int64], subject: int) -> None:
        """Assign templates to another subject."""
        self._tail.reassign(templates, subject)
        with self._lock.writing():
            self._subjects[self._positions(templates)] = subject

    def search(self, probes: NDArray[np.float32], depth: int) -> Hits:
        """Find near templates of (Q, D) probes; the search is approximate and may miss the nearest."""

        def search_sealed(part: NDArray[np.float32]) -> Hits:
            with self._lock.reading():
                similarities, positions = search_graph(
                    self.graph, part, min(depth, len(self.template_keys)), EFFORT, np.flatnonzero(self._gone)
                )
                found = positions >= 0
                return Hits(
                    np.where(found, similarities, -np.inf).astype(np.float32),
                    np.where(found, self.template_keys[positions], NO_KEY),
                    np.where(found, self._subjects[positions], NO_KEY),
                )

        parts = np.array_split(probes, min(len(probes), 8))
        sealed = stacked(list(self._threads.map(search_sealed, parts)))
        return nearest([sealed, self._tail.search(probes, depth)], depth)

    def blocks(self) -> Iterator[Block]:
        """Yield all templates as the index stores them; those that change during the iteration may be missing."""
        for start in range(0, len(self.template_keys), _BLOCK_ROWS):
            with self._lock.reading():
                block = self._block(start, min(start + _BLOCK_ROWS, len(self.template_keys)))
            yield block
        yield from self._tail.blocks()

    def find(self, templates: NDArray[np.int64]) -> Block:
        """Return templates by key as the index stores them, in no particular order; ignore unknown keys."""
        with self._lock.reading():
            sealed = [self._block(row, row + 1) for row in self._positions(templates).tolist()]
        return joined_blocks([*sealed, self._tail.find(templates)], self._dimensions)

    def _block(self, start: int, stop: int) -> Block:
        """Return the templates at positions that are not removed."""
        rows = slice(start, stop)
        vectors = stored_vectors(self.graph, start, stop - start)
        return Block(self.template_keys[rows], self._subjects[rows], vectors).where(~self._gone[rows])

    def _positions(self, templates: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the positions of those templates that are sealed and not removed."""
        positions = np.searchsorted(self.template_keys, templates).clip(max=len(self.template_keys) - 1)
        sealed: NDArray[np.int64] = positions[(self.template_keys[positions] == templates) & ~self._gone[positions]]
        return sealed
