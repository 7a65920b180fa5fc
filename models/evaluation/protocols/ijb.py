"""Evaluation on IJB-B and IJB-C, 1:1 and 1:N, with templates built as in either official project.

The variant `insightface` (`eval_ijbc.py`) weights an image by its norm times the detector's score. The variant
`adaface` (`validate_IJB_BC.py` with its default) weights it by its norm alone. Both embed the mirror image as well. The
official projects also differ in colour order, RGB against BGR. Here the graph of an artefact takes RGB and converts it
to the order that the network was trained on.
"""

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import SetIncomplete
from models.evaluation.acquire.acquisition import FromLandmarks
from models.evaluation.acquire.embedding_cache import CachedFailure
from models.evaluation.acquire.embedding_run import Group, add_views
from models.evaluation.acquire.pictures import Failure, require_present
from models.evaluation.metrics.identification import search, search_ijb_protocol
from models.evaluation.metrics.pair_scores import listed_pairs
from models.evaluation.metrics.roc import roc_curve, tar_at_far
from models.evaluation.metrics.templates import TemplateBuilder, score_pairs
from models.evaluation.model import EvaluatedModel
from models.evaluation.reports.document import Evaluation, Figure, Table
from models.evaluation.reports.sections import add_acquisition, add_error_rates
from models.evaluation.sets.ijb import (
    IjbImages,
    IjbName,
    TemplateList,
    read_galleries,
    read_images,
    read_probes,
    read_template_pairs,
)

Variant = Literal["insightface", "adaface"]


