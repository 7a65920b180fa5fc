"""Erasure of galleries, subjects and templates from all answers and all files.

An erasure takes the deadline of its request. If the request ends while the erasure waits for other writers, nothing is
erased, and `DeadlineExceeded` or `RequestCancelled` is raised.
"""

from collections.abc import Sequence
from dataclasses import replace

from models.deadline import Deadline
from service.gallery.galleries import Galleries
from service.gallery.records import Gallery, OwnedTemplate, Receipt
from service.gallery.store import gallery_rows, owned_rows, subject_moves, subject_rows, template_rows


def erase_gallery(galleries: Galleries, name: str, deadline: Deadline | None = None) -> Receipt:
    """Erase a gallery with all its contents.

    Raises:
        GalleryUnknown: No gallery has this name.
    """
    with galleries.database.exclusive(deadline):
        with galleries.database.writing() as connection:
            gallery = gallery_rows.find(connection, name)
            receipt = gallery_rows.remove(connection, gallery)
        galleries.drop(gallery)
        galleries.complete_erasures()
        return replace(receipt, log_cut=galleries.truncate_log())


def erase_subject(galleries: Galleries, gallery: str, name: str, deadline: Deadline | None = None) -> Receipt:
    """Erase a subject with all its templates and crops.

    When this returns, no answer contains the subject, its bytes in the store are overwritten, and a snapshot that
    contained it is removed. `log_cut` of the receipt reports whether the write-ahead log was truncated.
    `check_erasure` verifies all of this.

    Raises:
        GalleryUnknown: No gallery has this name.
        SubjectUnknown: The gallery has no subject with this name.
    """
    with galleries.database.exclusive(deadline):
        with galleries.database.writing() as connection:
            found = gallery_rows.find(connection, gallery)
            receipt, templates = subject_moves.remove(connection, subject_rows.require_key(connection, found, name))
        return replace(receipt, log_cut=erase_from_index(galleries, found, templates))


def erase_template(
    galleries: Galleries, gallery: str, subject: str, key: int, deadline: Deadline | None = None
) -> Receipt:
    """Erase one template of a subject.

    Raises:
        GalleryUnknown: No gallery has this name.
        SubjectUnknown: The gallery has no subject with this name.
        TemplateUnknown: The subject has no template with this key.
    """
    with galleries.database.exclusive(deadline):
        with galleries.database.writing() as connection:
            found = gallery_rows.find(connection, gallery)
            receipt = template_rows.remove(connection, subject_rows.require_key(connection, found, subject), key)
        return replace(receipt, log_cut=erase_from_index(galleries, found, [key]))


def erase_subjects(
    galleries: Galleries, gallery: str, deadline: Deadline | None = None, names: Sequence[str] | None = None
) -> list[Receipt]:
    """Erase subjects of a gallery in one transaction, each with a receipt of its own.

    Args:
        galleries: Galleries of the data directory.
        gallery: Name of the gallery.
        deadline: Deadline of the request.
        names: Names of the subjects; None for all.

    Raises:
        GalleryUnknown: No gallery has this name.
        SubjectUnknown: The gallery has no subject with one of the names; nothing was erased.
    """
    with galleries.database.exclusive(deadline):
        with galleries.database.writing() as connection:
            found = gallery_rows.find(connection, gallery)
            if names is None:
                keys = subject_rows.keys_of(connection, found)
            else:
                keys = [subject_rows.require_key(connection, found, name) for name in names]
            erased = [subject_moves.remove(connection, key) for key in keys]
        log_cut = erase_from_index(galleries, found, [key for _, templates in erased for key in templates])
    return [replace(receipt, log_cut=log_cut) for receipt, _ in erased]


def erase_owners(
    galleries: Galleries, gallery: str, templates: Sequence[OwnedTemplate], deadline: Deadline | None = None
) -> list[OwnedTemplate]:
    """Erase the subjects of templates in one transaction, unless a template was moved or erased meanwhile.

    The caller excludes other writers if no other template may be erased with them.

    Returns:
        The templates whose subjects were erased.

    Raises:
        GalleryUnknown: No gallery has this name.
    """
    with galleries.database.exclusive(deadline):
        with galleries.database.writing() as connection:
            found = gallery_rows.find(connection, gallery)
            now = owned_rows.by_key(connection, found, [template.key for template in templates])
            left = [one for one in templates if one.key in now and now[one.key].subject_key == one.subject_key]
            erased = [
                subject_moves.remove(connection, owner) for owner in dict.fromkeys(one.subject_key for one in left)
            ]
        erase_from_index(galleries, found, [key for _, keys in erased for key in keys])
    return left


def erase_templates(
    galleries: Galleries, gallery: str, templates: Sequence[OwnedTemplate], deadline: Deadline | None = None
) -> list[OwnedTemplate]:
    """Erase templates in one transaction, and return those that were still there.

    Raises:
        GalleryUnknown: No gallery has this name.
    """
    with galleries.database.exclusive(deadline):
        with galleries.database.writing() as connection:
            found = gallery_rows.find(connection, gallery)
            left = list(owned_rows.by_key(connection, found, [template.key for template in templates]).values())
            for template in left:
                template_rows.remove(connection, template.subject_key, template.key)
        erase_from_index(galleries, found, [template.key for template in left])
    return left


def erase_from_index(galleries: Galleries, gallery: Gallery, templates: list[int]) -> bool:
    """Remove erased templates from the index and return whether the write-ahead log was truncated."""
    live = galleries.live(gallery)
    live.apply_removed(templates)
    galleries.complete_erasures()  # after the index, so that no failure leaves who was erased in answers
    if live.current is not None and (live.outdated or live.needs_snapshot):
        galleries.rebuild(live)
    return galleries.truncate_log()
