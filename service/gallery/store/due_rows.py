"""Rows whose time has come: subjects and templates that expire, and templates older than their gallery retains."""

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

from service.gallery.store.slices import slices

_DAY_S = 86400.0


class DueSubject(NamedTuple):
    """A subject to erase, with all its templates."""

    gallery: int
    key: int


class DueTemplate(NamedTuple):
    """A template to erase, which its subject outlives."""

    gallery: int
    subject: int
    key: int


def due_subjects(connection: sqlite3.Connection, now: float, limit: int) -> list[DueSubject]:
    """Read subjects that expire by themselves, and those of retaining galleries that have no template.

    Args:
        connection: Connection with an open transaction.
        now: Seconds since 1970.
        limit: Maximum number of subjects.
    """
    rows = connection.execute(
        "SELECT gallery, key FROM subjects WHERE expires <= :now "
        "UNION SELECT subjects.gallery, subjects.key FROM subjects JOIN galleries ON galleries.key = subjects.gallery "
        "WHERE retain_days > 0 AND subjects.created <= :now - retain_days * :day "
        "AND NOT EXISTS (SELECT 1 FROM templates WHERE templates.subject = subjects.key) LIMIT :limit",
        {"now": now, "day": _DAY_S, "limit": limit},
    )
    return [DueSubject(*row) for row in rows]


def due_templates(connection: sqlite3.Connection, now: float, limit: int) -> list[DueTemplate]:
    """Read templates that expire by themselves, and those that are older than their gallery retains.

    Args:
        connection: Connection with an open transaction.
        now: Seconds since 1970.
        limit: Maximum number of templates.
    """
    found = connection.execute(
        "SELECT gallery, subject, key FROM templates WHERE expires <= ? LIMIT ?", (now, limit)
    ).fetchall()
    for gallery, retain_days in connection.execute("SELECT key, retain_days FROM galleries WHERE retain_days > 0"):
        found += connection.execute(
            "SELECT gallery, subject, key FROM templates WHERE gallery = ? AND created <= ? LIMIT ?",
            (gallery, now - retain_days * _DAY_S, limit),
        ).fetchall()
    return [DueTemplate(*row) for row in dict.fromkeys(found)][:limit]


def subjects_without_others(connection: sqlite3.Connection, templates: list[DueTemplate]) -> Iterator[DueSubject]:
    """Yield the subjects that would have no template left without the given ones."""
    lost: dict[int, int] = {}
    galleries = {template.subject: template.gallery for template in templates}
    for template in templates:
        lost[template.subject] = lost.get(template.subject, 0) + 1
    for part, marks in slices(list(lost)):
        counts = connection.execute(
            f"SELECT subject, COUNT(*) FROM templates WHERE subject IN ({marks}) GROUP BY subject", tuple(part)
        )
        for subject, count in counts:
            if count == lost[subject]:
                yield DueSubject(galleries[subject], subject)


def next_due(connection: sqlite3.Connection, until: float) -> list[tuple[str, str, float, int]]:
    """Read what expires until a time: gallery, subject, time of expiry, and number of templates, soonest first.

    Args:
        connection: Connection with an open transaction.
        until: Seconds since 1970.
    """
    return connection.execute(
        "SELECT galleries.name, subjects.name, MIN(due) AS first, COUNT(DISTINCT template) FROM ("
        "SELECT gallery, key AS subject, NULL AS template, expires AS due FROM subjects WHERE expires <= :until "
        "UNION ALL SELECT gallery, subject, key, expires FROM templates WHERE expires <= :until "
        "UNION ALL SELECT templates.gallery, subject, templates.key, templates.created + retain_days * :day "
        "FROM galleries JOIN templates ON templates.gallery = galleries.key "
        "WHERE retain_days > 0 AND templates.created <= :until - retain_days * :day) AS dues "
        "JOIN subjects ON subjects.key = dues.subject JOIN galleries ON galleries.key = dues.gallery "
        "GROUP BY dues.subject ORDER BY first, galleries.name, subjects.name",
        {"until": until, "day": _DAY_S},
    ).fetchall()
