"""Validation of quality as a gate: whether it predicts errors, on real faces and on degraded ones.

The feature norm of some recognizers does not predict errors. One trained network, when measured, returned longer
embeddings for faces of 12 pixels than for sharp faces, so no threshold on its norm rejects them. Quality is therefore
validated for each embedding contract, with one mated pair of each of many subjects. The reference of a pair is never
degraded; the probe is compared undegraded and with each degradation of `degradation`. The validated quantity is the
quality score, clipped at both ends, because the gate uses that score.

Two conditions must hold with 95 % confidence (bootstrap over subjects), both for the undegraded pairs alone and for
these together with the pairs of each degradation:

* Spearman's correlation of quality and similarity is above 0.
* Discarding the fifth with the lowest quality lowers the false non-match rate if there are at least 30 errors, and does
  not raise it if there are fewer.

At least one of these sets of pairs must have 30 errors.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.artefact.card import NormStatistics
from models.calibration import MIN_ERRORS
from models.detection.policy import FacePolicy
from models.evaluation.acquire.pictures import Picture
from models.evaluation.calibrate.degradation import DEGRADATIONS, Degraded
from models.evaluation.metrics.discard import discard_curve, rank_correlation
from models.evaluation.model import EvaluatedModel
from models.quality import quality_scores

MAX_SUBJECTS = 1000
MIN_SUBJECTS = 30
REAL = "real"

_DISCARDED = 0.2
_REPLICATES = 1000
_CONFIDENCE = 0.95

Floats = NDArray[np.float32]


class Comparisons(NamedTuple):
    """Mated comparisons of one kind, one for each subject.

    Attributes:
        quality: (S,) float32, the lower quality of the two faces, in [0, 100].
        scores: (S,) float32, similarities; NaN where a face was not acquired.
    """

    quality: Floats
    scores: Floats


class Verdict(NamedTuple):
    """Outcome of the validation.

    Attributes:
        because: Why quality is not validated; None if it is.
        evidence: The measurements, by kind.
    """

    because: str | None
    evidence: dict[str, Any]


def compare_degraded(
    model: EvaluatedModel, pairs: Sequence[tuple[Picture, Picture]], policy: FacePolicy, statistics: NormStatistics
) -> dict[str, Comparisons]:
    """Compare mated pairs, with the second picture undegraded and with each degradation.

    Args:
        model: The model under validation.
        pairs: Reference and probe of each subject.
        policy: Which face of a photo is used; not `all`.
        statistics: Norm statistics that `quality_scores` takes.

    Returns:
        By kind, the undegraded pairs under `REAL`; every kind has the subjects in the order of `pairs`.
    """
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
    """Validate that quality predicts errors.

    Args:
        comparisons: By kind, the undegraded pairs under `REAL`; every kind has the same subjects in the same order.
        threshold: Similarity threshold at which errors are counted.
        seed: Seed of the bootstrap.
    """
    real = comparisons[REAL]
    known = np.isfinite(np.stack([compared.scores for compared in comparisons.values()])).all(axis=0)
    evidence: dict[str, Any] = {"subjects": int(known.sum()), "threshold": threshold}
    if known.sum() < MIN_SUBJECTS:
        return Verdict(
            f"it was measured on {int(known.sum())} subjects with two pictures; at least {MIN_SUBJECTS} are needed",
            evidence,
        )
    because = None
    for kind, compared in comparisons.items():
        parts = [real] if kind == REAL else [real, compared]
        quality = np.stack([part.quality[known] for part in parts], axis=1)
        scores = np.stack([part.scores[known] for part in parts], axis=1)
        measured = _measure(quality, scores, threshold, seed)
        evidence[kind] = measured
        because = because or _objection(kind, measured)
    maximum = max(measured["errors"] for measured in evidence.values() if isinstance(measured, dict))
    if because is None and maximum < MIN_ERRORS:
        because = f"the measurement has only {maximum} errors; at least {MIN_ERRORS} are needed"
    return Verdict(because, evidence)


def _measure(quality: Floats, scores: Floats, threshold: float, seed: int) -> dict[str, Any]:
    """Measure (S, K) comparisons: K pairs of each of S subjects."""
    from scipy.stats import rankdata  # slow to import, and only this measurement needs it

    curve = discard_curve(quality.ravel(), scores.ravel(), threshold)
    rng = np.random.default_rng(seed)
    correlation, change = np.empty((2, _REPLICATES))
    for replicate in range(_REPLICATES):
        drawn = rng.integers(0, len(scores), len(scores))
        drawn_quality, drawn_scores = quality[drawn].ravel(), scores[drawn].ravel()
        ranks = rankdata(drawn_quality), rankdata(drawn_scores)
        constant = np.ptp(drawn_quality) == 0 or np.ptp(drawn_scores) == 0
        correlation[replicate] = 0.0 if constant else np.corrcoef(*ranks)[0, 1]
        missed = (drawn_scores < np.float32(threshold))[np.argsort(drawn_quality, kind="stable")]
        change[replicate] = missed[int(_DISCARDED * len(missed)) :].mean() - missed.mean()
    index = curve.discarded.index(_DISCARDED)
    return {
        "spearman": rank_correlation(quality.ravel(), scores.ravel()),
        "spearman_least": float(np.quantile(correlation, 1 - _CONFIDENCE)),
        "fnmr": curve.fnmr[0],
        "fnmr_with_a_fifth_discarded": curve.fnmr[index],
        "fnmr_change_least": float(np.quantile(change, 1 - _CONFIDENCE)),
        "fnmr_change_most": float(np.quantile(change, _CONFIDENCE)),
        "errors": int((scores < np.float32(threshold)).sum()),
        "curve": {"discarded": curve.discarded, "fnmr": curve.fnmr},
    }


def _objection(kind: str, measured: dict[str, Any]) -> str | None:
    """Return why the measurements of one kind do not validate quality, or None if they do."""
    faces = "real faces" if kind == REAL else f"real faces and their degraded copies ({kind})"
    if measured["spearman_least"] <= 0:
        return (
            f"on {faces} its correlation with mated similarity is {measured['spearman']:.2f}, not clearly above 0, "
            "so it does not predict the errors of this model"
        )
    before, after = measured["fnmr"], measured["fnmr_with_a_fifth_discarded"]
    if measured["errors"] >= MIN_ERRORS and measured["fnmr_change_most"] >= 0:
        return (
            f"on {faces} discarding the lowest fifth of quality does not clearly lower the false non-match rate "
            f"({before:.3f} before, {after:.3f} after)"
        )
    if measured["fnmr_change_least"] > 0:
        return (
            f"on {faces} discarding the lowest fifth of quality raises the false non-match rate "
            f"({before:.3f} before, {after:.3f} after)"
        )
    return None
