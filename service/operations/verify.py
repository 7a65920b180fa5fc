"""Verification (1:1): decide whether two sides show the same person, with the error rate of the decision."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, NamedTuple

from models.calibration import Decision, OperatingPoint
from models.deadline import Deadline
from models.detection.policy import FacePolicy
from models.errors import NoFace, VultusError
from models.pipeline import EmbeddedPhoto
from models.quality import NO_GATE, Gate
from models.serving.models import Models
from service.gallery.galleries import Galleries
from service.gallery.identification import strictest_min_quality, templates_of
from service.gallery.ranking import comparable, greatest_similarity
from service.gallery.records import Fusion, TemplateSet
from service.operations.faces import Content, JudgedFace, ReceivedEmbedding, judge_faces, template_of
from service.operations.reference_cache import ReferenceCache

Part = Literal["probe", "reference"]

PARTS: tuple[Part, Part] = ("probe", "reference")


@dataclass(frozen=True, slots=True)
class EnrolledSubject:
    """A subject of a gallery, which is compared with all its templates."""

    gallery: str
    subject: str


Side = Content | EnrolledSubject
"""One side of a comparison: an encoded image, an embedding, or an enrolled subject."""


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Two sides to compare, and how to decide.

    Attributes:
        probe, reference: The two sides.
        faces: Policy that selects the faces of a photo; with `all`, the best pair of faces is reported.
        fusion: How the similarities to the templates of one subject become one.
        operating_point: Name or false match rate of a measured operating point; None selects the default one.
        allow_inconclusive: Whether a similarity within the interval of the threshold is `inconclusive`.
        prior: Prior probability that both sides show the same subject, in (0, 1).
        gate: Requirements of the faces of photos, which the minimum quality of the galleries may raise.
    """

    probe: Side
    reference: Side
    faces: FacePolicy = "single"
    fusion: Fusion = "max"
    operating_point: str | float | None = None
    allow_inconclusive: bool = False
    prior: float = 0.5
    gate: Gate = NO_GATE

    @property
    def galleries(self) -> dict[str, str]:
        """Name of the gallery of each side that has one, by the part of the request."""
        sides = zip(PARTS, (self.probe, self.reference), strict=True)
        return {part: side.gallery for part, side in sides if isinstance(side, EnrolledSubject)}


@dataclass(frozen=True, slots=True, eq=False)
class Verification:
    """The similarity of two sides, and the decision at an operating point.

    Attributes:
        similarity: Cosine in [-1, 1] of the best pair of faces, fused over templates.
        decision: Decision at the operating point; None without a calibration. If it is not measured, it is
            `inconclusive` where the comparison allows that.
        point: The operating point; None without a calibration.
        comparisons: Number of compared pairs of faces or templates; the fused templates of a subject are one.
        log_likelihood_ratio: Natural logarithm of the likelihood ratio of the same subject over different subjects;
            None without a calibration, for the best of several comparisons, for fused templates, and if it is not
            measured.
        probability: Probability of the same subject, from that ratio and the prior; None without a ratio.
        probe, reference: Faces of the best pair; None for a side that is an embedding or a subject.
        measured: Whether the error rates of the calibration hold for the best pair: for none with a face that has the
            reason `low_quality`, or with a template of quality 0, because strangers of such quality resemble each
            other, and their false match rate is far higher.
    """

    similarity: float
    decision: Decision | None
    point: OperatingPoint | None
    comparisons: int
    log_likelihood_ratio: float | None
    probability: float | None
    probe: JudgedFace | None
    reference: JudgedFace | None
    measured: bool

    @property
    def false_match_rate(self) -> float | None:
        """Upper bound of the false match rate of the decision: rate of the point times comparisons, at most 1.

        None without a calibration, and if it is not measured.
        """
        if self.point is None or not self.measured:
            return None
        return min(1.0, self.point.rate * self.comparisons)


class _Comparand(NamedTuple):
    """The templates of one face, embedding or subject of a side, of which either all are measured or none.

    Attributes:
        templates: The templates.
        measured: Whether the error rates of the calibration hold for them.
        face: The face; None unless the side is a photo.
    """

    templates: TemplateSet
    measured: bool
    face: JudgedFace | None = None


