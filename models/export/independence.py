"""Whether an embedding depends on the number of faces that are embedded together, or on the other ones."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from models.artefact.parity import Floats, GraphKind, compare
from models.types import Embeddings

_SIZES = (1, 2, 3, 5)  # of the first batches: odd and even, and of none of the sizes that engines round to
CHECKED_FACES = sum(_SIZES)


def in_batches(faces: NDArray[np.uint8], largest: int) -> Iterator[NDArray[np.uint8]]:
    """Divide (N, H, W, 3) faces into batches of several sizes, then of the largest one."""
    start = 0
    for size in _SIZES:
        if start < len(faces):
            yield faces[start : start + size]
        start += size
    for first in range(start, len(faces), largest):
        yield faces[first : first + largest]


def depends_on_batch(embed: Callable[[NDArray[np.uint8]], Floats], faces: NDArray[np.uint8], kind: GraphKind) -> bool:
    """Return whether faces have other embeddings in batches of several sizes than each face alone.

    Args:
        embed: Returns (N, D) float32 for (N, H, W, 3) uint8 faces.
        faces: Faces to compare, at least two. The first ones are used.
        kind: Arithmetic of the network, whose limits of parity are those of a difference by rounding.
    """
    faces = faces[:CHECKED_FACES]
    alone = np.concatenate([embed(face[None]) for face in faces])
    lengths = np.linalg.norm(alone, axis=1)
    if not np.isfinite(lengths).all() or not lengths.all():
        return False  # broken weights, which have their own error
    together = np.concatenate([embed(batch) for batch in in_batches(faces, CHECKED_FACES)])
    norms = np.linalg.norm(together, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):  # NaN fails
        return bool(compare(alone, Embeddings(together / norms[:, None], norms)).failures(kind))