class Templates(NamedTuple):
    """Templates of a set.

    Attributes:
        builder: Maps template ids to rows of `vectors`.
        vectors: (T, D) float32 of length 1; zero for a template without a usable image.
        failures: Images that could not be embedded.
        images: Names of all images.
    """

    builder: TemplateBuilder
    vectors: NDArray[np.float32]
    failures: list[Failure]
    images: list[str]

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Whether each template has an image that could be embedded."""
        return np.asarray(self.vectors.any(axis=1), np.bool_)

    def of(self, templates: NDArray[np.int64], what: str) -> NDArray[np.int64]:
        """Return the rows of `vectors` for template ids.

        Args:
            templates: (N,) template ids.
            what: Name of the list of templates, for the error.

        Raises:
            SetIncomplete: A template has no image.
        """
        rows = self.builder.places(templates)
        absent = rows < 0
        if absent.any():
            raise SetIncomplete(
                f"{int(absent.sum()):,} templates of the {what} have no image; the first is {templates[absent][0]}"
            )
        return rows


def build_templates(model: EvaluatedModel, images: IjbImages, variant: Variant) -> Templates:
    """Embed all images and build templates from them, group by group.

    Raises:
        SetIncomplete: Too many images are missing.
    """
    require_present(images.pictures, model.max_missing)
    builder = TemplateBuilder(images.templates, images.media)
    failures: list[Failure] = []
    with model.run(FromLandmarks(model.template), mirror=not model.has_mirror) as run:
        for group in run.groups(images.pictures, "images", model.progress):
            _add_group(builder, group, images, variant, failures)
    return Templates(builder, builder.finish(), failures, [picture.name for picture in images.pictures])


def _add_group(
    builder: TemplateBuilder, group: Group, images: IjbImages, variant: Variant, failures: list[Failure]
) -> None:
    indices, features = [], []
    for index, outcome in enumerate(group.outcomes, start=group.start):
        if isinstance(outcome, CachedFailure):
            failures.append(Failure(images.pictures[index].name, outcome.code, outcome.reason))
            continue
        unit, length = add_views(outcome)
        indices.append(index)
        features.append(unit * length * (float(images.scores[index]) if variant == "insightface" else 1.0))
    if indices:
        builder.add(np.array(indices), np.stack(features))


def evaluate_ijb_11(model: EvaluatedModel, directory: Path, name: IjbName, variant: Variant) -> Evaluation:
    """Evaluate a model on the 1:1 verification protocol.

    Raises:
        SetUnreadable: A list of the set is missing or malformed.
        SetIncomplete: Too many images are missing, or a template has no image.
        SingleClass: The set has no mated, or no non-mated, pairs.
    """
    images, pairs = read_images(directory, name), read_template_pairs(directory, name)
    templates = build_templates(model, images, variant)
    evaluation = Evaluation("ijb_11", f"{_title(name)} 1:1, {variant}", model.conditions(variant=variant))
    add_acquisition(evaluation, templates.images, templates.failures)
    first, second = templates.of(pairs.first, "pairs"), templates.of(pairs.second, "pairs")
    completed = templates.usable[first] & templates.usable[second]
    add_verification(evaluation, score_pairs(templates.vectors, first, second), pairs.mated, first, second, completed)
    return evaluation


def add_verification(
    evaluation: Evaluation,
    scores: NDArray[np.float32],
    mated: NDArray[np.bool_],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    completed: NDArray[np.bool_] | None = None,
) -> None:
    """Add TAR at FAR as in the official code, and the error rates of ISO/IEC 19795-1.

    Args:
        evaluation: The evaluation to add to.
        scores: (P,) float32, similarities; 0 with a template without a usable image, as in the official code.
        mated: (P,) bool, whether a pair is mated.
        first: (P,) int64, first template of each pair.
        second: (P,) int64, second template of each pair.
        completed: (P,) bool, whether both templates of a pair have a usable image; None means all.
    """
    read = tar_at_far(*roc_curve(scores, mated))
    evaluation.figures += [
        Figure(f"tar_at_far_{point.target:.0e}", point.tar, f"TAR {point.tar:.2%} at FAR {point.target:.0e}")
        for point in read
    ]
    rows = [(point.target, point.tar, point.far) for point in read]
    note = "The ROC point whose FAR is nearest to the target, as in the official code. Its FAR may be higher."
    evaluation.tables.append(
        Table("tar_at_far", "TAR at FAR", ("target FAR", "TAR", "measured FAR"), [*rows], note, anonymous=True)
    )
    similarity = scores if completed is None else np.where(completed, scores, np.float32(np.nan))
    pairs = listed_pairs(similarity, mated, first.astype(np.int32), second.astype(np.int32))
    add_error_rates(evaluation, pairs, evaluation.title)


def evaluate_ijb_1n(model: EvaluatedModel, directory: Path, name: IjbName, variant: Variant) -> Evaluation:
    """Evaluate a model on 1:N identification with the mixed probes.

    Rates are counted as in the official code, with both galleries, and as open-set identification with each gallery
    alone.

    Raises:
        SetUnreadable: A list of the set is missing or malformed, or a subject has several gallery templates.
        SetIncomplete: Too many images are missing, or a template has no image.
        SingleClass: The galleries lack the subject of a probe, or one gallery lacks the subjects of all probes.
    """
    galleries, probes = read_galleries(directory, name), read_probes(directory, name)
    templates = build_templates(model, read_images(directory, name), variant)
    evaluation = Evaluation("ijb_1n", f"{_title(name)} 1:N, {variant}", model.conditions(variant=variant))
    add_acquisition(evaluation, templates.images, templates.failures)
    add_identification(evaluation, templates, galleries, probes)
    return evaluation


def add_identification(
    evaluation: Evaluation, templates: Templates, galleries: list[TemplateList], probes: TemplateList
) -> None:
    """Add rank rates as in the official code, and TPIR at FPIR by the official and the ISO/IEC 19795-1 definition.

    Raises:
        SetUnreadable: A subject has several gallery templates.
        SetIncomplete: A template has no image.
        SingleClass: The galleries lack the subject of a probe, or one gallery lacks the subjects of all probes.
    """
    probed = templates.vectors[templates.of(probes.templates, "probes")]
    enrolled = [templates.vectors[templates.of(gallery.templates, "galleries")] for gallery in galleries]
    subjects = [gallery.subjects for gallery in galleries]
    ranks, rates = search_ijb_protocol(np.concatenate(enrolled), np.concatenate(subjects), probed, probes.subjects)
    evaluation.figures += [Figure(f"rank_{rank}", share, f"rank {rank}: {share:.2%}") for rank, share in ranks.items()]
    evaluation.figures += [
        Figure(f"tpir_at_fpir_{rate.fpir:g}", rate.tpir, f"TPIR {rate.tpir:.2%} at FPIR {rate.fpir:g} (official)")
        for rate in rates
    ]
    rows = [("both (official)", rate.fpir, rate.tpir, rate.threshold, rate.errors) for rate in rates]
    for number, (vectors, enrolled_subjects) in enumerate(zip(enrolled, subjects, strict=True), start=1):
        found = search(vectors, enrolled_subjects, probed, probes.subjects)
        rows += [(f"{number} (ISO)", rate.fpir, rate.tpir, rate.threshold, rate.errors) for rate in found.rates]
    note = (
        "Official: both galleries together; the threshold is over all scores with other subjects and rank is ignored. "
        "ISO (ISO/IEC 19795-1): one gallery alone; probes of subjects in the other gallery are non-mated, and a hit is "
        "at rank 1 with a similarity at or above the threshold."
    )
    columns = ("gallery", "FPIR", "TPIR", "threshold", "false positives")
    evaluation.tables.append(Table("tpir_at_fpir", "TPIR at FPIR", columns, [*rows], note, anonymous=True))


def _title(name: IjbName) -> str:
    return f"IJB-{name[-1].upper()}"
