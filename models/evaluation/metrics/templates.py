"""Templates of many images each, as the IJB evaluations build them, with memory for the templates only.

Both official ways (`eval_ijbc.py` of insightface, `validate_IJB_BC.py` of AdaFace with its default) add embeddings that
were not normalised: images of one medium are averaged, media are added, the sum is normalised. insightface multiplies
every image by the detector's score before, AdaFace does not.
"""

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


class TemplateBuilder:
    """Adds images up as they come.

    An image weighs one over the number of images of its medium in its template, which is known before the first is
    embedded: so a medium's mean and the sum over media are one sum. An image that turns out to be unusable is a zero in
    the mean of its medium; the official sets have none.
    """

    def __init__(self, templates: Ids, media: Ids) -> None:
        """Take the lists.

        Args:
            templates: (N,) id of the template of each image.
            media: (N,) id of the medium of each image.
        """
        self.ids, self._owner = np.unique(templates, return_inverse=True)
        _, group, sizes = np.unique(np.stack([self._owner, media]), axis=1, return_inverse=True, return_counts=True)
        self._weight = 1.0 / sizes[group]
        self._sums: NDArray[np.float64] | None = None

    def add(self, places: Ids, features: NDArray[np.floating]) -> None:
        """Add images.

        Args:
            places: (B,) of the images in the lists.
            features: (B, D) embeddings that were not normalised, weighted by the detector's score or not.
        """
        if not len(places):
            return
        if self._sums is None:
            self._sums = np.zeros((len(self.ids), features.shape[1]))
        owner = self._owner[places]
        order = np.argsort(owner, kind="stable")
        weighted = features[order] * self._weight[places[order], None]
        begin = np.flatnonzero(np.diff(owner[order], prepend=-1))
        self._sums[owner[order][begin]] += np.add.reduceat(weighted, begin, axis=0)

    def finish(self) -> NDArray[np.float32]:
        """Return (T, D) float32, templates of length 1 in the order of `ids`; zero where there was no image."""
        if self._sums is None:
            return np.zeros((len(self.ids), 1), np.float32)
        length = np.linalg.norm(self._sums, axis=1, keepdims=True)
        vectors: NDArray[np.float32] = (self._sums / np.maximum(length, np.finfo(np.float64).tiny)).astype(np.float32)
        return vectors

    def places(self, templates: Ids) -> Ids:
        """Return where templates of these ids are; -1 for those that no image belongs to."""
        found = np.clip(np.searchsorted(self.ids, templates), 0, len(self.ids) - 1)
        return np.where(self.ids[found] == templates, found, -1)


def score_pairs(vectors: NDArray[np.float32], first: Ids, second: Ids) -> NDArray[np.float32]:
    """Return (P,) dot products of listed pairs of (T, D) templates.

    Pairs that share a first template are taken from one block of a matrix product: fetching two vectors for each of
    15 million pairs would cost more than multiplying all with all.
    """
    order = np.argsort(first, kind="stable")
    rows = first[order]
    scores = np.empty(len(first), np.float32)
    start = 0
    while start < len(order):
        low = int(rows[start])
        stop = int(np.searchsorted(rows, low + _BLOCK, side="left"))
        own = order[start:stop]
        if stop - start < _FEW:
            scores[own] = np.einsum("ij,ij->i", vectors[first[own]], vectors[second[own]])
        else:
            block = vectors[low : low + _BLOCK] @ vectors.T
            scores[own] = block[first[own] - low, second[own]]
        start = stop
    return scores


_BLOCK = 512
_FEW = 4096
