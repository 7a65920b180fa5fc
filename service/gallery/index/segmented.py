"""An exhaustive index, which compares every template, in segments that are searched in parallel.

Segments bound the cost of a change: adding a template copies at most one segment, and removing one moves rows of one
segment only.
"""

from collections.abc import Iterator
from concurrent.futures import Executor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.gallery.index.base import NO_KEY, Hits, joined_blocks, nearest, no_hits, stacked
from service.gallery.index.device import MAX_DEPTH, gpu_copies
from service.gallery.index.faiss_vectors import Encoding, empty_copy, new_vectors, stored_vectors, within
from service.gallery.index.locking import ReadWriteLock
from service.gallery.records import Block

_SEGMENT_ROWS = 32768
_BLOCK_ROWS = 8192
_MAX_HITS = 2**21  # of all segments together, before the best are selected; about 60 MB
_ROUNDING: dict[Encoding, float] = {"flat": 0.0, "flat-fp16": 5e-4, "sq8": 5e-3}  # several times the measured maximum


class _Segment:
    """Vectors in FAISS and, for each row, the keys of its template and subject."""

    def __init__(self, vectors: Any) -> None:
        self.vectors = vectors
        self.gpu_copy: Any = None  # made at the first search after the segment is full
        self.template_keys = np.empty(0, np.int64)  # ascending
        self.subject_keys = np.empty(0, np.int64)

    def add(self, block: Block) -> None:
        self.gpu_copy = None
        self.vectors.add(np.ascontiguousarray(block.vectors))
        self.template_keys = np.concatenate([self.template_keys, block.template_keys])
        self.subject_keys = np.concatenate([self.subject_keys, block.subject_keys])

    def rows_of(self, templates: NDArray[np.int64]) -> NDArray[np.int64]:
        if not len(self.template_keys):
            return np.empty(0, np.int64)
        positions = np.searchsorted(self.template_keys, templates).clip(max=len(self.template_keys) - 1)
        rows: NDArray[np.int64] = positions[self.template_keys[positions] == templates]
        return rows

    def remove(self, rows: NDArray[np.int64]) -> None:
        self.gpu_copy = None
        self.vectors.remove_ids(rows)
        self.template_keys = np.delete(self.template_keys, rows)
        self.subject_keys = np.delete(self.subject_keys, rows)

    def block(self, start: int, stop: int) -> Block:
        vectors = stored_vectors(self.vectors, start, stop - start)
        return Block(self.template_keys[start:stop], self.subject_keys[start:stop].copy(), vectors)

    def search(self, probes: NDArray[np.float32], depth: int) -> Hits:
        if not len(self.template_keys):  # a writer emptied it after the search listed the segments
            return no_hits(len(probes))
        depth = min(depth, len(self.template_keys))
        vectors = self.gpu_copy if self.gpu_copy and depth <= MAX_DEPTH else self.vectors
        similarities, rows = vectors.search(probes, depth)
        if (found := rows >= 0).all():
            return Hits(similarities, self.template_keys[rows], self.subject_keys[rows])
        similarities = np.where(found, similarities, -np.inf).astype(np.float32)
        return Hits(
            similarities,
            np.where(found, self.template_keys[rows], NO_KEY),
            np.where(found, self.subject_keys[rows], NO_KEY),
        )


