"""What every index can do."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from service.gallery.records import Block

_SORTED_AT_ONCE = 8

NOTHING = -1  # key in a place of `Hits` that is empty


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """The nearest templates of Q probes.

    Attributes:
        similarities: (Q, K) float32, falling; -inf where there is none.
        template_keys, subject_keys: (Q, K) int64; `NOTHING` where there is none.
    """

    similarities: NDArray[np.float32]
    template_keys: NDArray[np.int64]
    subject_keys: NDArray[np.int64]


class TemplateIndex(Protocol):
    """Finds the nearest templates. Safe for use by several threads at once."""

    kind: str
    rounding: float  # most that similarities differ from those of the stored float32 vectors

    @property
    def count(self) -> int:
        """How many templates can be found."""

    def add(self, block: Block) -> None:
        """Add templates whose keys are larger than all before."""

    def remove(self, templates: NDArray[np.int64]) -> None:
        """Take templates out; those that are not there are passed over."""

    def reassign(self, templates: NDArray[np.int64], subject: int) -> None:
        """Give templates another subject."""

    def search(self, probes: NDArray[np.float32], depth: int) -> Hits:
        """Find the nearest templates.

        Args:
            probes: (Q, D) float32 of length 1.
            depth: K, how many for each probe.
        """

    def blocks(self) -> Iterator[Block]:
        """Give all templates as the index has them, for comparing with the store; nothing may change meanwhile."""


def nearest(parts: list[Hits], depth: int) -> Hits:
    """Join hits of several parts into the best of them."""
    joined = Hits(
        np.concatenate([part.similarities for part in parts], axis=1),
        np.concatenate([part.template_keys for part in parts], axis=1),
        np.concatenate([part.subject_keys for part in parts], axis=1),
    )
    if joined.similarities.shape[1] > _SORTED_AT_ONCE * depth:  # sorting all of them would take longer than searching
        joined = _picked(joined, np.argpartition(-joined.similarities, depth, axis=1)[:, :depth])
    return _picked(joined, np.argsort(-joined.similarities, axis=1, kind="stable")[:, :depth])


def _picked(hits: Hits, order: NDArray[np.int64]) -> Hits:
    return Hits(
        np.take_along_axis(hits.similarities, order, 1),
        np.take_along_axis(hits.template_keys, order, 1),
        np.take_along_axis(hits.subject_keys, order, 1),
    )


def stacked(parts: Sequence[Hits]) -> Hits:
    """Put the hits of some probes above those of others, as wide as the widest."""
    width = max(part.similarities.shape[1] for part in parts)

    def column(kind: str, fill: float) -> NDArray[Any]:
        arrays = [getattr(part, kind) for part in parts]
        return np.concatenate(
            [np.pad(own, ((0, 0), (0, width - own.shape[1])), constant_values=fill) for own in arrays]
        )

    return Hits(column("similarities", -np.inf), column("template_keys", NOTHING), column("subject_keys", NOTHING))


def no_hits(probes: int) -> Hits:
    """Give what an empty index finds."""
    empty = np.empty((probes, 0), np.int64)
    return Hits(empty.astype(np.float32), empty, empty)
