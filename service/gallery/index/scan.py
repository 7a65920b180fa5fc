"""A scan of the store: an exact but slow search that serves while the index is being built."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from service.gallery.index.base import Hits, nearest, no_hits
from service.gallery.records import Block, Gallery
from service.gallery.store import template_rows as rows
from service.gallery.store.database import Database

BLOCK_ROWS = 8192


def read_blocks(database: Database, gallery: Gallery, after: int = 0) -> Iterator[Block]:
    """Read the templates of a gallery, sorted by key, starting after the key `after`.

    Each block is read in a short transaction, because a long one would prevent truncating the write-ahead log after an
    erasure.
    """
    while True:
        with database.reading() as connection:
            page = rows.block(connection, gallery, after, BLOCK_ROWS)
        if len(page.block.template_keys):
            yield page.block
        if page.last is None:
            return
        after = page.last


def scan(database: Database, gallery: Gallery, probes: NDArray[np.float32], depth: int) -> Hits:
    """Find the nearest templates of (Q, D) probes by reading all templates."""
    best = no_hits(len(probes))
    for block in read_blocks(database, gallery):
        similarities = probes @ block.vectors.T
        hits = Hits(
            similarities,
            np.broadcast_to(block.template_keys, similarities.shape),
            np.broadcast_to(block.subject_keys, similarities.shape),
        )
        best = nearest([best, hits], depth)
    return best
