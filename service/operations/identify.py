"""Identification (1:N): search galleries for the subjects of photos or embeddings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.calibration import OperatingPoint
from models.deadline import Deadline
from models.detection.policy import FacePolicy
from models.errors import VultusError
from models.pipeline import EmbeddedPhoto
from models.quality import NO_GATE, Gate
from models.serving.models import Models
from service.errors import TooManyCandidates
from service.gallery.galleries import Galleries
from service.gallery.identification import MIN_SIMILARITY, comparisons, identify_photos, strictest_min_quality
from service.gallery.records import Candidate, Fusion
from service.operations.faces import Content, JudgedFace, judge_faces, template_of

MAX_CANDIDATES = 100_000
"""Maximum of the candidates that one search may ask for: k for each face.

Two busy cores find and write them in 3 to 12 s, among 20,000 templates of random embeddings."""

NO_POINT = "none"
"""Name that replaces an operating point in a search without a decision, which returns the nearest subjects."""

Decision = Literal["candidates", "unknown", "rejected"]


@dataclass(frozen=True, slots=True)
class Search:
    """How probes are searched for.

    Attributes:
        galleries: Names of the galleries.
        k: Maximum number of candidates of a face.
        fusion: How the similarities to the templates of one subject become one.
        unique: Whether each subject is assigned to at most one face of a photo.
        faces: Policy that selects the faces of a photo.
        operating_point: Name or false match rate of the operating point that candidates must reach. None selects the
            default operating point; `NO_POINT` searches without a decision.
        gate: Requirements of faces, which the minimum quality of the galleries may raise.
    """

    galleries: tuple[str, ...]
    k: int = 5
    fusion: Fusion = "max"
    unique: bool = False
    faces: FacePolicy = "all"
    operating_point: str | float | None = None
    gate: Gate = NO_GATE


@dataclass(frozen=True, slots=True, eq=False)
class IdentifiedFace:
    """A face and the subjects that it resembles.

    Attributes:
        judged: The face with its assessment; None for an embedding.
        decision: `candidates` or `unknown` at the operating point; `rejected` if the gate refused the face, so that it
            was not searched for; None without an operating point.
        candidates: Candidates, best first. All reach the operating point if there is one.
    """

    judged: JudgedFace | None
    decision: Decision | None
    candidates: list[Candidate]


@dataclass(frozen=True, slots=True, eq=False)
class IdentifiedProbe:
    """The faces of one photo, or one embedding.

    Attributes:
        photo: The photo; None for an embedding.
        faces: The results of its faces, in the order of the photo's faces.
    """

    photo: EmbeddedPhoto | None
    faces: list[IdentifiedFace]


@dataclass(frozen=True, slots=True, eq=False)
class Identification:
    """The results of one search.

    Attributes:
        probes: For each content, in order, its faces or the error with which it was refused.
        point: Operating point that the candidates reach; None without a decision.
        comparisons: Number of templates, or of subjects if their templates are fused, that each face was compared with.
    """

    probes: list[IdentifiedProbe | VultusError]
    point: OperatingPoint | None
    comparisons: int

    @property
    def faces(self) -> list[IdentifiedFace]:
        """All faces, in order."""
        return [face for probe in self.probes if isinstance(probe, IdentifiedProbe) for face in probe.faces]

    @property
    def fpir_bound(self) -> float | None:
        """Upper bound of the false positive identification rate: rate of the point times comparisons, at most 1."""
        return None if self.point is None else min(1.0, self.point.rate * self.comparisons)


def require_search(galleries: Galleries, models: Models, search: Search) -> None:
    """Check that a search is possible, before any probe is read.

    Raises:
        GalleryUnknown: A gallery with one of the names does not exist.
        ContractMismatch: A gallery has embeddings of another contract.
        OperatingPointUnknown: The calibration does not contain the operating point.
        CalibrationUnfit: The operating point or the gate depends on a calibration, and the model is not calibrated.
        QualityUnvalidated: The gate has a minimum quality, and quality was not validated for this model.
    """
    _operating_point(models, search)
    _gate(galleries, models, search)


def identify(
    galleries: Galleries, models: Models, contents: Sequence[Content], search: Search, deadline: Deadline
) -> Identification:
    """Search galleries for the faces of photos and for embeddings, all in one search.

    Args:
        galleries: The open galleries.
        models: Models that detect, embed and assess faces.
        contents: Encoded images and embeddings.
        search: How to search.
        deadline: Deadline of the request; stage times are added to it.

    Raises:
        GalleryUnknown: A gallery with one of the names does not exist.
        ContractMismatch: A gallery has embeddings of another contract.
        OperatingPointUnknown: The calibration does not contain the operating point.
        CalibrationUnfit: The operating point or the gate depends on a calibration, and the model is not calibrated.
        QualityUnvalidated: The gate has a minimum quality, and quality was not validated for this model.
        TooManyCandidates: k candidates of each face would be more than `MAX_CANDIDATES`.
        InferenceFailed: The engine failed.
        RequestCancelled: The client disconnected.
        DeadlineExceeded: The deadline passed.
        StoreFailed: The store could not be read.
    """
    _require_few(sum(not isinstance(content, bytes) for content in contents), search.k)
    point = _operating_point(models, search)
    compared = comparisons(galleries, search.galleries, search.fusion)
    gate = _gate(galleries, models, search)
    images = [content for content in contents if isinstance(content, bytes)]
    photos = iter(models.pipeline.embed(images, search.faces, deadline))
    probes = [
        _photo_probe(models, next(photos), gate) if isinstance(content, bytes) else _embedding_probe(galleries, content)
        for content in contents
    ]
    _require_few(sum(len(probe.vectors) for probe in probes if isinstance(probe, _Probe)), search.k)
    with deadline.stage("search"):
        found = iter(
            identify_photos(
                galleries,
                search.galleries,
                [probe.vectors for probe in probes if isinstance(probe, _Probe)],
                search.k,
                search.fusion,
                point.threshold if point else MIN_SIMILARITY,
                search.unique,
                deadline,
            )
        )
    return Identification(
        [
            probe if isinstance(probe, VultusError) else probe.identified(next(found), decides=point is not None)
            for probe in probes
        ],
        point,
        compared,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Probe:
    """The vectors to search for: those of the faces of a photo, or an embedding.

    Attributes:
        photo: The photo; None for an embedding.
        faces: Faces of the photo; for an embedding, one None.
        vectors: (D,) float32 of length 1 for each face that the gate accepts, or of the embedding.
    """

    photo: EmbeddedPhoto | None
    faces: list[JudgedFace | None]
    vectors: list[NDArray[np.float32]]

    def identified(self, found: Sequence[list[Candidate]], decides: bool) -> IdentifiedProbe:
        candidates = iter(found)
        return IdentifiedProbe(self.photo, [_identified(face, candidates, decides) for face in self.faces])


def _photo_probe(models: Models, photo: EmbeddedPhoto | VultusError, gate: Gate) -> _Probe | VultusError:
    if isinstance(photo, VultusError):
        return photo
    faces = judge_faces(models, photo, gate)
    return _Probe(photo, [*faces], [judged.face.embedding for judged in faces if judged.refusal is None])


def _embedding_probe(galleries: Galleries, content: Content) -> _Probe | VultusError:
    assert not isinstance(content, bytes)
    try:
        return _Probe(None, [None], [template_of(galleries, content).embedding])
    except VultusError as error:
        return error


def _identified(judged: JudgedFace | None, found: Iterator[list[Candidate]], decides: bool) -> IdentifiedFace:
    if judged is not None and judged.refusal is not None:
        return IdentifiedFace(judged, "rejected", [])
    candidates = next(found)
    decision: Decision | None = ("candidates" if candidates else "unknown") if decides else None
    return IdentifiedFace(judged, decision, candidates)


def _require_few(faces: int, k: int) -> None:
    if faces * k > MAX_CANDIDATES:
        raise TooManyCandidates(
            f"{k} candidates of each of {faces} faces are {faces * k:,}; a search returns at most {MAX_CANDIDATES:,}, "
            "so send a smaller `k`, or less at once"
        )


def _operating_point(models: Models, search: Search) -> OperatingPoint | None:
    return None if search.operating_point == NO_POINT else models.operating_point(search.operating_point)


def _gate(galleries: Galleries, models: Models, search: Search) -> Gate:
    gate = search.gate.with_min_quality(strictest_min_quality(galleries, search.galleries))
    models.require_gate(gate)
    return gate
