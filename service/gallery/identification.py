"""Whose faces these are: probes against the subjects of one or several galleries."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.gallery.assignment import assign_unique
from service.gallery.galleries import Galleries
from service.gallery.ranking import Ranked, rank
from service.gallery.records import Candidate, Fusion, Gallery, TemplateSet
from service.gallery.store import subject_rows, template_rows

LEAST = -1.0  # no similarity is smaller
NO_POINT = "none"  # in place of an operating point: the nearest, whatever they are, without a decision

_ERASED_UNDER_A_SEARCH = 3


def identify(
    galleries: Galleries,
    names: Sequence[str],
    probes: NDArray[np.float32],
    k: int,
    fusion: Fusion = "max",
    floor: float = LEAST,
) -> list[list[Candidate]]:
    """Find the nearest subjects.

    Args:
        galleries: Where.
        names: Of the galleries.
        probes: (Q, D) float32 of length 1.
        k: How many subjects for each probe.
        fusion: How similarities to the templates of one subject become one.
        floor: Subjects with a smaller similarity are not wanted.

    Returns:
        For each probe, best first; fewer than k where there are fewer that reach the floor. Nobody who was erased
        before the call is among them.

    Raises:
        GalleryUnknown, ContractMismatch: A gallery cannot be searched.
    """
    with galleries.database.reading() as connection:
        where = galleries.find_all(connection, names)
    found: list[list[Candidate]] = [[] for _ in probes]
    for gallery in where:
        for own, more in zip(found, _of_gallery(galleries, gallery, probes, k, fusion, floor), strict=True):
            own.extend(more)
    return [sorted(own, key=lambda one: -one.similarity)[:k] for own in found]


def identify_photos(
    galleries: Galleries,
    names: Sequence[str],
    photos: Sequence[Sequence[NDArray[np.float32]]],
    k: int,
    fusion: Fusion = "max",
    floor: float = LEAST,
    unique: bool = False,
) -> list[list[list[Candidate]]]:
    """Find the nearest subjects of the faces of several photos in one search.

    Args:
        galleries: Where.
        names: Of the galleries.
        photos: For each its faces, each (D,) float32 of length 1; there may be none.
        k: How many subjects for each face.
        fusion: How similarities to the templates of one subject become one.
        floor: Subjects with a smaller similarity are not wanted.
        unique: Whether nobody is given to two faces of one photo.

    Returns:
        For each photo and each of its faces, as `identify`.

    Raises:
        GalleryUnknown, ContractMismatch: A gallery cannot be searched.
    """
    most = max((len(faces) for faces in photos), default=0)
    probes = [face for faces in photos for face in faces]
    if not probes:
        return [[] for _ in photos]
    depth = max(k, most) if unique else k  # with as many candidates as faces the best assignment is among them
    found = iter(identify(galleries, names, np.stack(probes), depth, fusion, floor))
    by_photo = [[next(found) for _ in faces] for faces in photos]
    if not unique:
        return by_photo
    return [[own[:k] for own in assign_unique(faces, floor)] for faces in by_photo]


def comparisons(galleries: Galleries, names: Sequence[str], fusion: Fusion) -> int:
    """Count what one probe is compared with: templates, or subjects where their templates are fused.

    Raises:
        GalleryUnknown, ContractMismatch: A gallery cannot be searched.
    """
    compared = 0
    with galleries.database.reading() as connection:
        for gallery in galleries.find_all(connection, names):
            index = galleries.live(gallery).current
            if fusion != "max":
                compared += subject_rows.count(connection, gallery)
            else:  # counting a million rows takes longer than searching them
                compared += index.count if index else template_rows.count(connection, gallery)
    return compared


def least_quality(galleries: Galleries, names: Sequence[str]) -> float:
    """Return the quality that the strictest of some galleries asks of faces.

    Raises:
        GalleryUnknown, ContractMismatch: A gallery cannot be searched.
    """
    with galleries.database.reading() as connection:
        return max((gallery.min_quality for gallery in galleries.find_all(connection, names)), default=0.0)


def templates_of(galleries: Galleries, gallery: str, subject: str) -> TemplateSet:
    """Read all templates of a subject.

    Raises:
        GalleryUnknown, SubjectUnknown, ContractMismatch: They cannot be compared.
        SubjectEmpty: There are none.
    """
    with galleries.database.reading() as connection:
        where = galleries.find(connection, gallery)
        found = subject_rows.find(connection, where, subject)
        subject_rows.require_templates(found)
        return template_rows.sets(connection, [found.key], where.dimensions)[found.key]


def _of_gallery(
    galleries: Galleries, gallery: Gallery, probes: NDArray[np.float32], k: int, fusion: Fusion, floor: float
) -> list[list[Candidate]]:
    live = galleries.live(gallery)
    ranked: list[list[Ranked]] = []
    names: dict[int, str] = {}
    for _ in range(_ERASED_UNDER_A_SEARCH):
        ranked = rank(galleries.database, live, probes, k, fusion, floor)
        keys = sorted({one.subject for own in ranked for one in own})
        with galleries.database.reading() as connection:
            names = subject_rows.names(connection, keys)
        if len(names) == len(keys):
            break
    return [
        [
            Candidate(gallery.name, names[one.subject], one.subject, min(1.0, max(-1.0, one.similarity)))
            for one in own
            if one.subject in names
        ]
        for own in ranked
    ]
