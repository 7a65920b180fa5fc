"""Verification (1:1): whether two sides show one person, and how often such a decision is wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from models.calibration import Decision, OperatingPoint
from models.deadline import Deadline
from models.detection.policy import FacePolicy
from models.errors import NoFace, VultusError
from models.pipeline import EmbeddedPhoto
from models.quality import NO_GATE, Gate
from models.serving.models import Models
from service.gallery.galleries import Galleries
from service.gallery.identification import least_quality, templates_of
from service.gallery.ranking import fused_similarity, pairs_compared
from service.gallery.records import Fusion, TemplateSet
from service.operations.acquire import Content, JudgedFace, ReceivedEmbedding, judge_faces, template_of
from service.operations.reference_cache import ReferenceCache

Part = Literal["probe", "reference"]

PARTS: tuple[Part, Part] = ("probe", "reference")


@dataclass(frozen=True, slots=True)
class EnrolledSubject:
    """A subject of a gallery, compared with all its templates."""

    gallery: str
    subject: str


Side = Content | EnrolledSubject
"""One side of a comparison: an encoded image, an embedding, or an enrolled subject."""


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """What to compare, and how to decide.

    Attributes:
        probe, reference: The two sides.
        faces: Which face of a photo is meant; under `all` the best pair of faces is reported.
        fusion: How the similarities to the templates of one subject become one.
        operating_point: Name or false match rate of a measured point; the default point if None.
        may_be_inconclusive: Whether to answer `inconclusive` within the interval of the threshold.
        prior: Probability of one subject before the comparison, in (0, 1).
        gate: What faces of photos must meet; the galleries' own minimum quality is added.
    """

    probe: Side
    reference: Side
    faces: FacePolicy = "single"
    fusion: Fusion = "max"
    operating_point: str | float | None = None
    may_be_inconclusive: bool = False
    prior: float = 0.5
    gate: Gate = NO_GATE


@dataclass(frozen=True, slots=True, eq=False)
class Verification:
    """The similarity of two sides, and the decision that a measured error rate allows.

    Attributes:
        similarity: Cosine in [-1, 1] of the best pair of faces, fused over templates.
        decision: At the operating point; None without calibration.
        point: The operating point; None without calibration.
        comparisons: Pairs of faces or templates that were compared.
        log_likelihood_ratio: Natural logarithm; None without calibration, and for the best of several comparisons.
        probability: Of one subject, from that ratio and the prior; None where there is no ratio.
        probe, reference: The faces of the best pair; None where an embedding or a subject was given.
    """

    similarity: float
    decision: Decision | None
    point: OperatingPoint | None
    comparisons: int
    log_likelihood_ratio: float | None
    probability: float | None
    probe: JudgedFace | None
    reference: JudgedFace | None

    @property
    def false_match_rate(self) -> float | None:
        """The point's rate times the comparisons: how often photos without a common person match."""
        return None if self.point is None else min(1.0, self.point.rate * self.comparisons)


class _Comparand(NamedTuple):
    """The templates of one candidate of a side, and its face if it is of a photo."""

    templates: TemplateSet
    face: JudgedFace | None


def verify(
    galleries: Galleries, models: Models, references: ReferenceCache, comparison: Comparison, deadline: Deadline
) -> Verification:
    """Compare two sides and decide at a measured operating point.

    Args:
        galleries: The open galleries.
        models: What detects, embeds and assesses.
        references: Embedded photos that were compared before.
        comparison: What to compare.
        deadline: Deadline of the request; stage times are added to it.

    Raises:
        OperatingPointUnknown, CalibrationUnfit: No decision can be made at that operating point.
        QualityUnvalidated: This model cannot gate faces.
        ImageError, FaceError: A photo cannot be used; `part` names the side.
        GalleryUnknown, SubjectUnknown, SubjectEmpty, ContractMismatch: A subject cannot be compared.
        EmbeddingWrongDimension, EmbeddingNotFinite, EmbeddingZero: An embedding cannot be compared.
        InferenceFailed: The engine failed.
        RequestCancelled, DeadlineExceeded: The request ended.
    """
    point = models.operating_point(comparison.operating_point)
    probes, references_ = _comparands(galleries, models, references, comparison, deadline)
    fusion = comparison.fusion
    similarity, probe, reference = max(
        (
            (fused_similarity(one.templates, other.templates, fusion), one, other)
            for one in probes
            for other in references_
        ),
        key=lambda pair: pair[0],
    )
    similarity = min(1.0, max(-1.0, similarity))
    compared = sum(pairs_compared(one.templates, other.templates, fusion) for one in probes for other in references_)
    ratio, probability = _likelihood(models, similarity, compared, comparison.prior)
    return Verification(
        similarity=similarity,
        decision=point.decide(similarity, comparison.may_be_inconclusive) if point else None,
        point=point,
        comparisons=compared,
        log_likelihood_ratio=ratio,
        probability=probability,
        probe=probe.face,
        reference=reference.face,
    )


