"""Parity: how closely an exported graph reproduces the embeddings of its source network.

The measure depends on the precision. float32 with another order of operations stays below a relative L2 of 1e-5; a
wrong divisor, channel order or epsilon causes at least 5e-4. Lower precisions are compared by cosine. int8 is also
compared by its effect on decisions, if a labelled set is given.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.types import Embeddings

MAX_DETECTOR_DIFFERENCE = 1e-3  # of scores, and of box and landmark offsets in strides
MAX_ACCURACY_LOSS = 1e-3  # 0.1 points of 10-fold accuracy
MAX_FNMR_GROWTH = 1.1  # maximum ratio of the FNMR at FMR 1e-3 to that of the reference

MIN_SPREAD = 0.8  # fraction of the reference spread; a collapsed model returns one embedding for all faces
MAX_SHIFT = 0.05  # allowed rise of the mean cosine between different faces

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a precision. None means that the measure has no limit."""

    worst_relative_l2: float | None = None
    worst_cosine: float | None = None
    mean_cosine: float | None = None
    norm_drift: float | None = None


GraphKind = Literal["fp32", "tf32", "bf16", "fp16", "int8", "int8-cpu"]  # tf32, bf16: the fp32 graph, other arithmetic

LIMITS: dict[GraphKind, Limits] = {
    "fp32": Limits(worst_relative_l2=1e-4, worst_cosine=0.99999, norm_drift=1e-4),
    "tf32": Limits(worst_cosine=0.9999, norm_drift=0.01),  # products of 10-bit mantissas, like those of float16
    "fp16": Limits(worst_cosine=0.9999, norm_drift=0.01),
    "bf16": Limits(worst_cosine=0.998, norm_drift=0.05),
    "int8": Limits(mean_cosine=0.98, norm_drift=0.2),
    "int8-cpu": Limits(mean_cosine=0.98, norm_drift=0.2),
}


@dataclass(frozen=True, slots=True)
class Parity:
    """Differences between embeddings and their reference, over all faces.

    Attributes:
        worst_relative_l2, mean_relative_l2: |candidate - reference| / |reference| before normalisation.
        worst_cosine, mean_cosine: Cosine between candidate and reference.
        worst_norm_drift: Largest relative difference of the norms.
        spread, reference_spread: Standard deviation of the cosines between different faces.
        mean_between, reference_mean_between: Mean of the cosines between different faces. A rise means that different
            people become more similar.
        threshold: Similarity threshold at which decisions were compared.
        flipped, pairs: Number of pairs of faces with a different decision, and number of all pairs.
    """

    worst_relative_l2: float
    mean_relative_l2: float
    worst_cosine: float
    mean_cosine: float
    worst_norm_drift: float
    spread: float
    reference_spread: float
    mean_between: float
    reference_mean_between: float
    threshold: float
    flipped: int
    pairs: int

    def failures(self, precision: GraphKind) -> list[str]:
        """Return why the candidate fails the limits of a precision; empty if it passes."""
        limits, failures = LIMITS[precision], []
        if limits.worst_relative_l2 is not None and not self.worst_relative_l2 <= limits.worst_relative_l2:
            failures.append(f"relative L2 {self.worst_relative_l2:.2g} is above {limits.worst_relative_l2:g}")
        if limits.worst_cosine is not None and not self.worst_cosine >= limits.worst_cosine:
            failures.append(f"cosine {self.worst_cosine:.6f} is below {limits.worst_cosine:g}")
        if limits.mean_cosine is not None and not self.mean_cosine >= limits.mean_cosine:
            failures.append(f"mean cosine {self.mean_cosine:.4f} is below {limits.mean_cosine:g}")
        if limits.norm_drift is not None and not self.worst_norm_drift <= limits.norm_drift:
            failures.append(f"the norm drifts by {self.worst_norm_drift:.2g}, more than {limits.norm_drift:g}")
        if not self.spread >= MIN_SPREAD * self.reference_spread:
            failures.append(
                f"different faces become similar: spread {self.spread:.3f} instead of {self.reference_spread:.3f}"
            )
        if not self.mean_between <= self.reference_mean_between + MAX_SHIFT:
            failures.append(
                f"different faces become similar: mean cosine {self.mean_between:.3f} "
                f"instead of {self.reference_mean_between:.3f}"
            )
        return failures  # the comparisons are written so that NaN fails

    def record(self) -> dict[str, Any]:
        """Return the record for `parity.json`."""
        return asdict(self)


def compare(reference: Floats, candidate: Embeddings, threshold: float | None = None) -> Parity:
    """Measure the parity of embeddings with their reference.

    Args:
        reference: (N, D) float32, embeddings before normalisation.
        candidate: Embeddings and norms of the same N faces.
        threshold: Similarity threshold at which decisions are compared; None uses the median similarity of the
            reference.
    """
    raw = candidate.raw
    norms = np.linalg.norm(reference, axis=1)
    relative = np.linalg.norm(raw - reference, axis=1) / norms
    cosines = (candidate.embedding * reference).sum(axis=1) / norms / np.linalg.norm(candidate.embedding, axis=1)
    before, after = pair_similarities(reference / norms[:, None]), pair_similarities(candidate.embedding)
    threshold = float(np.median(before)) if threshold is None else threshold
    return Parity(
        worst_relative_l2=float(relative.max()),
        mean_relative_l2=float(relative.mean()),
        worst_cosine=float(cosines.min()),
        mean_cosine=float(cosines.mean()),
        worst_norm_drift=float((np.abs(candidate.norm - norms) / norms).max()),
        spread=float(after.std()),
        reference_spread=float(before.std()),
        mean_between=float(after.mean()),
        reference_mean_between=float(before.mean()),
        threshold=threshold,
        flipped=int(((before >= threshold) != (after >= threshold)).sum()),
        pairs=len(before),
    )


def pair_similarities(embeddings: Floats) -> Floats:
    """Return the N (N - 1) / 2 cosines between all pairs of (N, D) unit embeddings."""
    rows, columns = np.triu_indices(len(embeddings), 1)
    similarities: Floats = (embeddings @ embeddings.T)[rows, columns]
    return similarities
