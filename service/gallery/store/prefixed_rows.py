"""Subjects whose names begin with a text, and all others."""

import sqlite3

from service.gallery.records import Gallery

_LAST = "\U0010ffff"


def count(connection: sqlite3.Connection, gallery: Gallery, beginning: str) -> int:
    """Count the subjects of a gallery whose names begin with a text."""
    (subjects,) = connection.execute(
        "SELECT COUNT(*) FROM subjects WHERE gallery = ? AND name BETWEEN ? AND ?",
        (gallery.key, beginning, beginning + _LAST),
    ).fetchone()
    return int(subjects)


def others(
    connection: sqlite3.Connection, gallery: Gallery, beginning: str, after: int, limit: int
) -> list[tuple[int, str, int]]:
    """Read key, name and number of templates of subjects whose names do not begin with a text, sorted by key.

    Args:
        connection: Connection with an open transaction.
        gallery: Gallery of the subjects.
        beginning: The text.
        after: Key after which to start.
        limit: Maximum number of subjects.
    """
    return connection.execute(
        "SELECT key, name, (SELECT COUNT(*) FROM templates WHERE templates.subject = subjects.key) FROM subjects "
        "WHERE gallery = ? AND key > ? AND name NOT BETWEEN ? AND ? ORDER BY key LIMIT ?",
        (gallery.key, after, beginning, beginning + _LAST, limit),
    ).fetchall()
