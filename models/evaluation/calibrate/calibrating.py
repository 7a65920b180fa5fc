"""From pictures of known subjects to a calibration: operating points, score map, quality."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from models.calibration import Calibration, OperatingPoint
from models.detection.policy import FacePolicy
from models.errors import CalibrationUnfit, PictureMissing
from models.evaluation.acquire.pictures import FaceTable, Picture
from models.evaluation.calibrate.quality_validation import MOST_SUBJECTS, compare_degraded, validate_quality
from models.evaluation.calibrate.score_map import FOLDS, fit_score_map
from models.evaluation.metrics.all_pairs import compare_all, deal_into_folds
from models.evaluation.metrics.operating_points import RATES, bound_beyond, operating_points, point_name, require_points
from models.evaluation.model import EvaluatedModel
from models.evaluation.sets.own import PictureSet
from models.quality import QualityScale
from models.quality.geometry import measured_range
from models.quality.norm import norm_statistics

DEFAULT_RATE = 1e-4


def calibrate(
    model: EvaluatedModel,
    pictures: PictureSet,
    policy: FacePolicy,
    default: str | None = None,
    rates: Sequence[float] = RATES,
) -> tuple[Calibration, FaceTable]:
    """Measure a calibration.

    Args:
        model: What serves.
        pictures: With their subjects.
        policy: Which face of a photo is meant; not `all`.
        default: Name of the default operating point; the one of 1e-4, or the nearest looser one, if not given.
        rates: False match rates wanted.

    Returns:
        The calibration, and the faces that it rests on.

    Raises:
        SetIncomplete, OneClassOnly, TooFewSubjects, TooManyPairs: The pictures cannot be used.
        CalibrationUnfit: They support no operating point, or not the default one.
    """
    if default is not None and default not in map(point_name, rates):  # now, not after the work
        raise CalibrationUnfit(f"there is no {default}; there may be {', '.join(map(point_name, rates))}")
    deal_into_folds(pictures.numbers(), FOLDS)  # too few subjects are told now as well
    everything = model.embed(model.photos(policy), pictures.pictures, pictures.name)
    missing = sum(failure.code == PictureMissing.code for failure in everything.failures)
    there = len(everything.names) - missing
    faces, known = everything.where(everything.found), pictures.where(everything.found)
    subjects = known.numbers()
    folds = deal_into_folds(subjects, FOLDS)
    pairs = compare_all(faces.embedding, subjects, folds, model.progress)
    measured_on = (
        f"{pictures.name}: {len(faces.names):,} pictures of {len(set(known.subjects)):,} subjects, "
        f"{pairs.non_mated.count:,} non-mated and {len(pairs.mated.scores):,} mated pairs"
    )
    points = operating_points(pairs, measured_on, rates, progress=model.progress)
    require_points(points, pairs)
    chosen = _default(points, default)
    assert pairs.by_fold is not None  # folds were given
    calibration = Calibration(
        contract_id=model.models.contract_id,
        default=chosen.name,
        points=tuple(points),
        bound=bound_beyond(pairs),
        score_map=fit_score_map(pairs.by_fold, measured_on),
        quality=measure_quality(model, faces, known, policy, chosen.threshold),
        conditions=model.conditions(
            face_policy=policy,
            pictures=there,
            failure_to_acquire=(len(everything.failures) - missing) / max(1, there),
            subjects=len(set(known.subjects)),
            mated=len(pairs.mated.scores),
            non_mated=pairs.non_mated.count,
        ),
    )
    return calibration, everything


def measure_quality(
    model: EvaluatedModel, faces: FaceTable, pictures: PictureSet, policy: FacePolicy, threshold: float
) -> QualityScale:
    """Choose the statistics of the norm, and validate that it orders errors."""
    own = model.models.recognizer.single_view_statistics
    statistics = own or norm_statistics(faces.norms[:, 0])
    comparisons = compare_degraded(model, _one_pair_each(pictures), policy, statistics)
    verdict = validate_quality(comparisons, threshold)
    return QualityScale(
        statistics=statistics,
        source="checkpoint" if own else "measured",
        validated=verdict.because is None,
        because=verdict.because,
        evidence=verdict.evidence,
        seen=measured_range(faces.geometry),
    )


def _one_pair_each(pictures: PictureSet) -> list[tuple[Picture, Picture]]:
    """Take the first two pictures of every subject that has two, of at most so many subjects, spread evenly."""
    own: dict[str, list[Picture]] = defaultdict(list)
    for picture, subject in zip(pictures.pictures, pictures.subjects, strict=True):
        own[subject].append(picture)
    pairs = [(some[0], some[1]) for some in own.values() if len(some) > 1]
    spread = np.linspace(0, len(pairs) - 1, min(len(pairs), MOST_SUBJECTS)).astype(int)
    return [pairs[place] for place in spread]


def _default(points: Sequence[OperatingPoint], wanted: str | None) -> OperatingPoint:
    if wanted is None:
        return next((point for point in reversed(points) if point.rate >= DEFAULT_RATE), points[0])
    for point in points:
        if point.name == wanted:
            return point
    names = ", ".join(point.name for point in points)
    raise CalibrationUnfit(f"{wanted} cannot be the default: the data supports {names}")
