"""The proof: a converted graph answers like the one it was made from."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.embedding import Embeddings

MAX_RELATIVE_L2 = 1e-4  # of the raw embedding; the same arithmetic in another order stays below 1e-5
MIN_COSINE = 0.99999
MAX_DETECTOR_DIFFERENCE = 1e-3  # of scores and of offsets in units of a stride


@dataclass(frozen=True, slots=True)
class RecognizerParity:
    """How far embeddings are from the reference, over all pictures.

    Attributes:
        worst_relative_l2: Largest |candidate - reference| / |reference| of the embeddings before normalisation.
        worst_cosine: Smallest cosine between candidate and reference.
        worst_norm_drift: Largest relative difference of the norms.
    """

    worst_relative_l2: float
    worst_cosine: float
    worst_norm_drift: float

    @property
    def passed(self) -> bool:
        """Whether the candidate is still the same model in float32."""
        return self.worst_relative_l2 <= MAX_RELATIVE_L2 and self.worst_cosine >= MIN_COSINE

    def record(self) -> dict[str, Any]:
        """Return what is written into the proof."""
        return {**asdict(self), "passed": self.passed}


def compare_recognizers(reference: NDArray[np.float32], candidate: Embeddings) -> RecognizerParity:
    """Measure parity.

    Args:
        reference: (N, D) float32, embeddings before normalisation.
        candidate: Of the same N pictures.
    """
    raw = candidate.embedding * candidate.norm[:, None]
    norms = np.linalg.norm(reference, axis=1)
    cosines = (candidate.embedding * reference).sum(axis=1) / norms
    return RecognizerParity(
        worst_relative_l2=float((np.linalg.norm(raw - reference, axis=1) / norms).max()),
        worst_cosine=float(cosines.min()),
        worst_norm_drift=float((np.abs(candidate.norm - norms) / norms).max()),
    )
