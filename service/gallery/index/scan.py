"""The store itself as an index: exact and slow, for the time in which the real one is built."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from service.gallery.index.base import Hits, nearest, no_hits
from service.gallery.records import Block, Gallery
from service.gallery.store import template_rows as rows
from service.gallery.store.database import Database

BLOCK_ROWS = 8192


def read_blocks(database: Database, gallery: Gallery, after: int = 0) -> Iterator[Block]:
    """Read the templates of a gallery by key, each block in a short transaction: a long one would hold up erasure."""
    while True:
        with database.reading() as connection:
            block = rows.block(connection, gallery, after, BLOCK_ROWS)
        if len(block.template_keys):
            yield block
            after = int(block.template_keys[-1])
        if len(block.template_keys) < BLOCK_ROWS:
            return


def scan(database: Database, gallery: Gallery, probes: NDArray[np.float32], depth: int) -> Hits:
    """Find the nearest templates of (Q, D) probes by reading all of them."""
    best = no_hits(len(probes))
    for block in read_blocks(database, gallery):
        similarities = probes @ block.vectors.T
        here = Hits(
            similarities,
            np.broadcast_to(block.template_keys, similarities.shape),
            np.broadcast_to(block.subject_keys, similarities.shape),
        )
        best = nearest([best, here], depth)
    return best
