"""Evaluation on the `.bin` sets of insightface, computed exactly as in its official code.

The image and its mirror image are embedded, and their embeddings are added before normalisation
(`eval/verification.py` of arcface_torch). An artefact exported with `--mirror` adds both views itself, so it receives
the image alone.
"""

from pathlib import Path

import numpy as np

from models.errors import SetIncomplete
from models.evaluation.acquire.acquisition import FromCrops
from models.evaluation.metrics.pair_scores import listed_pairs
from models.evaluation.metrics.verification import folded_rates, squared_distances, ten_fold_accuracy, validation_rate
from models.evaluation.model import EvaluatedModel
from models.evaluation.reports.document import Evaluation, Figure, Table
from models.evaluation.reports.sections import (
    add_accuracy,
    add_acquisition,
    add_discard,
    add_duplicates,
    add_error_rates,
    add_mistakes,
)
from models.evaluation.sets.bin_file import read_bin


def evaluate_bin(model: EvaluatedModel, path: Path) -> Evaluation:
    """Evaluate a model on a `.bin` set.

    Raises:
        SetUnreadable: The file cannot be read as a `.bin` set.
        SetUnsafe: The file attempts to run code.
        SetIncomplete: Too many images cannot be read.
        SingleClass: The set has no mated, or no non-mated, pairs.
        TooFewSubjects: The set has fewer pairs than folds.
    """
    found = read_bin(path)
    faces = model.embed(FromCrops(model.template), found.pictures, found.name, mirror=not model.has_mirror)
    if len(faces.failures) > model.max_missing:
        first = faces.failures[0]
        raise SetIncomplete(
            f"{len(faces.failures):,} images of {path.name} cannot be read; the first is {first.name}: {first.reason}"
        )
    mated = found.mated
    acquired = faces.found[::2] & faces.found[1::2]
    distance = squared_distances(faces.embedding[::2], faces.embedding[1::2])
    if not faces.found.any():
        raise SetIncomplete(f"no image of {path.name} can be read; the first is {faces.names[0]}")
    xnorm = float(faces.norms[faces.found].mean())

    evaluation = Evaluation("bin", found.name, model.conditions(views=1 + (not model.has_mirror)))
    add_accuracy(evaluation, ten_fold_accuracy(distance, mated, acquired))
    rate = validation_rate(distance, mated, acquired=acquired)
    evaluation.figures += [
        Figure("xnorm", xnorm, f"XNorm {xnorm:.4f}"),
        Figure("val", rate.val, f"VAL {rate.val:.2%} at FAR {rate.far:.2g} (threshold: FAR 1e-3 on the other folds)"),
    ]
    rates = folded_rates(distance, mated, acquired)
    rows = [(float(limit), float(true), float(false)) for limit, true, false in zip(*rates, strict=True)]
    columns = ("squared distance", "mated", "non-mated")
    title = "Proportion of pairs accepted below a squared distance, mean over the folds"
    evaluation.tables.append(Table("folded_rates", title, columns, [*rows], detail=True, anonymous=True))
    add_acquisition(evaluation, faces.names, faces.failures)
    indices = np.arange(len(faces.names), dtype=np.int32)
    similarity = np.where(acquired, 1 - distance / 2, np.nan).astype(np.float32)
    scores = listed_pairs(similarity, mated, indices[::2], indices[1::2])
    points = add_error_rates(evaluation, scores, found.name)
    add_discard(evaluation, scores, faces.norms[:, 0], points)
    add_mistakes(evaluation, scores, faces.names)
    add_duplicates(evaluation, faces.names, faces.contents, None)
    return evaluation
