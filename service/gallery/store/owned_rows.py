"""Templates together with the names of their subjects, found by digest, by key or page by page."""

import sqlite3
from collections.abc import Sequence

from service.gallery.records import Gallery, OwnedTemplate, Subject
from service.gallery.store.slices import slices

SOURCE_BYTES = 32

_SELECT = (
    "SELECT templates.key, source, subject, subjects.name, templates.created, quality FROM templates "
    "JOIN subjects ON subjects.key = subject WHERE templates.gallery = ?"
)


def by_source_prefix(
    connection: sqlite3.Connection, gallery: Gallery, prefixes: Sequence[bytes]
) -> list[OwnedTemplate]:
    """Read the templates whose source begins with one of the prefixes, in the order of the prefixes.

    A prefix of 16 bytes is as unique as a UUID. The SQL index of sources finds each without a scan.
    """
    found = []
    for prefix in prefixes:
        last = prefix + b"\xff" * (SOURCE_BYTES - len(prefix))
        found += connection.execute(f"{_SELECT} AND source BETWEEN ? AND ?", (gallery.key, prefix, last)).fetchall()
    return [OwnedTemplate(*row) for row in found]


def by_key(connection: sqlite3.Connection, gallery: Gallery, keys: Sequence[int]) -> dict[int, OwnedTemplate]:
    """Read templates by key; erased ones are missing from the answer."""
    found: dict[int, OwnedTemplate] = {}
    for part, marks in slices(keys):
        for row in connection.execute(f"{_SELECT} AND templates.key IN ({marks})", (gallery.key, *part)):
            found[row[0]] = OwnedTemplate(*row)
    return found


def page(
    connection: sqlite3.Connection,
    gallery: Gallery,
    limit: int,
    after: int = 0,
    skip: int = 0,
    subject: Subject | None = None,
) -> list[OwnedTemplate]:
    """Read templates sorted by key.

    Args:
        connection: Connection with an open transaction.
        gallery: Gallery of the templates.
        limit: Maximum number of templates; -1 for no limit.
        after: Key after which to start.
        skip: Number of templates to skip.
        subject: Subject of the templates; None for all.
    """
    of_subject = "" if subject is None else " AND subject = ?"
    rows = connection.execute(
        f"{_SELECT} AND templates.key > ?{of_subject} ORDER BY templates.key LIMIT ? OFFSET ?",
        (gallery.key, after, *([] if subject is None else [subject.key]), limit, skip),
    )
    return [OwnedTemplate(*row) for row in rows]