def verify(
    galleries: Galleries, models: Models, references: ReferenceCache, comparison: Comparison, deadline: Deadline
) -> Verification:
    """Compare two sides and decide at a measured operating point.

    Args:
        galleries: The open galleries.
        models: Models that detect, embed and assess faces.
        references: Cache of embedded reference photos.
        comparison: The sides to compare, and how to decide.
        deadline: Deadline of the request; stage times are added to it.

    Raises:
        OperatingPointUnknown: The calibration does not contain the operating point.
        CalibrationUnfit: The operating point or the gate depends on a calibration, and the model is not calibrated.
        QualityUnvalidated: The gate has a minimum quality, and quality was not validated for this model.
        ImageError: An image cannot be used; `part` names the side.
        FaceError: The faces of a photo cannot be used; `part` names the side.
        GalleryUnknown: No gallery has the name; `part` names the side.
        SubjectUnknown: The gallery has no subject with the name; `part` names the side.
        SubjectEmpty: The subject has no templates; `part` names the side.
        ContractMismatch: A side belongs to another contract than the model; `part` names the side.
        EmbeddingWrongDimension: An embedding does not have the dimension of the model's embeddings.
        EmbeddingNotFinite: An embedding contains NaN or infinity.
        EmbeddingZero: An embedding is zero.
        InferenceFailed: The engine failed.
        RequestCancelled: The client disconnected.
        DeadlineExceeded: The deadline passed.
        StoreFailed: The store could not be read.
    """
    point = models.operating_point(comparison.operating_point)
    probes, others = _comparands(galleries, models, references, comparison, deadline)
    compared = 0
    best: tuple[float, _Comparand, _Comparand] | None = None
    fused = [[(comparable(side.templates, comparison.fusion), side) for side in sides] for sides in (probes, others)]
    for (vectors, first), (other_vectors, second) in product(*fused):
        compared += len(vectors) * len(other_vectors)  # each can be a false match
        similarity = greatest_similarity(vectors, other_vectors, deadline)
        if best is None or similarity > best[0]:
            best = similarity, first, second
    assert best is not None  # each side has at least one comparand
    similarity, probe, reference = min(1.0, max(-1.0, best[0])), best[1], best[2]
    single = compared == len(probe.templates.vectors) == len(reference.templates.vectors) == 1
    measured = probe.measured and reference.measured
    ratio, probability = _likelihood(models, similarity, comparison.prior) if single and measured else (None, None)
    decision = point.decide(similarity, comparison.allow_inconclusive) if point else None
    return Verification(
        similarity=similarity,
        decision="inconclusive" if decision and comparison.allow_inconclusive and not measured else decision,
        point=point,
        comparisons=compared,
        log_likelihood_ratio=ratio,
        probability=probability,
        probe=probe.face,
        reference=reference.face,
        measured=measured,
    )


def _likelihood(models: Models, similarity: float, prior: float) -> tuple[float | None, float | None]:
    """Return the log-likelihood ratio and the probability of a single comparison; None without a calibration.

    The score map was fitted to pairs of single embeddings, so it holds neither for the best of several comparisons nor
    for fused templates.
    """
    if models.calibration is None:
        return None, None
    fitted = models.calibration.score_map
    return fitted.log_likelihood_ratio(similarity), fitted.probability(similarity, prior)


def _comparands(
    galleries: Galleries, models: Models, references: ReferenceCache, comparison: Comparison, deadline: Deadline
) -> tuple[list[_Comparand], list[_Comparand]]:
    """Return the comparands of both sides.

    Sides that need no inference are read first, so that their errors are raised before any inference.
    """
    sides: dict[Part, Side] = {"probe": comparison.probe, "reference": comparison.reference}
    images = {part: side for part, side in sides.items() if isinstance(side, bytes)}
    found = {
        part: _stored(galleries, side, part, comparison.fusion)
        for part, side in sides.items()
        if not isinstance(side, bytes)
    }
    named = [side.gallery for side in sides.values() if isinstance(side, EnrolledSubject)]
    gate = comparison.gate.with_min_quality(strictest_min_quality(galleries, named))
    models.require_gate(gate)
    for part, photo in _embed(models, references, images, comparison.faces, deadline).items():
        found[part] = _faces(models, photo, part, gate)
    return found["probe"], found["reference"]


def _stored(
    galleries: Galleries, side: ReceivedEmbedding | EnrolledSubject, part: Part, fusion: Fusion
) -> list[_Comparand]:
    """Return the comparands of a subject or an embedding.

    Templates that are compared one by one are two comparands if some are measured and some are not, so that the best
    pair tells. Those that are fused are measured if each that has a weight is.
    """
    try:
        if not isinstance(side, EnrolledSubject):
            return [_Comparand(TemplateSet.of(template_of(galleries, side).embedding), True)]
        templates = templates_of(galleries, side.gallery, side.subject)
        measured = templates.measured
        if fusion == "max":
            parts = ((measured, True), (~measured, False))
            return [_Comparand(templates.where(chosen), holds) for chosen, holds in parts if chosen.any()]
        holds = measured.any() if fusion == "quality-weighted" else measured.all()
        return [_Comparand(templates, bool(holds))]
    except VultusError as error:
        error.part = part
        raise


def _embed(
    models: Models, references: ReferenceCache, images: dict[Part, bytes], policy: FacePolicy, deadline: Deadline
) -> dict[Part, EmbeddedPhoto | VultusError]:
    """Embed the photos of both sides; the cache may already contain the reference photo."""
    photos: dict[Part, EmbeddedPhoto | VultusError] = {}
    reference = images.get("reference")
    if reference is not None and (cached := references.find(reference, policy)) is not None:
        photos["reference"] = cached
    missing = [part for part in images if part not in photos]
    photos |= zip(missing, models.pipeline.embed([images[part] for part in missing], policy, deadline), strict=True)
    if reference is not None and "reference" in missing and isinstance(new := photos["reference"], EmbeddedPhoto):
        references.add(reference, policy, new)
    return {part: photos[part] for part in images}


def _faces(models: Models, photo: EmbeddedPhoto | VultusError, part: Part, gate: Gate) -> list[_Comparand]:
    """Return the faces of a photo that the gate accepts.

    Raises:
        ImageError: The image cannot be used.
        FaceError: The gate accepts no face. If it refused several, this is the refusal of the face with the best score.
    """
    if isinstance(photo, VultusError):
        photo.part = part
        raise photo
    judged: Sequence[JudgedFace] = judge_faces(models, photo, gate)
    accepted = [
        _Comparand(
            TemplateSet.of(candidate.face.embedding), "low_quality" not in candidate.assessment.reasons, candidate
        )
        for candidate in judged
        if candidate.refusal is None
    ]
    if not accepted:
        error = next((candidate.refusal for candidate in judged if candidate.refusal is not None), None)
        error = error or NoFace("no face was found in the image")
        error.part = part
        raise error
    return accepted
