"""Evaluation on LFW View 2, end to end from photos.

`models.evaluation.sets.lfw` describes the set. Each photo is cropped around the person it is named after, so the face
policy is `central`.
"""

from pathlib import Path

import numpy as np

from models.detection.policy import FacePolicy
from models.evaluation.acquire.pictures import Picture
from models.evaluation.metrics.pair_scores import listed_pairs
from models.evaluation.metrics.verification import distances_of, ten_fold_accuracy
from models.evaluation.model import EvaluatedModel
from models.evaluation.reports.cohorts import add_cohorts
from models.evaluation.reports.document import Evaluation
from models.evaluation.reports.sections import (
    add_accuracy,
    add_acquisition,
    add_discard,
    add_duplicates,
    add_error_rates,
    add_mistakes,
)
from models.evaluation.sets.lfw import photos, read_pairs
from models.evaluation.sets.user_pictures import read_cohorts

POLICY: FacePolicy = "central"


def evaluate_lfw_view2(
    model: EvaluatedModel, lfw: Path, policy: FacePolicy = POLICY, cohorts: Path | None = None
) -> Evaluation:
    """Evaluate a model on LFW View 2.

    Args:
        model: The model to evaluate.
        lfw: Directory with `pairs.txt` and `images/`.
        policy: Which face of a photo is used; not `all`.
        cohorts: CSV file of cohorts by image or subject.

    Raises:
        SetUnreadable: `pairs.txt` or the CSV file is missing or malformed.
        SetIncomplete: Too many photos are missing.
        SingleClass: The set has no mated, or no non-mated, pairs.
        TooFewSubjects: The set has fewer pairs than folds.
    """
    pairs = read_pairs(lfw / "pairs.txt")
    names = photos(pairs)
    pictures = [Picture(name, lfw / "images" / name) for name in names]
    faces = model.embed(model.photos(policy), pictures, "LFW View 2")
    index = {name: number for number, name in enumerate(names)}
    first = np.array([index[pair.first] for pair in pairs], np.int32)
    second = np.array([index[pair.second] for pair in pairs], np.int32)
    mated = np.array([pair.mated for pair in pairs])
    acquired, present = faces.found[first] & faces.found[second], faces.present[first] & faces.present[second]
    similarity = np.where(acquired, np.einsum("ij,ij->i", faces.embedding[first], faces.embedding[second]), np.nan)
    owners = [name.partition("/")[0] for name in names]
    subjects = np.unique(owners, return_inverse=True)[1].astype(np.int64)

    evaluation = Evaluation("lfw_view2", "LFW View 2", model.conditions(face_policy=policy))
    add_accuracy(evaluation, ten_fold_accuracy(distances_of(similarity)[present], mated[present], acquired[present]))
    add_acquisition(evaluation, names, faces.failures)
    scores = listed_pairs(similarity.astype(np.float32), mated, first, second, subjects, present)
    points = add_error_rates(evaluation, scores, "LFW View 2")
    add_discard(evaluation, scores, faces.norms[:, 0], points)
    if cohorts is not None:
        add_cohorts(evaluation, scores, faces, read_cohorts(cohorts, names, owners), points)
    add_mistakes(evaluation, scores, names)
    add_duplicates(evaluation, faces.names, faces.contents, owners)
    evaluation.notes.append(
        "A pair with a face that was not acquired counts as an error of the accuracy; one with a missing file is left "
        "out. LFW consists of press photos of "
        "celebrities and is easy. On other data the same threshold has different error rates."
    )
    return evaluation
