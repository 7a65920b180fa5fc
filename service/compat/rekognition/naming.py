"""Names of subjects: users have the names that clients give them, and a face without a user is a subject of its own."""

FACE = "face "
"""Beginning of the name of a face without a user. Ids of users have no space, so no user is taken for a face."""


def own_subject(face_id: str) -> str:
    """Return the name of the subject of a face that belongs to no user."""
    return f"{FACE}{face_id}"


def is_user(subject: str) -> bool:
    """Return whether a subject is a user, and not a face without one."""
    return not subject.startswith(FACE)
