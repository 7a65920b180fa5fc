"""Subjects that are named after their only template, and all others.

A name is not enough to tell them: another subject may have such a name, or a template may have been added or moved.
"""

import sqlite3
from collections.abc import Sequence

from service.gallery.records import Gallery, TemplateName
from service.gallery.store.slices import slices

_LAST = "\U0010ffff"
_SINGLE = (
    "name BETWEEN :first AND :last AND (SELECT CASE COUNT(*) WHEN 1 THEN is_named_after(name, MAX(source)) ELSE 0 END "
    "FROM templates WHERE templates.subject = subjects.key)"
)


def count_named(connection: sqlite3.Connection, gallery: Gallery, form: TemplateName) -> int:
    """Count the subjects of a gallery whose names begin like those, by the SQL index of names only."""
    (subjects,) = connection.execute(
        "SELECT COUNT(*) FROM subjects WHERE gallery = ? AND name BETWEEN ? AND ?",
        (gallery.key, form.beginning, form.beginning + _LAST),
    ).fetchone()
    return int(subjects)


def count(connection: sqlite3.Connection, gallery: Gallery, form: TemplateName) -> int:
    """Count the subjects of a gallery that are named after their only template."""
    (subjects,) = connection.execute(
        f"SELECT COUNT(*) FROM subjects WHERE gallery = :gallery AND {_SINGLE}", _parameters(connection, gallery, form)
    ).fetchone()
    return int(subjects)


def among(
    connection: sqlite3.Connection, gallery: Gallery, form: TemplateName, subjects: Sequence[int]
) -> frozenset[int]:
    """Return those of some subjects, given by key, that are named after their only template."""
    found: set[int] = set()
    parameters = _parameters(connection, gallery, form)
    for part, _ in slices(list(dict.fromkeys(subjects))):
        named = {f"key{at}": key for at, key in enumerate(part)}
        marks = ",".join(f":{name}" for name in named)
        query = f"SELECT key FROM subjects WHERE key IN ({marks}) AND {_SINGLE}"
        found.update(key for (key,) in connection.execute(query, parameters | named))
    return frozenset(found)


def others(
    connection: sqlite3.Connection, gallery: Gallery, form: TemplateName, after: int, limit: int
) -> list[tuple[int, str, int]]:
    """Read key, name and number of templates of all other subjects, sorted by key.

    Args:
        connection: Connection with an open transaction.
        gallery: Gallery of the subjects.
        form: Form of the names.
        after: Key after which to start.
        limit: Maximum number of subjects.
    """
    return connection.execute(
        "SELECT key, name, (SELECT COUNT(*) FROM templates WHERE templates.subject = subjects.key) FROM subjects "
        f"WHERE gallery = :gallery AND key > :after AND NOT ({_SINGLE}) ORDER BY key LIMIT :limit",
        _parameters(connection, gallery, form) | {"after": after, "limit": limit},
    ).fetchall()


def _parameters(connection: sqlite3.Connection, gallery: Gallery, form: TemplateName) -> dict[str, int | str]:
    """Return the parameters of queries, and let SQL compare names with sources."""
    connection.create_function("is_named_after", 2, form.names, deterministic=True)
    return {"gallery": gallery.key, "first": form.beginning, "last": form.beginning + _LAST}
