"""Letting go: out of every answer at once, and out of every file."""

from dataclasses import replace

from service.gallery.galleries import Galleries
from service.gallery.records import Gallery, Receipt
from service.gallery.store import gallery_rows, subject_rows, template_rows


def erase_gallery(galleries: Galleries, name: str) -> Receipt:
    """Erase a gallery with all it holds.

    Raises:
        GalleryUnknown: There is none of that name.
    """
    with galleries.database.exclusive():
        with galleries.changing() as connection:
            gallery = gallery_rows.find(connection, name)
            receipt = gallery_rows.remove(connection, gallery)
        galleries.drop(gallery)
        return replace(receipt, log_cut=galleries.truncate_log())


def erase_subject(galleries: Galleries, gallery: str, name: str) -> Receipt:
    """Erase a subject with all its templates and crops.

    When this returns, no answer has the subject. Its bytes were overwritten in the store, the log was cut, and a
    snapshot that had them is gone; `audit` makes sure of it.

    Raises:
        GalleryUnknown, SubjectUnknown: It is not there.
    """
    with galleries.database.exclusive():
        with galleries.changing() as connection:
            where = gallery_rows.find(connection, gallery)
            receipt, templates = subject_rows.remove(connection, subject_rows.find(connection, where, name))
        return replace(receipt, log_cut=_erase_from_index(galleries, where, templates))


def erase_template(galleries: Galleries, gallery: str, subject: str, key: int) -> Receipt:
    """Erase one template of a subject.

    Raises:
        GalleryUnknown, SubjectUnknown, TemplateUnknown: It is not there.
    """
    with galleries.database.exclusive():
        with galleries.changing() as connection:
            where = gallery_rows.find(connection, gallery)
            receipt = template_rows.remove(connection, subject_rows.find(connection, where, subject), key)
        return replace(receipt, log_cut=_erase_from_index(galleries, where, [key]))


def _erase_from_index(galleries: Galleries, gallery: Gallery, templates: list[int]) -> bool:
    live = galleries.live(gallery)
    live.removed(templates)
    if live.current is not None and (live.outdated or live.needs_snapshot):
        galleries.rebuild(live)
    return galleries.truncate_log()
