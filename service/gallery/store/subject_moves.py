"""Merging, separating and erasing of subjects: changes that move or remove their templates."""

import sqlite3
from itertools import chain, count

from service.errors import SubjectUnknown
from service.gallery.records import Gallery, OwnedTemplate, Receipt, Subject
from service.gallery.store.contents import StoreConnection
from service.gallery.store.former_subjects import keys_of_erased_subject, note_moved
from service.gallery.store.gallery_rows import note_erasure
from service.gallery.store.reencryption import give_contents
from service.gallery.store.subject_rows import add, find, find_by_key

_EARLIEST = "CASE WHEN :expires IS NULL THEN expires ELSE MIN(COALESCE(expires, :expires), :expires) END"
"""What was to be erased with its former subject is erased at that time."""


def merge(connection: StoreConnection, into: Subject, other: Subject) -> list[int]:
    """Move all templates of `other` to `into`, remove `other`, and return the keys of the moved templates."""
    moved = [
        key for (key,) in connection.execute("SELECT key FROM templates WHERE subject = ? ORDER BY key", (other.key,))
    ]
    give_contents(connection, other.key, into.key)
    note_moved(connection, moved, other.key)
    connection.execute(
        f"UPDATE templates SET subject = :into, expires = {_EARLIEST} WHERE subject = :other",
        {"into": into.key, "other": other.key, "expires": other.expires},
    )
    connection.execute("UPDATE merged_subjects SET subject = ? WHERE subject = ?", (into.key, other.key))
    connection.execute("INSERT INTO merged_subjects (key, subject) VALUES (?, ?)", (other.key, into.key))
    connection.execute("DELETE FROM subjects WHERE key = ?", (other.key,))
    return moved


def separate(connection: StoreConnection, gallery: Gallery, template: OwnedTemplate, name: str) -> Subject:
    """Move a template from its subject to one that has no other, and return that.

    Args:
        connection: Connection with an open transaction.
        gallery: Gallery of the template.
        template: The template.
        name: Name of its new subject; if another subject has it, a number follows.
    """
    former = find_by_key(connection, template.subject_key)
    name = free_name(connection, gallery, name)
    try:
        new = find(connection, gallery, name)
    except SubjectUnknown:
        new = add(connection, gallery, name, {})
    give_contents(connection, former.key, new.key, template.key)
    note_moved(connection, [template.key], former.key)
    connection.execute(
        f"UPDATE templates SET subject = :new, expires = {_EARLIEST} WHERE key = :key",
        {"new": new.key, "key": template.key, "expires": former.expires},
    )
    return find_by_key(connection, new.key)


def free_name(connection: StoreConnection, gallery: Gallery, name: str) -> str:
    """Return a name, or the first one with a number behind it, that no subject has but one without any contents.

    A subject that expires is not taken, because what joins it would be erased with it.
    """
    candidates = chain([name], (f"{name} {number}" for number in count(2)))
    return next(candidate for candidate in candidates if _is_free(connection, gallery, candidate))


def _is_free(connection: StoreConnection, gallery: Gallery, name: str) -> bool:
    try:
        subject = find(connection, gallery, name)
    except SubjectUnknown:
        return True
    return not subject.template_count and not subject.metadata and subject.expires is None


def remove(connection: sqlite3.Connection, subject: int) -> tuple[Receipt, list[int]]:
    """Erase a subject, given by key, with its templates; return the receipt and the keys of the erased templates."""
    rows = connection.execute(
        "SELECT key, EXISTS (SELECT 1 FROM crops WHERE template = templates.key) FROM templates WHERE subject = ?",
        (subject,),
    ).fetchall()
    merged = [key for (key,) in connection.execute("SELECT key FROM merged_subjects WHERE subject = ?", (subject,))]
    templates = [key for key, _ in rows]
    keys = keys_of_erased_subject(connection, subject, merged, templates)
    connection.execute("DELETE FROM subjects WHERE key = ?", (subject,))
    receipt = note_erasure(connection, "subject", 1, len(rows), sum(has_crop for _, has_crop in rows), keys)
    return receipt, templates
