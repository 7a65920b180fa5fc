"""Whether the feature norm of a recognizer may gate: does it order errors, on real faces and on worse ones?

For some recognizers it does not. One trained network that was measured gives faces of 12 pixels longer embeddings than
sharp ones, and no threshold on its norm keeps them out. So quality is validated for each contract, with one mated pair
of each of many subjects: one picture as it is, the other as it is and degraded in each way of `degradation`. What
gates is judged: the quality score, clipped at both ends. Two conditions must hold with 95 % confidence (bootstrap over
subjects), for the undegraded pairs alone and together with the pairs of each degradation: Spearman's correlation of
quality and similarity is above 0; discarding the fifth with the lowest quality lowers the false non-match rate where
there are at least 30 errors, and does not raise it where there are fewer. At least one degradation must have 30.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.artefact.card import NormStatistics
from models.calibration import LEAST_ERRORS
from models.detection.policy import FacePolicy
from models.evaluation.acquire.pictures import Picture
from models.evaluation.calibrate.degradation import DEGRADATIONS, Degraded
from models.evaluation.metrics.discard import discard_curve, rank_correlation
from models.evaluation.model import EvaluatedModel
from models.quality import quality_scores

MOST_SUBJECTS = 1000
LEAST_SUBJECTS = 30
REAL = "real"

_DISCARDED = 0.2
_REPLICATES = 1000
_CONFIDENCE = 0.95

Floats = NDArray[np.float32]


class Comparisons(NamedTuple):
    """Mated comparisons of one kind, one for each subject.

    Attributes:
        quality: (S,) the lower quality of the two faces.
        scores: (S,) similarities; both NaN where a face was not acquired.
    """

    quality: Floats
    scores: Floats


class Verdict(NamedTuple):
    """What came of it.

    Attributes:
        because: Why quality may not gate; None if it may.
        evidence: What was measured, for each kind.
    """

    because: str | None
    evidence: dict[str, Any]


def compare_degraded(
    model: EvaluatedModel, pairs: Sequence[tuple[Picture, Picture]], policy: FacePolicy, statistics: NormStatistics
) -> dict[str, Comparisons]:
    """Compare mated pairs, the second picture as it is and made worse in every way; see `quality_scores`."""
    photos = model.photos(policy)
    references = model.embed(photos, [first for first, _ in pairs], "quality: references")
    probes = [second for _, second in pairs]
    found: dict[str, Comparisons] = {}
    for kind in (REAL, *DEGRADATIONS):
        acquisition = photos if kind == REAL else Degraded(photos, kind)
        faces = model.embed(acquisition, probes, f"quality: {kind}")
        scores = np.einsum("ij,ij->i", references.embedding, faces.embedding)
        quality = quality_scores(np.minimum(references.norms[:, 0], faces.norms[:, 0]), statistics)
        scores[~(references.found & faces.found)] = np.nan
        found[kind] = Comparisons(quality, scores)
    return found


def validate_quality(comparisons: dict[str, Comparisons], threshold: float, seed: int = 0) -> Verdict:
    """Judge whether quality orders errors.

    Args:
        comparisons: By kind, the real ones under `REAL`; every kind has the same subjects in the same order.
        threshold: Similarity at which errors are counted.
        seed: Of the bootstrap.
    """
    real = comparisons[REAL]
    known = np.isfinite(np.stack([own.scores for own in comparisons.values()])).all(axis=0)
    evidence: dict[str, Any] = {"subjects": int(known.sum()), "threshold": threshold}
    if known.sum() < LEAST_SUBJECTS:
        return Verdict(
            f"it was validated on {int(known.sum())} subjects with two pictures; at least {LEAST_SUBJECTS} are needed",
            evidence,
        )
    because = None
    for kind, own in comparisons.items():
        parts = [real] if kind == REAL else [real, own]
        quality = np.stack([part.quality[known] for part in parts], axis=1)
        scores = np.stack([part.scores[known] for part in parts], axis=1)
        measured = _measure(quality, scores, threshold, seed)
        evidence[kind] = measured
        because = because or _objection(kind, measured)
    most = max(measured["errors"] for measured in evidence.values() if isinstance(measured, dict))
    if because is None and most < LEAST_ERRORS:
        because = f"only {most} errors were seen, and {LEAST_ERRORS} are needed to tell whether it orders them"
    return Verdict(because, evidence)


def _measure(quality: Floats, scores: Floats, threshold: float, seed: int) -> dict[str, Any]:
    """Measure (S, K) comparisons of S subjects."""
    from scipy.stats import rankdata  # takes as long to load as a model; no command but this needs it

    curve = discard_curve(quality.ravel(), scores.ravel(), threshold)
    rng = np.random.default_rng(seed)
    correlation, change = np.empty((2, _REPLICATES))
    for replicate in range(_REPLICATES):
        drawn = rng.integers(0, len(scores), len(scores))
        own, similar = quality[drawn].ravel(), scores[drawn].ravel()
        ranks = rankdata(own), rankdata(similar)
        correlation[replicate] = 0.0 if np.ptp(own) == 0 or np.ptp(similar) == 0 else np.corrcoef(*ranks)[0, 1]
        missed = (similar < np.float32(threshold))[np.argsort(own, kind="stable")]
        change[replicate] = missed[int(_DISCARDED * len(missed)) :].mean() - missed.mean()
    place = curve.discarded.index(_DISCARDED)
    return {
        "spearman": rank_correlation(quality.ravel(), scores.ravel()),
        "spearman_least": float(np.quantile(correlation, 1 - _CONFIDENCE)),
        "fnmr": curve.fnmr[0],
        "fnmr_with_a_fifth_discarded": curve.fnmr[place],
        "fnmr_change_least": float(np.quantile(change, 1 - _CONFIDENCE)),
        "fnmr_change_most": float(np.quantile(change, _CONFIDENCE)),
        "errors": int((scores < np.float32(threshold)).sum()),
        "curve": {"discarded": curve.discarded, "fnmr": curve.fnmr},
    }


def _objection(kind: str, measured: dict[str, Any]) -> str | None:
    faces = "real faces" if kind == REAL else f"real faces and the same made worse ({kind})"
    if measured["spearman_least"] <= 0:
        return (
            f"on {faces} its correlation with mated similarity is {measured['spearman']:.2f}, not surely above 0, "
            "so it does not order this model's errors"
        )
    before, after = measured["fnmr"], measured["fnmr_with_a_fifth_discarded"]
    if measured["errors"] >= LEAST_ERRORS and measured["fnmr_change_most"] >= 0:
        return (
            f"on {faces} leaving out the fifth with the lowest quality does not surely lower the false non-match rate "
            f"({before:.3f} before, {after:.3f} after)"
        )
    if measured["fnmr_change_least"] > 0:
        return (
            f"on {faces} leaving out the fifth with the lowest quality raises the false non-match rate "
            f"({before:.3f} before, {after:.3f} after)"
        )
    return None
