"""Identification: search for probes among the subjects of one or several galleries."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.deadline import Deadline
from service.errors import SubjectUnknown, TemplateUnknown
from service.gallery.assignment import assign_unique
from service.gallery.galleries import Galleries
from service.gallery.ranking import Ranked, nearest_templates, rank
from service.gallery.records import Candidate, Fusion, Gallery, OwnedTemplate, TemplateCandidate, TemplateSet
from service.gallery.store import owned_rows, subject_rows, template_rows

MIN_SIMILARITY = -1.0  # minimum of the cosine similarity

_ATTEMPTS = 3  # searches repeated because subjects were erased during the search


def identify(
    galleries: Galleries,
    names: Sequence[str],
    probes: NDArray[np.float32],
    k: int,
    fusion: Fusion = "max",
    floor: float = MIN_SIMILARITY,
    deadline: Deadline | None = None,
) -> list[list[Candidate]]:
    """Find the nearest subjects.

    Args:
        galleries: Galleries of the data directory.
        names: Names of the galleries to search.
        probes: (Q, D) float32 of length 1.
        k: Maximum number of subjects for each probe.
        fusion: Fusion of the similarities to a subject's templates.
        floor: Minimum similarity of a candidate.
        deadline: Deadline of the request; None for no time limit.

    Returns:
        Candidates of each probe, best first; fewer than k if fewer subjects reach the floor. Subjects erased before the
        call are never among them.

    Raises:
        GalleryUnknown: No gallery has one of the names.
        ContractMismatch: A gallery holds embeddings of another contract than the loaded model.
        RequestCancelled: The client disconnected.
        DeadlineExceeded: The deadline passed.
    """
    with galleries.database.reading() as connection:
        searched = galleries.find_all(connection, names)
    found: list[list[Candidate]] = [[] for _ in probes]
    for gallery in searched:
        in_gallery = _identify_in(galleries, gallery, probes, k, fusion, floor, deadline or Deadline())
        for candidates, more in zip(found, in_gallery, strict=True):
            candidates.extend(more)
    return [sorted(candidates, key=lambda candidate: -candidate.similarity)[:k] for candidates in found]


def identify_photos(
    galleries: Galleries,
    names: Sequence[str],
    photos: Sequence[Sequence[NDArray[np.float32]]],
    k: int,
    fusion: Fusion = "max",
    floor: float = MIN_SIMILARITY,
    unique: bool = False,
    deadline: Deadline | None = None,
) -> list[list[list[Candidate]]]:
    """Find the nearest subjects for the faces of several photos in one search.

    Args:
        galleries: Galleries of the data directory.
        names: Names of the galleries to search.
        photos: Faces of each photo, each (D,) float32 of length 1; a photo may have none.
        k: Maximum number of subjects for each face.
        fusion: Fusion of the similarities to a subject's templates.
        floor: Minimum similarity of a candidate.
        unique: Whether a subject is assigned to at most one face of a photo.
        deadline: Deadline of the request; None for no time limit.

    Returns:
        For each photo, the candidates of each of its faces, as returned by `identify`.

    Raises:
        GalleryUnknown: No gallery has one of the names.
        ContractMismatch: A gallery holds embeddings of another contract than the loaded model.
        RequestCancelled: The client disconnected.
        DeadlineExceeded: The deadline passed.
    """
    most_faces = max((len(faces) for faces in photos), default=0)
    probes = [face for faces in photos for face in faces]
    if not probes:
        return [[] for _ in photos]
    depth = max(k, most_faces) if unique else k  # an optimal assignment needs as many candidates as faces
    found = iter(identify(galleries, names, np.stack(probes), depth, fusion, floor, deadline))
    by_photo = [[next(found) for _ in faces] for faces in photos]
    if not unique:
        return by_photo
    return [[candidates[:k] for candidates in assign_unique(faces, floor)] for faces in by_photo]


def identify_templates(
    galleries: Galleries,
    name: str,
    probes: NDArray[np.float32],
    k: int,
    floor: float = MIN_SIMILARITY,
    deadline: Deadline | None = None,
) -> list[list[TemplateCandidate]]:
    """Find the nearest templates of a gallery, of which a subject may have several.

    Args:
        galleries: Galleries of the data directory.
        name: Name of the gallery to search.
        probes: (Q, D) float32 of length 1.
        k: Maximum number of templates for each probe.
        floor: Minimum similarity of a template.
        deadline: Deadline of the request; None for no time limit.

    Returns:
        Templates of each probe, best first. Those erased before the call are never among them.

    Raises:
        GalleryUnknown: No gallery has the name.
        ContractMismatch: The gallery holds embeddings of another contract than the loaded model.
        RequestCancelled: The client disconnected.
        DeadlineExceeded: The deadline passed.
    """
    with galleries.database.reading() as connection:
        gallery = galleries.find(connection, name)
    live = galleries.live(gallery)
    found: list[list[tuple[int, float]]] = []
    templates: dict[int, OwnedTemplate] = {}
    for _ in range(_ATTEMPTS):
        found = nearest_templates(galleries.database, live, probes, k, floor, deadline or Deadline())
        keys = sorted({key for hits in found for key, _ in hits})
        with galleries.database.reading() as connection:
            templates = owned_rows.by_key(connection, gallery, keys)
        if len(templates) == len(keys):
            break
    return [
        [
            TemplateCandidate(templates[key], min(1.0, max(-1.0, similarity)))
            for key, similarity in hits
            if key in templates
        ]
        for hits in found
    ]


def comparisons(galleries: Galleries, names: Sequence[str], fusion: Fusion) -> int:
    """Count the comparisons of one probe: one for each template, or one for each subject if templates are fused.

    Raises:
        GalleryUnknown: No gallery has one of the names.
        ContractMismatch: A gallery holds embeddings of another contract than the loaded model.
    """
    compared = 0
    with galleries.database.reading() as connection:
        for gallery in galleries.find_all(connection, names):
            index = galleries.live(gallery).current
            if fusion != "max":
                compared += subject_rows.count(connection, gallery)
            else:  # the index knows its count; counting a million rows takes longer than searching them
                compared += index.count if index else template_rows.count(connection, gallery)
    return compared


def strictest_min_quality(galleries: Galleries, names: Sequence[str]) -> float:
    """Return the minimum quality that the strictest of the galleries requires.

    Raises:
        GalleryUnknown: No gallery has one of the names.
        ContractMismatch: A gallery holds embeddings of another contract than the loaded model.
    """
    if not names:
        return 0.0
    with galleries.database.reading() as connection:
        return max(gallery.min_quality for gallery in galleries.find_all(connection, names))


def templates_of(galleries: Galleries, gallery: str, subject: str) -> TemplateSet:
    """Read all templates of a subject.

    Raises:
        GalleryUnknown: No gallery has this name.
        SubjectUnknown: The gallery has no subject with this name.
        ContractMismatch: The gallery holds embeddings of another contract than the loaded model.
        SubjectEmpty: The subject has no templates.
    """
    with galleries.database.reading() as connection:
        found_gallery = galleries.find(connection, gallery)
        found = subject_rows.find(connection, found_gallery, subject)
        subject_rows.require_templates(found)
        sets = template_rows.sets(connection, [found.key], found_gallery.dimensions)
    if found.key not in sets:
        raise SubjectUnknown("the subject was erased")
    return sets[found.key]


def template_vector(galleries: Galleries, gallery: str, template: OwnedTemplate) -> NDArray[np.float32]:
    """Read the embedding of a template, (D,) float32 of length 1.

    Raises:
        GalleryUnknown: No gallery has the name.
        ContractMismatch: The gallery holds embeddings of another contract than the loaded model.
        TemplateUnknown: The template was erased.
    """
    with galleries.database.reading() as connection:
        found = galleries.find(connection, gallery)
        _, _, vectors = template_rows.vectors(connection, [template.key], found.dimensions)
    if not len(vectors):
        raise TemplateUnknown("the template was erased")
    vector: NDArray[np.float32] = vectors[0]
    return vector


def _identify_in(
    galleries: Galleries,
    gallery: Gallery,
    probes: NDArray[np.float32],
    k: int,
    fusion: Fusion,
    floor: float,
    deadline: Deadline,
) -> list[list[Candidate]]:
    live = galleries.live(gallery)
    ranked: list[list[Ranked]] = []
    names: dict[int, str] = {}
    for _ in range(_ATTEMPTS):
        ranked = rank(galleries.database, live, probes, k, fusion, floor, deadline)
        keys = sorted({hit.subject for hits in ranked for hit in hits})
        with galleries.database.reading() as connection:
            names = subject_rows.names(connection, keys)
        if len(names) == len(keys):
            break
    return [
        [
            Candidate(gallery.name, names[hit.subject], hit.subject, min(1.0, max(-1.0, hit.similarity)))
            for hit in hits
            if hit.subject in names
        ]
        for hits in ranked
    ]
