"""Rows of the table `former_subjects`, and what they say of an erasure: which rows of a backup it must reach."""

import sqlite3
from collections.abc import Iterable, Sequence

from service.gallery.erased_keys import ErasedKeys, in_ranges
from service.gallery.store.slices import slices


def note_moved(connection: sqlite3.Connection, templates: Sequence[int], subject: int) -> None:
    """Record that templates, given by key, belonged to a subject, before they are moved from it."""
    connection.executemany(
        "INSERT OR IGNORE INTO former_subjects (template, subject) VALUES (?, ?)",
        [(template, subject) for template in templates],
    )


def keys_of_erased_subject(
    connection: sqlite3.Connection, subject: int, merged: Sequence[int], templates: Sequence[int]
) -> ErasedKeys:
    """Return what the erasure of a subject must reach in a backup.

    Templates that were moved from the subject live on, so a backup keeps them, although it still has them there. It
    also keeps a subject that was merged into this one, if its templates were all moved on. If some of them are erased
    now, the data key that they were encrypted with is destroyed, also if others need it: an erasure comes first.

    Args:
        connection: Connection with an open transaction, before the rows are removed.
        subject: Key of the erased subject.
        merged: Keys of the subjects that were merged into it.
        templates: Keys of its templates, which are erased with it.
    """
    moved = _moved_from(connection, [subject, *merged], templates)
    if not templates and moved.get(subject):
        parted = [one for one in (subject, *merged) if one == subject or not moved.get(one)]
        return ErasedKeys(parted=tuple(parted))
    held = _gone(connection, _former(connection, templates))
    moved |= _moved_from(connection, held, templates)
    merged_wholly = [one for one in merged if one in held or not moved.get(one)]
    subjects = list(dict.fromkeys([subject, *merged_wholly, *held]))
    spared = {template for one in subjects for template in moved.get(one, ())}
    return ErasedKeys(subjects=tuple(subjects), templates=in_ranges(templates), spared=in_ranges(list(spared)))


def keys_of_erased_template(connection: sqlite3.Connection, template: int) -> ErasedKeys:
    """Return what the erasure of one template must reach in a backup.

    A subject that it belonged to before, and that would have no template left, would be a name without a person.

    Args:
        connection: Connection with an open transaction, before the row is removed.
        template: Key of the template.
    """
    former = _gone(connection, _former(connection, [template]))
    moved = _moved_from(connection, former, [template])
    parted = [one for one in former if not moved.get(one)]
    return ErasedKeys(templates=((template, template),), parted=tuple(parted))


def _former(connection: sqlite3.Connection, templates: Sequence[int]) -> list[int]:
    """Return the subjects that templates belonged to before."""
    found: dict[int, None] = {}
    for part, marks in slices(templates):
        query = f"SELECT DISTINCT subject FROM former_subjects WHERE template IN ({marks}) ORDER BY subject"
        found.update((subject, None) for (subject,) in connection.execute(query, tuple(part)))
    return list(found)


def _gone(connection: sqlite3.Connection, subjects: Sequence[int]) -> list[int]:
    """Return those of some subjects that were merged or erased."""
    left: set[int] = set()
    for part, marks in slices(subjects):
        left |= {key for (key,) in connection.execute(f"SELECT key FROM subjects WHERE key IN ({marks})", tuple(part))}
    return [subject for subject in subjects if subject not in left]


def _moved_from(connection: sqlite3.Connection, subjects: Sequence[int], without: Iterable[int]) -> dict[int, set[int]]:
    """Return the templates that were moved from subjects and live on, without some templates."""
    erased = set(without)
    found: dict[int, set[int]] = {}
    for part, marks in slices(subjects):
        query = f"SELECT subject, template FROM former_subjects WHERE subject IN ({marks})"
        for subject, template in connection.execute(query, tuple(part)):
            if template not in erased:
                found.setdefault(subject, set()).add(template)
    return found
