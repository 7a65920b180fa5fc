"""Calibration from pictures of known subjects: operating points, score map, quality."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from models.calibration import DEFAULT_RATE, Calibration, OperatingPoint
from models.detection.policy import FacePolicy
from models.errors import CalibrationUnfit, ImageMissing
from models.evaluation.acquire.pictures import FaceTable, Picture
from models.evaluation.calibrate.quality_validation import MAX_SUBJECTS, compare_degraded, validate_quality
from models.evaluation.calibrate.score_map import FOLDS, fit_score_map
from models.evaluation.metrics.all_pairs import add_incomplete, assign_folds, compare_all
from models.evaluation.metrics.operating_points import (
    RATES,
    bound_beyond,
    operating_points,
    point_name,
    require_points,
)
from models.evaluation.metrics.pair_scores import distribution_of
from models.evaluation.model import EvaluatedModel
from models.evaluation.sets.user_pictures import PictureSet
from models.quality import QualityScale
from models.quality.geometry import measured_range
from models.quality.norm import norm_statistics


def calibrate(
    model: EvaluatedModel,
    pictures: PictureSet,
    policy: FacePolicy,
    default: str | None = None,
    rates: Sequence[float] = RATES,
) -> tuple[Calibration, FaceTable]:
    """Measure a calibration.

    Args:
        model: The model to calibrate.
        pictures: Pictures and their subjects.
        policy: Which face of a photo is used; not `all`.
        default: Name of the default operating point. If None, the operating point with an FMR of 1e-4, or else the one
            with the next higher FMR.
        rates: False match rates of the operating points.

    Returns:
        The calibration, and the faces of all pictures.

    Raises:
        SetIncomplete: Too many pictures are missing.
        SingleClass: The pictures have no mated, or no non-mated, pairs.
        TooFewSubjects: The pictures have fewer than two subjects for each fold.
        TooManyPairs: The pictures have too many mated pairs.
        CalibrationUnfit: The pictures support no operating point, or not the default one.
    """
    if default is not None and default not in map(point_name, rates):  # before the pictures are embedded
        names = ", ".join(map(point_name, rates))
        raise CalibrationUnfit(f"unknown operating point {default}; possible points: {names}")
    assign_folds(pictures.numbers(), FOLDS)  # raises TooFewSubjects before the pictures are embedded
    all_faces = model.embed(model.photos(policy), pictures.pictures, pictures.name)
    missing = sum(failure.code == ImageMissing.code for failure in all_faces.failures)
    present = len(all_faces.names) - missing
    faces, acquired = all_faces.where(all_faces.found), pictures.where(all_faces.found)
    subjects = acquired.numbers()
    folds = assign_folds(subjects, FOLDS)
    pairs = compare_all(faces.embedding, subjects, folds, model.progress)
    pairs = add_incomplete(pairs, pictures.where(all_faces.present).numbers())
    measured_on = (
        f"{pictures.name}: {len(faces.names):,} pictures of {len(set(acquired.subjects)):,} subjects, "
        f"{pairs.non_mated.count:,} non-mated and {len(pairs.mated.scores):,} mated pairs"
    )
    points = operating_points(pairs, measured_on, rates, progress=model.progress)
    require_points(points, pairs)
    chosen = _choose_default(points, default)
    assert pairs.by_fold is not None  # because `compare_all` received folds
    calibration = Calibration(
        contract_id=model.models.contract_id,
        default=chosen.name,
        points=tuple(points),
        bound=bound_beyond(pairs),
        score_map=fit_score_map(pairs.by_fold, measured_on),
        quality=measure_quality(model, faces, acquired, policy, chosen.threshold),
        conditions=model.conditions(
            face_policy=policy,
            pictures=present,
            failure_to_acquire=(len(all_faces.failures) - missing) / max(1, present),
            subjects=len(set(acquired.subjects)),
            mated=len(pairs.mated.scores),
            non_mated=pairs.non_mated.count,
        ),
        distribution=distribution_of(pairs),
    )
    return calibration, all_faces


def measure_quality(
    model: EvaluatedModel, faces: FaceTable, pictures: PictureSet, policy: FacePolicy, threshold: float
) -> QualityScale:
    """Choose the norm statistics and validate that quality predicts errors."""
    from_checkpoint = model.models.recognizer.single_view_statistics
    statistics = from_checkpoint or norm_statistics(faces.norms[:, 0])
    comparisons = compare_degraded(model, _one_pair_each(pictures), policy, statistics)
    verdict = validate_quality(comparisons, threshold)
    return QualityScale(
        statistics=statistics,
        source="checkpoint" if from_checkpoint else "measured",
        validated=verdict.because is None,
        because=verdict.because,
        evidence=verdict.evidence,
        seen=measured_range(faces.geometry),
    )


def _one_pair_each(pictures: PictureSet) -> list[tuple[Picture, Picture]]:
    """Return the first two pictures of at most `MAX_SUBJECTS` subjects, spread evenly over those with two pictures."""
    by_subject: dict[str, list[Picture]] = defaultdict(list)
    for picture, subject in zip(pictures.pictures, pictures.subjects, strict=True):
        by_subject[subject].append(picture)
    pairs = [(found[0], found[1]) for found in by_subject.values() if len(found) > 1]
    spread = np.linspace(0, len(pairs) - 1, min(len(pairs), MAX_SUBJECTS)).astype(int)
    return [pairs[index] for index in spread]


def _choose_default(points: Sequence[OperatingPoint], name: str | None) -> OperatingPoint:
    if name is None:
        return next((point for point in reversed(points) if point.rate >= DEFAULT_RATE), points[0])
    for point in points:
        if point.name == name:
            return point
    names = ", ".join(point.name for point in points)
    raise CalibrationUnfit(f"{name} cannot be the default: the data supports {names}")
