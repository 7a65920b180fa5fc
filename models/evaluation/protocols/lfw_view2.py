"""LFW View 2, end to end from photos.

See `models.evaluation.sets.lfw` for the set. The photos were cropped around the person whose name they bear, hence the
policy `central`.
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
from models.evaluation.sets.own import read_cohorts

POLICY: FacePolicy = "central"


def evaluate_lfw_view2(
    model: EvaluatedModel, lfw: Path, policy: FacePolicy = POLICY, cohorts: Path | None = None
) -> Evaluation:
    """Run the protocol.

    Args:
        model: What serves.
        lfw: Directory with `pairs.txt` and `images/`.
        policy: Which face of a photo is meant; not `all`.
        cohorts: CSV of cohorts by image or subject.

    Raises:
        SetUnreadable, SetIncomplete, OneClassOnly, TooFewSubjects: The set cannot be used.
    """
    pairs = read_pairs(lfw / "pairs.txt")
    names = photos(pairs)
    pictures = [Picture(name, lfw / "images" / name) for name in names]
    faces = model.embed(model.photos(policy), pictures, "LFW View 2")
    place = {name: number for number, name in enumerate(names)}
    first = np.array([place[pair.first] for pair in pairs], np.int32)
    second = np.array([place[pair.second] for pair in pairs], np.int32)
    mated = np.array([pair.mated for pair in pairs])
    acquired = faces.found[first] & faces.found[second]
    similarity = np.where(acquired, np.einsum("ij,ij->i", faces.embedding[first], faces.embedding[second]), np.nan)
    owners = [name.partition("/")[0] for name in names]
    subjects = np.unique(owners, return_inverse=True)[1].astype(np.int64)

    evaluation = Evaluation("lfw_view2", "LFW View 2", model.conditions(face_policy=policy))
    add_accuracy(evaluation, ten_fold_accuracy(distances_of(similarity), mated, acquired))
    add_acquisition(evaluation, names, faces.failures)
    scores = listed_pairs(similarity.astype(np.float32), mated, first, second, subjects)
    points = add_error_rates(evaluation, scores, "LFW View 2")
    add_discard(evaluation, scores, faces.norms[:, 0], points)
    if cohorts is not None:
        add_cohorts(evaluation, scores, faces, read_cohorts(cohorts, names, owners), points)
    add_mistakes(evaluation, scores, names)
    add_duplicates(evaluation, faces.names, faces.contents, owners)
    evaluation.notes.append(
        "A pair of which a face was not acquired is an error of the accuracy, and a false non-match. LFW is easy: "
        "press photos of celebrities. On other data the same threshold has another rate."
    )
    return evaluation