class SegmentedIndex:
    """An index that compares every template, stored as float32, float16 or one byte for each number."""

    def __init__(
        self,
        encoding: Encoding,
        dimensions: int,
        threads: Executor,
        sample: NDArray[np.float32] | None = None,
        segment_rows: int = _SEGMENT_ROWS,
    ) -> None:
        """Create an empty index.

        Args:
            encoding: Number format of the stored vectors.
            dimensions: D.
            threads: Threads that search the segments.
            sample: (N, D) vectors representative of those to add, from which `sq8` learns its range.
            segment_rows: Maximum number of templates in a segment.
        """
        self.kind: str = encoding
        self.rounding = _ROUNDING[encoding]
        sample = np.empty((0, dimensions), np.float32) if sample is None else sample
        self._copies = gpu_copies(encoding)
        self._empty = new_vectors("flat" if self._copies else encoding, dimensions, sample)
        self._sample_range = np.array([[sample.min(initial=0)], [sample.max(initial=0)]], np.float32)
        self._outside = SegmentedIndex("flat", dimensions, threads) if encoding == "sq8" else None
        self._threads = threads
        self._dimensions = dimensions
        self._segment_rows = segment_rows
        self._segments: list[_Segment] = []
        self._lock = ReadWriteLock()

    @property
    def count(self) -> int:
        """Number of templates in the index."""
        inside = sum(len(segment.template_keys) for segment in self._segments)
        return inside + (self._outside.count if self._outside else 0)

    def add(self, block: Block) -> None:
        """Add templates whose keys are larger than all previous keys."""
        if self._outside:
            inside = within(block.vectors, self._sample_range)
            self._outside.add(block.where(~inside))
            block = block.where(inside)
        start = 0
        while start < len(block.template_keys):
            with self._lock.writing():
                if not self._segments or len(self._segments[-1].template_keys) >= self._segment_rows:
                    self._segments.append(_Segment(empty_copy(self._empty)))
                tail = self._segments[-1]
                end = start + self._segment_rows - len(tail.template_keys)
                tail.add(Block(block.template_keys[start:end], block.subject_keys[start:end], block.vectors[start:end]))
            start = end

    def remove(self, templates: NDArray[np.int64]) -> None:
        """Remove templates by key; ignore unknown keys."""
        if self._outside:
            self._outside.remove(templates)
        with self._lock.writing():
            for segment in self._segments:
                if len(rows := segment.rows_of(templates)):
                    segment.remove(rows)
            self._segments = [segment for segment in self._segments if len(segment.template_keys)]

    def reassign(self, templates: NDArray[np.int64], subject: int) -> None:
        """Assign templates to another subject."""
        if self._outside:
            self._outside.reassign(templates, subject)
        with self._lock.writing():
            for segment in self._segments:
                segment.subject_keys[segment.rows_of(templates)] = subject

    def search(self, probes: NDArray[np.float32], depth: int) -> Hits:
        """Find the nearest templates of (Q, D) probes."""
        at_once = max(1, _MAX_HITS // (depth * (len(self._segments) + 1)))
        parts = [self._search(probes[start : start + at_once], depth) for start in range(0, len(probes), at_once)]
        return stacked(parts)

    def _search(self, probes: NDArray[np.float32], depth: int) -> Hits:
        def search_segment(segment: _Segment) -> Hits:
            with self._lock.reading():
                if self._copies and not segment.gpu_copy and len(segment.template_keys) >= self._segment_rows:
                    segment.gpu_copy = self._copies.copy(segment.vectors)
                return segment.search(probes, depth)

        found = [no_hits(len(probes)), *self._threads.map(search_segment, list(self._segments))]
        if self._outside:
            found.append(self._outside.search(probes, depth))
        return nearest(found, depth)

    def blocks(self) -> Iterator[Block]:
        """Yield all templates as the index stores them; those that change during the iteration may be missing."""
        for segment in list(self._segments):
            for start in range(0, self._segment_rows, _BLOCK_ROWS):
                with self._lock.reading():
                    stop = min(start + _BLOCK_ROWS, len(segment.template_keys))
                    if start >= stop:
                        break
                    block = segment.block(start, stop)
                yield block
        if self._outside:
            yield from self._outside.blocks()

    def find(self, templates: NDArray[np.int64]) -> Block:
        """Return templates by key as the index stores them, in no particular order; ignore unknown keys."""
        with self._lock.reading():
            found = [
                segment.block(row, row + 1) for segment in self._segments for row in segment.rows_of(templates).tolist()
            ]
        if self._outside:
            found.append(self._outside.find(templates))
        return joined_blocks(found, self._dimensions)
