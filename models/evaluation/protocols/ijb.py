"""IJB-B and IJB-C, 1:1 and 1:N, in the two ways the official projects build templates.

`insightface` (`eval_ijbc.py`): an image weighs its norm and the detector's score. `adaface` (`validate_IJB_BC.py` with
its default): its norm alone. Their input differs too, RGB against BGR; here that is the artefact's own matter, whose
graph takes RGB and gives the network what it was trained on. Both embed the mirror image as well.
"""

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import SetIncomplete
from models.evaluation.acquire.acquisition import FromLandmarks
from models.evaluation.acquire.embedding_cache import KnownFailure
from models.evaluation.acquire.embedding_run import Group, add_views
from models.evaluation.acquire.pictures import Failure, require_present
from models.evaluation.metrics.identification import search, search_officially
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
        builder: Knows where which template is.
        vectors: (T, D) float32 of length 1; zero where no image could be used.
        failures: Images that could not.
        images: How many there are.
    """

    builder: TemplateBuilder
    vectors: NDArray[np.float32]
    failures: list[Failure]
    images: list[str]

    def of(self, templates: NDArray[np.int64], what: str) -> NDArray[np.int64]:
        """Return where templates are.

        Raises:
            SetIncomplete: One has no image.
        """
        places = self.builder.places(templates)
        if (places < 0).any():
            lost = int((places < 0).sum())
            raise SetIncomplete(f"{lost:,} templates of the {what} have no image, such as {templates[places < 0][0]}")
        return places


def build_templates(model: EvaluatedModel, images: IjbImages, variant: Variant) -> Templates:
    """Embed all images and add them up as they come.

    Raises:
        SetIncomplete: More images are missing than may be.
    """
    require_present(images.pictures, model.most_missing)
    builder = TemplateBuilder(images.templates, images.media)
    failures: list[Failure] = []
    with model.run(FromLandmarks(model.template), mirror=not model.has_mirror) as run:
        for group in run.groups(images.pictures, "images", model.progress):
            _add_group(builder, group, images, variant, failures)
    return Templates(builder, builder.finish(), failures, [picture.name for picture in images.pictures])


def _add_group(
    builder: TemplateBuilder, group: Group, images: IjbImages, variant: Variant, failures: list[Failure]
) -> None:
    places, features = [], []
    for place, outcome in enumerate(group.outcomes, start=group.start):
        if isinstance(outcome, KnownFailure):
            failures.append(Failure(images.pictures[place].name, outcome.code, outcome.reason))
            continue
        unit, length = add_views(outcome)
        places.append(place)
        features.append(unit * length * (float(images.scores[place]) if variant == "insightface" else 1.0))
    if places:
        builder.add(np.array(places), np.stack(features))


def evaluate_ijb_11(model: EvaluatedModel, directory: Path, name: IjbName, variant: Variant) -> Evaluation:
    """Run 1:1.

    Raises:
        SetUnreadable, SetIncomplete, OneClassOnly: The set cannot be used.
    """
    images, pairs = read_images(directory, name), read_template_pairs(directory, name)
    templates = build_templates(model, images, variant)
    evaluation = Evaluation("ijb_11", f"{_title(name)} 1:1, {variant}", model.conditions(variant=variant))
    add_acquisition(evaluation, templates.images, templates.failures)
    first, second = templates.of(pairs.first, "pairs"), templates.of(pairs.second, "pairs")
    add_verification(evaluation, score_pairs(templates.vectors, first, second), pairs.mated, first, second)
    return evaluation


def add_verification(
    evaluation: Evaluation,
    scores: NDArray[np.float32],
    mated: NDArray[np.bool_],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
) -> None:
    """Add TAR at FAR as the official code reads it off, and the error rates of ISO/IEC 19795-1."""
    read = tar_at_far(*roc_curve(scores, mated))
    evaluation.figures += [
        Figure(f"tar_at_far_{point.target:.0e}", point.tar, f"TAR {point.tar:.2%} at FAR {point.target:.0e}")
        for point in read
    ]
    rows = [(point.target, point.tar, point.far) for point in read]
    note = "The point of the curve whose FAR is nearest, as the official code takes it; it may lie above."
    evaluation.tables.append(Table("tar_at_far", "TAR at FAR", ("FAR wanted", "TAR", "FAR of it"), [*rows], note))
    kept = listed_pairs(scores, mated, first.astype(np.int32), second.astype(np.int32))
    add_error_rates(evaluation, kept, evaluation.title)


def evaluate_ijb_1n(model: EvaluatedModel, directory: Path, name: IjbName, variant: Variant) -> Evaluation:
    """Run 1:N with the mixed probes: as the official code does, and open set with each gallery alone.

    Raises:
        SetUnreadable, SetIncomplete, OneClassOnly: The set cannot be used.
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
    """Add ranks and TPIR at FPIR, counted both ways.

    Raises:
        SetIncomplete, OneClassOnly: The templates cannot be searched.
    """
    probed = templates.vectors[templates.of(probes.templates, "probes")]
    enrolled = [templates.vectors[templates.of(gallery.templates, "galleries")] for gallery in galleries]
    subjects = [gallery.subjects for gallery in galleries]
    ranks, rates = search_officially(np.concatenate(enrolled), np.concatenate(subjects), probed, probes.subjects)
    evaluation.figures += [Figure(f"rank_{rank}", share, f"rank {rank}: {share:.2%}") for rank, share in ranks.items()]
    evaluation.figures += [
        Figure(f"tpir_at_fpir_{rate.fpir:g}", rate.tpir, f"TPIR {rate.tpir:.2%} at FPIR {rate.fpir:g}, as official")
        for rate in rates
    ]
    rows = [("both, as official", rate.fpir, rate.tpir, rate.threshold, rate.errors) for rate in rates]
    for number, (vectors, own) in enumerate(zip(enrolled, subjects, strict=True), start=1):
        found = search(vectors, own, probed, probes.subjects)
        rows += [(f"{number} alone, ISO", rate.fpir, rate.tpir, rate.threshold, rate.errors) for rate in found.rates]
    note = (
        "As official: both galleries together, threshold over all scores with other subjects, rank ignored. ISO: "
        "probes whose subject is in the other gallery are the non-mated ones, a hit is rank 1 and above the threshold."
    )
    columns = ("gallery", "FPIR", "TPIR", "threshold", "errors")
    evaluation.tables.append(Table("tpir_at_fpir", "TPIR at FPIR", columns, [*rows], note))


def _title(name: IjbName) -> str:
    return f"IJB-{name[-1].upper()}"
