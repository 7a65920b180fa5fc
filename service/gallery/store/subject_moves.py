"""Merging, separating and erasing of subjects: changes that move or remove their templates."""

import sqlite3

from service.gallery.erased_keys import ErasedKeys, in_ranges
from service.gallery.records import Gallery, OwnedTemplate, Receipt, Subject
from service.gallery.store.contents import StoreConnection
from service.gallery.store.gallery_rows import note_erasure
from service.gallery.store.reencryption import give_contents
from service.gallery.store.subject_rows import add, find


def merge(connection: StoreConnection, into: Subject, other: Subject) -> list[int]:
    """Move all templates of `other` to `into`, remove `other`, and return the keys of the moved templates."""
    moved = [
        key for (key,) in connection.execute("SELECT key FROM templates WHERE subject = ? ORDER BY key", (other.key,))
    ]
    give_contents(connection, other.key, into.key)
    connection.execute(  # what was to be erased with `other` is erased at that time
        "UPDATE templates SET subject = :into, expires = CASE WHEN :expires IS NULL THEN expires "
        "ELSE MIN(COALESCE(expires, :expires), :expires) END WHERE subject = :other",
        {"into": into.key, "other": other.key, "expires": other.expires},
    )
    connection.execute("UPDATE merged_subjects SET subject = ? WHERE subject = ?", (into.key, other.key))
    connection.execute("INSERT INTO merged_subjects (key, subject) VALUES (?, ?)", (other.key, into.key))
    connection.execute("DELETE FROM subjects WHERE key = ?", (other.key,))
    return moved


def separate(connection: StoreConnection, gallery: Gallery, template: OwnedTemplate, name: str) -> Subject:
    """Move a template from its subject to a new subject, and return that.

    Raises:
        SubjectExists: The gallery already has a subject with this name.
    """
    new = add(connection, gallery, name, {})
    give_contents(connection, template.subject_key, new.key, template.key)
    connection.execute("UPDATE templates SET subject = ? WHERE key = ?", (new.key, template.key))
    return find(connection, gallery, name)


def remove(connection: sqlite3.Connection, subject: int) -> tuple[Receipt, list[int]]:
    """Erase a subject, given by key, with its templates; return the receipt and the keys of the erased templates."""
    rows = connection.execute(
        "SELECT key, EXISTS (SELECT 1 FROM crops WHERE template = templates.key) FROM templates WHERE subject = ?",
        (subject,),
    ).fetchall()
    merged = [key for (key,) in connection.execute("SELECT key FROM merged_subjects WHERE subject = ?", (subject,))]
    connection.execute("DELETE FROM subjects WHERE key = ?", (subject,))
    templates = [key for key, _ in rows]
    keys = ErasedKeys(subjects=(subject, *merged), templates=in_ranges(templates))
    receipt = note_erasure(connection, "subject", 1, len(rows), sum(has_crop for _, has_crop in rows), keys)
    return receipt, templates
