"""The interface of a template index, and operations on its hits."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from service.gallery.records import Block

_PARTITION_RATIO = 8  # ratio of hits to depth above which partitioning comes before sorting

NO_KEY = -1  # key that marks an empty entry of `Hits`


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """The nearest templates of Q probes.

    Attributes:
        similarities: (Q, K) float32, descending; -inf for an empty entry.
        template_keys, subject_keys: (Q, K) int64; `NO_KEY` for an empty entry.
    """

    similarities: NDArray[np.float32]
    template_keys: NDArray[np.int64]
    subject_keys: NDArray[np.int64]


class TemplateIndex(Protocol):
    """Finds the nearest templates. Thread-safe."""

    kind: str
    rounding: float  # maximum difference between its similarities and those of the stored float32 vectors

    @property
    def count(self) -> int:
        """Number of templates in the index."""

    def add(self, block: Block) -> None:
        """Add templates whose keys are larger than all previous keys."""

    def remove(self, templates: NDArray[np.int64]) -> None:
        """Remove templates by key; ignore unknown keys."""

    def reassign(self, templates: NDArray[np.int64], subject: int) -> None:
        """Assign templates to another subject."""

    def search(self, probes: NDArray[np.float32], depth: int) -> Hits:
        """Find the nearest templates.

        Args:
            probes: (Q, D) float32 of length 1.
            depth: K, maximum number of templates for each probe.
        """

    def blocks(self) -> Iterator[Block]:
        """Yield all templates as the index stores them; those that change during the iteration may be missing."""

    def find(self, templates: NDArray[np.int64]) -> Block:
        """Return templates by key as the index stores them, in no particular order; ignore unknown keys."""


def joined_blocks(blocks: Sequence[Block], dimensions: int) -> Block:
    """Concatenate blocks in order."""
    none = Block(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, dimensions), np.float32))
    return Block(*(np.concatenate([getattr(block, name) for block in (none, *blocks)]) for name in Block.__slots__))


def nearest(parts: list[Hits], depth: int) -> Hits:
    """Merge the hits of several index parts and keep the best `depth` of each probe."""
    joined = Hits(
        np.concatenate([part.similarities for part in parts], axis=1),
        np.concatenate([part.template_keys for part in parts], axis=1),
        np.concatenate([part.subject_keys for part in parts], axis=1),
    )
    if joined.similarities.shape[1] > _PARTITION_RATIO * depth:  # sorting all hits would take longer than the search
        joined = _picked(joined, np.argpartition(-joined.similarities, depth, axis=1)[:, :depth])
    return _picked(joined, np.argsort(-joined.similarities, axis=1, kind="stable")[:, :depth])


def _picked(hits: Hits, order: NDArray[np.int64]) -> Hits:
    return Hits(
        np.take_along_axis(hits.similarities, order, 1),
        np.take_along_axis(hits.template_keys, order, 1),
        np.take_along_axis(hits.subject_keys, order, 1),
    )


def stacked(parts: Sequence[Hits]) -> Hits:
    """Concatenate the hits of several groups of probes, padding them to the width of the widest."""
    width = max(part.similarities.shape[1] for part in parts)

    def column(kind: str, fill: float) -> NDArray[Any]:
        arrays = [getattr(part, kind) for part in parts]
        return np.concatenate(
            [np.pad(array, ((0, 0), (0, width - array.shape[1])), constant_values=fill) for array in arrays]
        )

    return Hits(column("similarities", -np.inf), column("template_keys", NO_KEY), column("subject_keys", NO_KEY))


def no_hits(probes: int) -> Hits:
    """Return the hits of an empty index, of width 0."""
    empty = np.empty((probes, 0), np.int64)
    return Hits(empty.astype(np.float32), empty, empty)
