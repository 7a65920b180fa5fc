"""Subjects that are named after their only template: reading them, and making templates such subjects again."""

from collections.abc import Sequence

from models.deadline import Deadline
from service.errors import TemplateUnknown
from service.gallery.erasure import erase_from_index
from service.gallery.galleries import Galleries
from service.gallery.records import Gallery, OwnedTemplate, Receipt, Subject, TemplateName
from service.gallery.store import gallery_rows, owned_rows, single_rows, subject_moves, subject_rows
from service.gallery.store.contents import StoreConnection


def count_subjects(galleries: Galleries, gallery: str, form: TemplateName) -> tuple[int, int]:
    """Return the numbers of subjects of a gallery that are named after their only template, and of all others.

    Raises:
        GalleryUnknown: No gallery has this name.
    """
    with galleries.database.reading() as connection:
        found = gallery_rows.find(connection, gallery)
        singles = single_rows.count(connection, found, form)
        return singles, subject_rows.count(connection, found) - singles


def estimate_others(galleries: Galleries, gallery: str, form: TemplateName) -> int:
    """Return the number of all other subjects by their names alone, which takes less time.

    Raises:
        GalleryUnknown: No gallery has this name.
    """
    with galleries.database.reading() as connection:
        found = gallery_rows.find(connection, gallery)
        return subject_rows.count(connection, found) - single_rows.count_named(connection, found, form)


def list_others(
    galleries: Galleries, gallery: str, form: TemplateName, after: int, limit: int
) -> list[tuple[int, str, int]]:
    """Read key, name and number of templates of all other subjects, sorted by key.

    Args:
        galleries: Galleries of the data directory.
        gallery: Name of the gallery.
        form: Form of the names.
        after: Key after which to start.
        limit: Maximum number of subjects.

    Raises:
        GalleryUnknown: No gallery has this name.
    """
    with galleries.database.reading() as connection:
        return single_rows.others(connection, gallery_rows.find(connection, gallery), form, after, limit)


def singles_among(galleries: Galleries, gallery: str, form: TemplateName, subjects: Sequence[int]) -> frozenset[int]:
    """Return those of some subjects, given by key, that are named after their only template.

    Raises:
        GalleryUnknown: No gallery has this name.
    """
    with galleries.database.reading() as connection:
        return single_rows.among(connection, gallery_rows.find(connection, gallery), form, subjects)


def free_names(galleries: Galleries, gallery: str | Gallery, names: Sequence[str]) -> list[str]:
    """Return names, with a number behind those that are taken. The caller excludes other writers.

    Raises:
        GalleryUnknown: No gallery has this name.
    """
    with galleries.database.reading() as connection:
        found = gallery_rows.find(connection, gallery)
        return [subject_moves.free_name(connection, found, name) for name in names]


def separate_templates(
    galleries: Galleries,
    gallery: str,
    templates: Sequence[OwnedTemplate],
    form: TemplateName,
    deadline: Deadline | None = None,
) -> list[Subject]:
    """Move templates from their subjects to subjects that are named after them, in one transaction.

    They expire when their subjects would have expired, if not before.

    Returns:
        The new subject of each template.

    Raises:
        GalleryUnknown: No gallery has this name.
        TemplateUnknown: A template was erased, or was moved to another subject; nothing was moved.
    """
    with galleries.database.exclusive(deadline):
        with galleries.database.writing() as connection:
            found = gallery_rows.find(connection, gallery)
            subjects = _separate(connection, found, templates, form)
        _reassign(galleries, found, templates, subjects)
    return subjects


def dissolve_subject(
    galleries: Galleries, gallery: str, name: str, form: TemplateName, deadline: Deadline | None = None
) -> Receipt:
    """Erase a subject whose templates stay, each as a subject that is named after it, in one transaction.

    Raises:
        GalleryUnknown: No gallery has this name.
        SubjectUnknown: The gallery has no subject with this name.
    """
    with galleries.database.exclusive(deadline):
        with galleries.database.writing() as connection:
            found = gallery_rows.find(connection, gallery)
            subject = subject_rows.find(connection, found, name)
            templates = owned_rows.page(connection, found, -1, subject=subject)
            subjects = _separate(connection, found, templates, form)
            receipt, _ = subject_moves.remove(connection, subject.key)
        _reassign(galleries, found, templates, subjects)
        erase_from_index(galleries, found, [])
    return receipt


def _separate(
    connection: StoreConnection, gallery: Gallery, templates: Sequence[OwnedTemplate], form: TemplateName
) -> list[Subject]:
    now = owned_rows.by_key(connection, gallery, [template.key for template in templates])
    for template in templates:
        if template.key not in now or now[template.key].subject_key != template.subject_key:
            raise TemplateUnknown("the template was erased, or was moved to another subject")
    return [
        subject_moves.separate(connection, gallery, template, form.name_of(template.source)) for template in templates
    ]


def _reassign(
    galleries: Galleries, gallery: Gallery, templates: Sequence[OwnedTemplate], subjects: Sequence[Subject]
) -> None:
    live = galleries.live(gallery)
    for template, subject in zip(templates, subjects, strict=True):
        live.apply_reassigned([template.key], subject.key)
