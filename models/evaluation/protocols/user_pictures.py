"""Evaluation on the user's own pictures: all pairs of a set, listed pairs, and a gallery with probes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.detection.policy import FacePolicy
from models.evaluation.acquire.pictures import FaceTable
from models.evaluation.metrics.all_pairs import add_incomplete, compare_all, similarities
from models.evaluation.metrics.identification import Identification, search
from models.evaluation.metrics.pair_scores import Floats, Indices, PairScores, listed_pairs
from models.evaluation.metrics.sampling import sample_pairs
from models.evaluation.model import EvaluatedModel
from models.evaluation.reports.cohorts import add_cohorts
from models.evaluation.reports.document import Chart, Evaluation, Figure, NamingNote, Series, Table
from models.evaluation.reports.sections import (
    add_acquisition,
    add_discard,
    add_duplicates,
    add_error_rates,
    add_mistakes,
    add_reading,
)
from models.evaluation.sets.user_pictures import PairSet, PictureSet, read_cohorts, remarks_on_strangers


def evaluate_pictures(
    model: EvaluatedModel,
    pictures: PictureSet,
    policy: FacePolicy,
    sample: int | None = None,
    seed: int = 0,
    cohorts: Path | None = None,
) -> Evaluation:
    """Evaluate a model on all pairs of pictures, or on a sample of them.

    Args:
        model: The model to evaluate.
        pictures: Pictures and their subjects.
        policy: Which face of a photo is used; not `all`.
        sample: Number of mated and of non-mated pairs to draw; None compares all pairs.
        seed: Seed of the sample.
        cohorts: CSV file of cohorts by image or subject.

    Raises:
        SetUnreadable: The CSV file is missing or malformed.
        SetIncomplete: Too many pictures are missing.
        SingleClass: The set has no mated, or no non-mated, pairs.
        TooManyPairs: The set has too many mated pairs.
    """
    all_faces = model.embed(model.photos(policy), pictures.pictures, pictures.name)
    attempted = pictures.where(all_faces.present)
    chosen = all_faces.found if sample is None else all_faces.present
    faces, owned = all_faces.where(chosen), pictures.where(chosen)
    scores = compare_pictures(faces, owned, sample, seed)
    if sample is None:
        scores = add_incomplete(scores, attempted.numbers())
    evaluation = Evaluation(
        "pictures", pictures.name, model.conditions(face_policy=policy, pairs=sample or "all", seed=seed)
    )
    subjects = len(set(pictures.where(all_faces.found).subjects))
    evaluation.figures.append(Figure("subjects", subjects, f"{subjects:,} subjects"))
    add_acquisition(evaluation, all_faces.names, all_faces.failures)
    _add_error_sections(evaluation, faces, scores, owned.subjects, cohorts)
    add_reading(evaluation, pictures, all_faces.found)
    return evaluation


def compare_pictures(faces: FaceTable, pictures: PictureSet, sample: int | None = None, seed: int = 0) -> PairScores:
    """Compare all pairs of pictures, each of which must have a face, or a sample of the pairs.

    Raises:
        SingleClass: The pictures have no mated, or no non-mated, pairs.
        TooManyPairs: The pictures have too many mated pairs.
    """
    subjects = pictures.numbers()
    if sample is None:
        return compare_all(faces.embedding, subjects)
    first, second, mated = sample_pairs(subjects, sample, seed)
    return listed_pairs(_similarities(faces, first, second), mated, first, second, subjects)


def evaluate_pairs(
    model: EvaluatedModel, pairs: PairSet, policy: FacePolicy, cohorts: Path | None = None
) -> Evaluation:
    """Evaluate a model on listed pairs.

    Raises:
        SetUnreadable: The CSV file of cohorts is missing or malformed.
        SetIncomplete: Too many pictures are missing.
        SingleClass: The list has no mated, or no non-mated, pairs.
    """
    faces = model.embed(model.photos(policy), pairs.pictures, pairs.name)
    present = faces.present[pairs.first] & faces.present[pairs.second]
    similarity = _similarities(faces, pairs.first, pairs.second)
    evaluation = Evaluation("pairs", pairs.name, model.conditions(face_policy=policy))
    evaluation.notes.extend(pairs.notes)
    scores = listed_pairs(similarity, pairs.mated, pairs.first, pairs.second, present=present)
    add_acquisition(evaluation, faces.names, faces.failures)
    _add_error_sections(evaluation, faces, scores, None, cohorts)
    return evaluation


def _similarities(faces: FaceTable, first: Indices, second: Indices) -> Floats:
    """Return the similarities of pairs; NaN if a face was not acquired."""
    acquired = faces.found[first] & faces.found[second]
    return np.where(acquired, similarities(faces.embedding, first, second), np.float32(np.nan))


def evaluate_search(model: EvaluatedModel, gallery: PictureSet, probes: PictureSet, policy: FacePolicy) -> Evaluation:
    """Evaluate a model on open-set identification of probes in a gallery.

    A subject of whose pictures none has a face failed to enrol; its probes are mated and count as misses. A missing
    file was not attempted: a probe without its file, or of a subject of whom all files in the gallery are missing, is
    left out.

    Raises:
        SetIncomplete: Too many pictures of the gallery, or of the probes, are missing.
        SingleClass: The gallery has no subject of a probe, or no picture of it has a face.
    """
    enrolled = model.embed(model.photos(policy), gallery.pictures, "gallery")
    probed = model.embed(model.photos(policy), probes.pictures, "probes")
    numbers = np.unique([*gallery.subjects, *probes.subjects], return_inverse=True)[1].astype(np.int64)
    of_gallery, of_probes = np.split(numbers, [len(gallery.subjects)])
    attempted = np.unique(of_gallery[enrolled.present])
    absent = np.setdiff1d(of_gallery, attempted)
    searched = probed.present & ~np.isin(of_probes, absent)
    found = search(
        enrolled.embedding[enrolled.present],
        of_gallery[enrolled.present],
        probed.embedding[searched],
        of_probes[searched],
        model.progress,
    )
    title = f"{probes.name} in {gallery.name}"
    evaluation = Evaluation("search", title, model.conditions(face_policy=policy))
    templates = of_gallery[enrolled.found]
    evaluation.figures += _enrolment(np.isin(attempted, templates), len(templates))
    left_out = len(of_probes) - int(searched.sum())
    evaluation.figures += [
        Figure("mated", found.mated, f"{found.mated:,} mated probes"),
        Figure(
            "mated_not_enrolled", found.unenrolled, _if_any(found.unenrolled, "of them are of subjects not enrolled")
        ),
        Figure("non_mated", found.non_mated, f"{found.non_mated:,} non-mated probes"),
        Figure("left_out", left_out, _if_any(left_out, "probes left out, because files are missing")),
        *(
            Figure(f"rank_{rank}", share, f"rank {rank}: {share:.2%} of mated probes")
            for rank, share in found.ranks.items()
        ),
    ]
    add_acquisition(evaluation, [*enrolled.names, *probed.names], [*enrolled.failures, *probed.failures])
    rows = [(rate.fpir, rate.threshold, rate.errors, 1 - rate.tpir, rate.tpir) for rate in found.rates]
    note = (
        "A rate with fewer than 30 false positives is not reliable. "
        "A hit is at rank 1 with a similarity at or above the threshold. "
        "FNIR and FPIR are over all probes, as in ISO/IEC 19795-1: a mated probe without a face, or of a subject who "
        "failed to enrol, is a miss; a non-mated probe without a face has no candidate."
    )
    columns = ("FPIR", "threshold", "false positives", "FNIR", "TPIR")
    evaluation.tables.append(Table("rates", "Open-set identification", columns, [*rows], note, anonymous=True))
    evaluation.charts += _search_curve(found)
    add_duplicates(
        evaluation,
        [*enrolled.names, *probed.names],
        [*enrolled.contents, *probed.contents],
        [*gallery.subjects, *probes.subjects],
    )
    add_reading(evaluation, gallery, enrolled.found)
    add_reading(evaluation, probes, probed.found)
    evaluation.notes += map(NamingNote, remarks_on_strangers(gallery, probes))
    return evaluation


def _enrolment(enrolled: NDArray[np.bool_], templates: int) -> list[Figure]:
    """Return the figures of enrolment, given which of the attempted subjects were enrolled and by how many pictures."""
    count, failed = int(enrolled.sum()), int((~enrolled).sum())
    rate = failed / len(enrolled)
    text = f"failure to enrol: {failed:,} of {len(enrolled):,} subjects (FTE {rate:.2%})"
    return [
        Figure("enrolled", count, f"{count:,} subjects enrolled by {templates:,} pictures"),
        Figure("failure_to_enrol", rate, text),
    ]


def _if_any(count: int, what: str) -> str:
    return f"{count:,} {what}" if count else ""


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
        add_cohorts(evaluation, scores, faces, read_cohorts(cohorts, faces.names, subjects), points)
    add_mistakes(evaluation, scores, faces.names)
    add_duplicates(evaluation, faces.names, faces.contents, subjects)


def _search_curve(found: Identification) -> list[Chart]:
    """Return the chart of FNIR over FPIR; no chart without a non-mated probe or a miss.

    The thresholds are the highest similarities of the non-mated probes.
    """
    thresholds = np.sort(found.best_other)[::-1]
    fpir = np.arange(1, len(thresholds) + 1) / len(thresholds)
    hits = np.sort(found.own[found.place == 0])
    fnir = 1 - (len(hits) - np.searchsorted(hits, thresholds)) / found.mated
    drawn = fnir > 0
    if not drawn.any():
        return []
    curve = Chart(
        "open_set",
        "Open-set identification",
        "false positive identification rate (FPIR)",
        "false negative identification rate (FNIR)",
        [Series("", fpir[drawn].tolist(), fnir[drawn].tolist())],
        log_x=True,
        log_y=True,
    )
    return [curve]
