"""Expiry: what its owner wanted to be kept for a time only is erased by itself, like any erasure."""

import json
from collections.abc import Iterator
from typing import NamedTuple

from service.gallery.erasure import erase_from_index
from service.gallery.galleries import Galleries
from service.gallery.records import Receipt
from service.gallery.store import due_rows, gallery_rows, subject_moves, subject_rows, template_rows

_AT_ONCE = 200  # erasures while other writers wait


class Expired(NamedTuple):
    """Something that was erased because its time had come.

    Attributes:
        gallery: Name of the gallery.
        pseudonym: Pseudonym of the subject.
        receipt: Receipt of the erasure.
    """

    gallery: str
    pseudonym: str
    receipt: Receipt


class Due(NamedTuple):
    """Something that will expire.

    Attributes:
        gallery, subject: Names.
        expires: Seconds since 1970 at which the first of it is erased.
        template_count: Number of templates that expire; 0 if the subject expires as a whole.
    """

    gallery: str
    subject: str
    expires: float
    template_count: int


def erase_expired(galleries: Galleries, now: float) -> Iterator[list[Expired]]:
    """Erase what has expired, a bounded number at a time, and yield each part when it is erased.

    A subject is erased with its last template.

    Args:
        galleries: The open galleries.
        now: Seconds since 1970.

    Raises:
        StorageFull: The disk is full.
        StoreBusy: Another program has locked the store.
        StoreFailed: The file system refused a read or write.
    """
    while part := _erase_some(galleries, now):
        yield part


def due_until(galleries: Galleries, until: float) -> list[Due]:
    """Return what expires until a time, in seconds since 1970, soonest first."""
    with galleries.database.reading() as connection:
        return [Due(*row) for row in due_rows.next_due(connection, until)]


def subjects_lacking(galleries: Galleries, gallery: str, member: str) -> list[str]:
    """Return the names of the subjects of a gallery whose metadata lack a member, such as `consent`, or have it empty.

    Raises:
        GalleryUnknown: No gallery has this name.
    """
    with galleries.database.reading() as connection:
        subjects = subject_rows.all_of(connection, gallery_rows.find(connection, gallery))
    return sorted(name for name, text, *_ in subjects.values() if json.loads(text).get(member) in (None, ""))


def _erase_some(galleries: Galleries, now: float) -> list[Expired]:
    expired: list[Expired] = []
    erased: dict[int, list[int]] = {}  # keys of templates by key of gallery
    with galleries.database.exclusive():
        with galleries.database.writing() as connection:
            subjects = set(due_rows.due_subjects(connection, now, _AT_ONCE))
            templates = due_rows.due_templates(connection, now, _AT_ONCE - len(subjects))
            subjects |= set(due_rows.subjects_without_others(connection, templates))
            names = gallery_rows.names(connection)
            pseudonyms = subject_rows.pseudonyms(
                connection, [due.key for due in subjects] + [due.subject for due in templates]
            )
            for subject in sorted(subjects):
                receipt, keys = subject_moves.remove(connection, subject.key)
                erased.setdefault(subject.gallery, []).extend(keys)
                expired.append(Expired(names[subject.gallery], pseudonyms[subject.key], receipt))
            gone = {subject.key for subject in subjects}
            for due in templates:
                if due.subject not in gone:
                    receipt = template_rows.remove(connection, due.subject, due.key)
                    erased.setdefault(due.gallery, []).append(due.key)
                    expired.append(Expired(names[due.gallery], pseudonyms[due.subject], receipt))
            found = {key: gallery_rows.find(connection, names[key]) for key in erased}
        for key, keys in erased.items():
            erase_from_index(galleries, found[key], keys)
    return expired
