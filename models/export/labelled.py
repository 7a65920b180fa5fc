"""A labelled set, on which an export measures how a precision changes verification decisions."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.artefact.proof import LabelledScore
from models.errors import SingleClass
from models.evaluation.metrics.all_pairs import compare_all
from models.evaluation.metrics.verification import distances_of, ten_fold_accuracy
from models.types import Floats

LABELLED_RATE = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Aligned faces with known subjects, and the mated and non-mated pairs that a protocol lists.

    Attributes:
        name: Name and size of the set, for the proof.
        faces: `.npy` file, (N, H, W, 3) uint8, RGB, aligned.
        first, second: (P,) indices of the two faces of each pair; -1 if no face was found.
        mated: (P,) True where both faces of a pair are of the same subject.
        subjects: (N,) number of each face's subject; -1 where no face was found.
    """

    name: str
    faces: Path
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    mated: NDArray[np.bool_]
    subjects: NDArray[np.int64]

    def score(self, embeddings: Floats) -> "LabelledScore":
        """Return the accuracy over the pairs, and the FNMR at FMR 1e-3 where the set supports that rate.

        For the accuracy, a pair with a missing face has similarity -1. FNMR is over completed comparisons.

        Args:
            embeddings: (N, D) float32, unit embeddings of the faces.
        """
        similarity = (embeddings[self.first] * embeddings[self.second]).sum(axis=1)
        completed = (self.first >= 0) & (self.second >= 0)
        similarity[~completed] = -1
        threshold, compared = _threshold(embeddings, self.subjects), similarity[self.mated & completed]
        fnmr = None if threshold is None or not len(compared) else float((compared < threshold).mean())
        return LabelledScore(ten_fold_accuracy(distances_of(similarity), self.mated).mean, fnmr, threshold)


def _threshold(embeddings: Floats, subjects: NDArray[np.int64]) -> float | None:
    """Return the threshold of FMR 1e-3 over all non-mated pairs, or None if they are too few to support the rate."""
    found = subjects >= 0
    try:
        pairs = compare_all(embeddings[found], subjects[found])
    except SingleClass:
        return None
    return pairs.non_mated.threshold(LABELLED_RATE) if pairs.non_mated.supports(LABELLED_RATE) else None