def _likelihood(models: Models, similarity: float, compared: int, prior: float) -> tuple[float | None, float | None]:
    """Map the similarity of a single comparison; the map was not fitted on the best of several."""
    if models.calibration is None or compared > 1:
        return None, None
    fitted = models.calibration.score_map
    return fitted.log_likelihood_ratio(similarity), fitted.probability(similarity, prior)


def _comparands(
    galleries: Galleries, models: Models, references: ReferenceCache, comparison: Comparison, deadline: Deadline
) -> tuple[list[_Comparand], list[_Comparand]]:
    """Return the candidates of both sides. What needs no inference is read first: its errors cost nothing."""
    sides: dict[Part, Side] = {"probe": comparison.probe, "reference": comparison.reference}
    images = {part: side for part, side in sides.items() if isinstance(side, bytes)}
    found = {part: [_stored(galleries, side, part)] for part, side in sides.items() if not isinstance(side, bytes)}
    named = [side.gallery for side in sides.values() if isinstance(side, EnrolledSubject)]
    gate = comparison.gate.at_least(least_quality(galleries, named))
    models.require_gate(gate)
    for part, photo in _embed(models, references, images, comparison.faces, deadline).items():
        found[part] = _faces(models, photo, part, gate)
    return found["probe"], found["reference"]


def _stored(galleries: Galleries, side: ReceivedEmbedding | EnrolledSubject, part: Part) -> _Comparand:
    try:
        if isinstance(side, EnrolledSubject):
            return _Comparand(templates_of(galleries, side.gallery, side.subject), None)
        return _Comparand(TemplateSet.of(template_of(galleries, side).embedding), None)
    except VultusError as error:
        error.part = part
        raise


def _embed(
    models: Models, references: ReferenceCache, images: dict[Part, bytes], policy: FacePolicy, deadline: Deadline
) -> dict[Part, EmbeddedPhoto | VultusError]:
    """Embed the photos of both sides; a reference photo that was embedded before is taken from the cache."""
    photos: dict[Part, EmbeddedPhoto | VultusError] = {}
    reference = images.get("reference")
    if reference is not None and (cached := references.find(reference, policy)) is not None:
        photos["reference"] = cached
    missing = [part for part in images if part not in photos]
    photos |= zip(missing, models.pipeline.embed([images[part] for part in missing], policy, deadline), strict=True)
    if reference is not None and "reference" in missing and isinstance(new := photos["reference"], EmbeddedPhoto):
        references.keep(reference, policy, new)
    return {part: photos[part] for part in images}


def _faces(models: Models, photo: EmbeddedPhoto | VultusError, part: Part, gate: Gate) -> list[_Comparand]:
    """Return the faces that the gate lets through.

    Raises:
        FaceError: There is none; where the gate refused several, the refusal of the one with the best score.
    """
    if isinstance(photo, VultusError):
        photo.part = part
        raise photo
    judged: Sequence[JudgedFace] = judge_faces(models, photo, gate)
    accepted = [_Comparand(TemplateSet.of(one.face.embedding), one) for one in judged if one.refusal is None]
    if not accepted:
        error = next((one.refusal for one in judged if one.refusal is not None), None)
        error = error or NoFace("no face was found in the image")
        error.part = part
        raise error
    return accepted
