"""One person is in a photo once: the best way to give each face an identity of its own."""

from collections.abc import Sequence

import numpy as np

from service.gallery.records import Candidate


def assign_unique(faces: Sequence[Sequence[Candidate]], floor: float) -> list[list[Candidate]]:
    """Give no identity to two faces of one photo.

    The sum of what similarities exceed the floor by is made largest. That is optimal if each face comes with as many
    candidates as there are faces.

    Args:
        faces: Candidates of each face, best first.
        floor: Similarity from which on a candidate counts.

    Returns:
        Candidates of each face: its own identity first, and nobody who was given to another face.
    """
    from scipy.optimize import linear_sum_assignment  # a fifth of a second to load, for this option only

    subjects = sorted({(one.gallery, one.key) for face in faces for one in face if one.similarity >= floor})
    columns = {subject: column for column, subject in enumerate(subjects)}
    gain = np.zeros((len(faces), len(subjects)))
    for row, face in enumerate(faces):
        for one in face:
            if one.similarity >= floor:
                gain[row, columns[one.gallery, one.key]] = one.similarity - floor + np.finfo(float).eps
    owner = {
        subjects[column]: row
        for row, column in zip(*linear_sum_assignment(gain, maximize=True), strict=True)
        if gain[row, column] > 0
    }
    assigned = []
    for row, face in enumerate(faces):
        free = [one for one in face if owner.get((one.gallery, one.key), row) == row]
        assigned.append(sorted(free, key=lambda one: owner.get((one.gallery, one.key)) != row))
    return assigned
