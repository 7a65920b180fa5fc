"""The user's own pictures: every pair of a folder set, listed pairs, and a gallery with probes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.detection.policy import FacePolicy
from models.evaluation.acquire.pictures import FaceTable
from models.evaluation.metrics.all_pairs import compare_all, sample_pairs, similarities
from models.evaluation.metrics.identification import Identification, search
from models.evaluation.metrics.pair_scores import PairScores, listed_pairs
from models.evaluation.model import EvaluatedModel
from models.evaluation.reports.cohorts import add_cohorts
from models.evaluation.reports.document import Chart, Evaluation, Figure, Series, Table
from models.evaluation.reports.sections import (
    add_acquisition,
    add_discard,
    add_duplicates,
    add_error_rates,
    add_mistakes,
)
from models.evaluation.sets.own import PairSet, PictureSet, read_cohorts


def evaluate_pictures(
    model: EvaluatedModel,
    pictures: PictureSet,
    policy: FacePolicy,
    sample: int | None = None,
    seed: int = 0,
    cohorts: Path | None = None,
) -> Evaluation:
    """Compare every picture with every other one, or a sample of the pairs.

    Args:
        model: What serves.
        pictures: With their subjects.
        policy: Which face of a photo is meant; not `all`.
        sample: How many pairs of each kind; all if not given.
        seed: Of the sample.
        cohorts: CSV of cohorts by image or subject.

    Raises:
        SetUnreadable, SetIncomplete, OneClassOnly, TooManyPairs: The set cannot be used.
    """
    everything = model.embed(model.photos(policy), pictures.pictures, pictures.name)
    faces, known = everything.where(everything.found), pictures.where(everything.found)
    scores = compare_pictures(faces, known, sample, seed)
    evaluation = Evaluation(
        "pictures", pictures.name, model.conditions(face_policy=policy, pairs=sample or "all", seed=seed)
    )
    subjects = len(set(known.subjects))
    evaluation.figures.append(Figure("subjects", subjects, f"{subjects:,} subjects"))
    add_acquisition(evaluation, everything.names, everything.failures)
    _add_error_sections(evaluation, faces, scores, known.subjects, cohorts)
    evaluation.notes.append(
        "Pictures without a face are in no pair: their share is the failure to acquire, which comes on top of FNMR."
    )
    return evaluation


def compare_pictures(faces: FaceTable, pictures: PictureSet, sample: int | None = None, seed: int = 0) -> PairScores:
    """Compare pictures that all have a face.

    Raises:
        OneClassOnly, TooManyPairs: They cannot be used.
    """
    subjects = pictures.numbers()
    if sample is None:
        return compare_all(faces.embedding, subjects)
    first, second, mated = sample_pairs(subjects, sample, seed)
    return listed_pairs(similarities(faces.embedding, first, second), mated, first, second, subjects)


def evaluate_pairs(
    model: EvaluatedModel, pairs: PairSet, policy: FacePolicy, cohorts: Path | None = None
) -> Evaluation:
    """Compare listed pairs; one of which a face was not acquired is a false non-match if it is mated.

    Raises:
        SetUnreadable, SetIncomplete, OneClassOnly: The set cannot be used.
    """
    faces = model.embed(model.photos(policy), pairs.pictures, pairs.name)
    acquired = faces.found[pairs.first] & faces.found[pairs.second]
    similarity = np.where(acquired, similarities(faces.embedding, pairs.first, pairs.second), np.float32(np.nan))
    evaluation = Evaluation("pairs", pairs.name, model.conditions(face_policy=policy))
    scores = listed_pairs(similarity, pairs.mated, pairs.first, pairs.second)
    add_acquisition(evaluation, faces.names, faces.failures)
    _add_error_sections(evaluation, faces, scores, None, cohorts)
    return evaluation


def evaluate_search(model: EvaluatedModel, gallery: PictureSet, probes: PictureSet, policy: FacePolicy) -> Evaluation:
    """Enrol a gallery and search probes in it, open set.

    Raises:
        SetIncomplete, OneClassOnly: The sets cannot be used.
    """
    enrolled = model.embed(model.photos(policy), gallery.pictures, "gallery")
    probed = model.embed(model.photos(policy), probes.pictures, "probes")
    numbers = np.unique([*gallery.subjects, *probes.subjects], return_inverse=True)[1].astype(np.int64)
    of_gallery, of_probes = np.split(numbers, [len(gallery.subjects)])
    kept = enrolled.found
    found = search(
        enrolled.embedding[kept],
        of_gallery[kept],
        probed.embedding,
        of_probes,
        model.progress,
    )
    title = f"{probes.name} in {gallery.name}"
    evaluation = Evaluation("search", title, model.conditions(face_policy=policy))
    enrolments = len(set(of_gallery[kept].tolist()))
    evaluation.figures += [
        Figure("enrolled", enrolments, f"{enrolments:,} subjects enrolled by {int(kept.sum()):,} pictures"),
        Figure("mated", found.mated, f"{found.mated:,} mated probes"),
        Figure("non_mated", found.non_mated, f"{found.non_mated:,} non-mated probes"),
        *(
            Figure(f"rank_{rank}", share, f"rank {rank}: {share:.2%} of mated probes")
            for rank, share in found.ranks.items()
        ),
    ]
    add_acquisition(evaluation, [*enrolled.names, *probed.names], [*enrolled.failures, *probed.failures])
    rows = [(rate.fpir, rate.threshold, rate.errors, 1 - rate.tpir, rate.tpir) for rate in found.rates]
    note = "A rate that rests on fewer than 30 non-mated probes is a guess. Rank 1 and above the threshold is a hit."
    columns = ("FPIR", "threshold", "errors", "FNIR", "TPIR")
    evaluation.tables.append(Table("rates", "Open-set identification", columns, [*rows], note))
    evaluation.charts += _search_curve(found)
    add_duplicates(
        evaluation,
        [*enrolled.names, *probed.names],
        [*enrolled.contents, *probed.contents],
        [*gallery.subjects, *probes.subjects],
    )
    return evaluation


def _add_error_sections(
    evaluation: Evaluation,
    faces: FaceTable,
    scores: PairScores,
    subjects: Sequence[str] | None,
    cohorts: Path | None,
) -> None:
    points = add_error_rates(evaluation, scores, evaluation.title)
    add_discard(evaluation, scores, faces.norms[:, 0], points)
    if cohorts is not None:
        ways = read_cohorts(cohorts, faces.names, subjects)
        add_cohorts(evaluation, scores, faces, ways, points)
    add_mistakes(evaluation, scores, faces.names)
    add_duplicates(evaluation, faces.names, faces.contents, subjects)


def _search_curve(found: Identification) -> list[Chart]:
    """Draw FNIR over FPIR at the similarities that strangers reached; nothing where there were none, or no misses."""
    thresholds = np.sort(found.best_other)[::-1]
    wrong = np.arange(1, len(thresholds) + 1) / len(thresholds)
    hits = np.sort(found.own[found.place == 0])
    missed = 1 - (len(hits) - np.searchsorted(hits, thresholds)) / found.mated
    drawn = missed > 0
    if not drawn.any():
        return []
    curve = Chart(
        "open_set",
        "Open-set identification",
        "false positive identification rate (FPIR)",
        "false negative identification rate (FNIR)",
        [Series("", wrong[drawn].tolist(), missed[drawn].tolist())],
        log_x=True,
        log_y=True,
    )
    return [curve]
