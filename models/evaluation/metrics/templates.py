"""Templates of several images each, built as in the IJB evaluations, with memory for the templates only.

Both official implementations (`eval_ijbc.py` of insightface, `validate_IJB_BC.py` of AdaFace with its defaults) fuse
embeddings that are not normalised: they average the images of a medium, add the media and normalise the sum. The one of
insightface first multiplies every embedding by the score of the detector; the one of AdaFace does not.
"""

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


class TemplateBuilder:
    """Accumulator of templates to which images are added in any order.

    The weight of an image is one over the number of images of its medium in its template. The lists give this number
    before any image is embedded, so the mean over a medium and the sum over media become one weighted sum. An unusable
    image counts as zero in the mean of its medium; the official sets have no unusable images.

    Attributes:
        ids: (T,) int64, ids of the templates, ascending.
    """

    def __init__(self, templates: Ids, media: Ids) -> None:
        """Initialise the templates.

        Args:
            templates: (N,) int64, id of the template of each image.
            media: (N,) int64, id of the medium of each image.
        """
        self.ids, self._owner = np.unique(templates, return_inverse=True)
        _, group, sizes = np.unique(np.stack([self._owner, media]), axis=1, return_inverse=True, return_counts=True)
        self._weight = 1.0 / sizes[group]
        self._sums: NDArray[np.float64] | None = None

    def add(self, places: Ids, features: NDArray[np.floating]) -> None:
        """Add images to their templates.

        Args:
            places: (B,) int64, indices of the images in the lists.
            features: (B, D) embeddings before normalisation, optionally multiplied by the score of the detector.
        """
        if not len(places):
            return
        if self._sums is None:
            self._sums = np.zeros((len(self.ids), features.shape[1]))
        owner = self._owner[places]
        order = np.argsort(owner, kind="stable")
        weighted = features[order] * self._weight[places[order], None]
        starts = np.flatnonzero(np.diff(owner[order], prepend=-1))
        self._sums[owner[order][starts]] += np.add.reduceat(weighted, starts, axis=0)

    def finish(self) -> NDArray[np.float32]:
        """Return (T, D) float32, templates of length 1 in the order of `ids`; zero for a template without images."""
        if self._sums is None:
            return np.zeros((len(self.ids), 1), np.float32)
        norms = np.linalg.norm(self._sums, axis=1, keepdims=True)
        vectors: NDArray[np.float32] = (self._sums / np.maximum(norms, np.finfo(np.float64).tiny)).astype(np.float32)
        return vectors

    def places(self, templates: Ids) -> Ids:
        """Return the indices of template ids in `ids`; -1 for an unknown id."""
        indices = np.clip(np.searchsorted(self.ids, templates), 0, len(self.ids) - 1)
        return np.where(self.ids[indices] == templates, indices, -1)


def score_pairs(vectors: NDArray[np.float32], first: Ids, second: Ids) -> NDArray[np.float32]:
    """Return (P,) float32, the dot products of listed pairs of (T, D) templates.

    Where many pairs have their first templates in the same block of rows, the scores are read from a matrix product of
    that block with all templates. Fetching two vectors for each of 15 million pairs would cost more.

    Args:
        vectors: (T, D) float32, templates.
        first: (P,) int64, row of the first template of each pair.
        second: (P,) int64, row of the second template of each pair.
    """
    order = np.argsort(first, kind="stable")
    rows = first[order]
    scores = np.empty(len(first), np.float32)
    start = 0
    while start < len(order):
        low = int(rows[start])
        stop = int(np.searchsorted(rows, low + _BLOCK, side="left"))
        pairs = order[start:stop]
        if stop - start < _FEW:
            scores[pairs] = np.einsum("ij,ij->i", vectors[first[pairs]], vectors[second[pairs]])
        else:
            block = vectors[low : low + _BLOCK] @ vectors.T
            scores[pairs] = block[first[pairs] - low, second[pairs]]
        start = stop
    return scores


_BLOCK = 512  # rows of a matrix product
_FEW = 4096  # pairs of a block below which single dot products are cheaper
