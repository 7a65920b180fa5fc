"""Assignment of distinct identities to the faces of one photo, in which a person appears at most once."""

from collections.abc import Sequence

import lap
import numpy as np

from service.gallery.records import Candidate


def assign_unique(faces: Sequence[Sequence[Candidate]], floor: float) -> list[list[Candidate]]:
    """Assign each identity to at most one face of a photo.

    The assignment maximises the sum of (similarity - floor). It is optimal if each face has at least as many
    candidates as the photo has faces.

    Args:
        faces: Candidates of each face, best first.
        floor: Minimum similarity of an assigned candidate.

    Returns:
        Candidates of each face: the assigned identity first, without identities assigned to other faces.
    """
    subjects = sorted(
        {
            (candidate.gallery, candidate.key)
            for candidates in faces
            for candidate in candidates
            if candidate.similarity >= floor
        }
    )
    columns = {subject: column for column, subject in enumerate(subjects)}
    gain = np.zeros((len(faces), len(subjects)))
    for row, candidates in enumerate(faces):
        for candidate in candidates:
            if candidate.similarity >= floor:
                column = columns[candidate.gallery, candidate.key]
                gain[row, column] = candidate.similarity - floor + np.finfo(float).eps
    rows, assigned_columns = lap.lapjvr(-gain, extend_cost=True, return_cost=False)  # D. F. Crouse, IEEE TAES 2016
    owner = {subjects[column]: row for row, column in zip(rows, assigned_columns, strict=True) if gain[row, column] > 0}
    assigned = []
    for row, candidates in enumerate(faces):
        free = [candidate for candidate in candidates if owner.get((candidate.gallery, candidate.key), row) == row]
        assigned.append(sorted(free, key=lambda candidate: owner.get((candidate.gallery, candidate.key)) != row))
    return assigned
