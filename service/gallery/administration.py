"""Creating, listing, changing and merging galleries and subjects.

A change takes the deadline of its request. If the request ends while the change waits for other writers, nothing is
changed, and `DeadlineExceeded` or `RequestCancelled` is raised.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice

from models.deadline import Deadline
from service.gallery.galleries import Galleries
from service.gallery.names import clean_name, lookup_name
from service.gallery.records import Expiry, Gallery, IndexKind, Metadata, Subject, Template
from service.gallery.store import (
    gallery_rows,
    name_search,
    subject_moves,
    subject_rows,
    template_rows,
)


def create_gallery(
    galleries: Galleries,
    name: str,
    index: IndexKind = "auto",
    keep_crops: bool = False,
    metadata: Metadata | None = None,
    min_quality: float | None = None,
    retain_days: float = 0.0,
    deadline: Deadline | None = None,
) -> Gallery:
    """Create a gallery for the embedding contract of the loaded model.

    Raises:
        NameInvalid: The name is invalid.
        GalleryExists: A gallery with this name already exists.
        ContractMismatch: No model is loaded.
    """
    name = clean_name(name, "gallery")
    with galleries.database.exclusive(deadline):
        with galleries.database.writing() as connection:
            gallery = gallery_rows.add(
                connection,
                name,
                galleries.served_contract(),
                galleries.dimensions,
                index,
                keep_crops,
                metadata or {},
                min_quality or 0.0,
                retain_days,
            )
        galleries.register(gallery).build()  # an empty index, which takes no time
    return gallery


def read_gallery(galleries: Galleries, name: str) -> tuple[Gallery, int, int]:
    """Read a gallery of any contract, with its counts of subjects and templates.

    Raises:
        GalleryUnknown: No gallery has this name.
    """
    with galleries.database.reading() as connection:
        gallery = gallery_rows.find(connection, name)
        return gallery, subject_rows.count(connection, gallery), template_rows.count(connection, gallery)


def count_contents(galleries: Galleries, gallery: Gallery) -> tuple[int, int]:
    """Return the numbers of subjects and templates of a gallery that was read or changed before."""
    with galleries.database.reading() as connection:
        return subject_rows.count(connection, gallery), template_rows.count(connection, gallery)


def list_galleries(
    galleries: Galleries, after: str, limit: int, reaches: Callable[[str], bool] = lambda _: True
) -> list[tuple[Gallery, int, int]]:
    """Read galleries sorted by name, with their counts of subjects and templates.

    Args:
        galleries: The open galleries.
        after: Name after which the list begins.
        limit: Maximum length of the list; -1 for no limit.
        reaches: Returns whether the list may contain the gallery of a name.
    """
    with galleries.database.reading() as connection:
        reached = (gallery for gallery in gallery_rows.iterate(connection, after) if reaches(gallery.name))
        return [
            (gallery, subject_rows.count(connection, gallery), template_rows.count(connection, gallery))
            for gallery in islice(reached, None if limit < 0 else limit)
        ]


def change_gallery(
    galleries: Galleries,
    name: str,
    new_name: str | None = None,
    index: IndexKind | None = None,
    metadata: Metadata | None = None,
    min_quality: float | None = None,
    retain_days: float | None = None,
    deadline: Deadline | None = None,
) -> Gallery:
    """Change the given attributes of a gallery; a new kind of index is built in the background.

    Raises:
        GalleryUnknown: No gallery has this name.
        NameInvalid: The new name is invalid.
        GalleryExists: Another gallery has the new name.
    """
    new_name = None if new_name is None else clean_name(new_name, "gallery")
    with galleries.database.exclusive(deadline):
        with galleries.database.writing() as connection:
            found = gallery_rows.find(connection, name)
            gallery = gallery_rows.change(connection, found, new_name, index, metadata, min_quality, retain_days)
        live = galleries.live(gallery)
        live.gallery = gallery
    if live.outdated and galleries.searches(gallery):
        galleries.rebuild(live)
    return gallery


def create_subject(
    galleries: Galleries,
    gallery: str,
    name: str,
    metadata: Metadata | None = None,
    expires: float | None = None,
    deadline: Deadline | None = None,
) -> Subject:
    """Create a subject without templates.

    Raises:
        GalleryUnknown: No gallery has this name.
        NameInvalid: The subject's name is invalid.
        SubjectExists: The gallery already has a subject with this name.
    """
    name = clean_name(name, "subject")
    with galleries.database.writing(deadline) as connection:
        return subject_rows.add(connection, gallery_rows.find(connection, gallery), name, metadata or {}, expires)


def read_subject(
    galleries: Galleries, gallery: str, name: str, after: int = 0, limit: int = -1
) -> tuple[Subject, list[Template]]:
    """Read a subject and the attributes of its templates, oldest first.

    Args:
        galleries: Galleries of the data directory.
        gallery: Name of the gallery.
        name: Name of the subject.
        after: Key of the template after which to start.
        limit: Maximum number of templates; -1 means no limit.

    Raises:
        GalleryUnknown: No gallery has this name.
        SubjectUnknown: The gallery has no subject with this name.
    """
    with galleries.database.reading() as connection:
        subject = subject_rows.find(connection, gallery_rows.find(connection, gallery), name)
        return subject, template_rows.of_subject(connection, subject, after, limit)


def find_subject_ignoring_case(galleries: Galleries, gallery: str, name: str) -> Subject:
    """Read a subject by its name, or the only one whose name differs in case only, if there is none in this spelling.

    Raises:
        GalleryUnknown: No gallery has this name.
        SubjectUnknown: The gallery has no such subject.
        SubjectAmbiguous: The gallery has several such subjects, and none in this spelling.
    """
    with galleries.database.reading() as connection:
        return subject_rows.find_ignoring_case(connection, gallery_rows.find(connection, gallery), name)


def spellings_of_subject(galleries: Galleries, gallery: str, name: str) -> list[str]:
    """Return the names of the subjects that differ from a name in case only, or are the same, sorted.

    Raises:
        GalleryUnknown: No gallery has this name.
    """
    with galleries.database.reading() as connection:
        return subject_rows.spellings(connection, gallery_rows.find(connection, gallery), name)


def list_subjects(galleries: Galleries, gallery: str, after: str, limit: int) -> list[Subject]:
    """Read subjects sorted by name, starting after the name `after`.

    Raises:
        GalleryUnknown: No gallery has this name.
    """
    with galleries.database.reading() as connection:
        return subject_rows.page(connection, gallery_rows.find(connection, gallery), after, limit)


def search_subjects(galleries: Galleries, gallery: str, text: str, after: str, limit: int) -> name_search.Found:
    """Read a page of the subjects whose names contain a text, without regard to case, sorted by name.

    Raises:
        GalleryUnknown: No gallery has this name.
    """
    with galleries.database.reading() as connection:
        found = gallery_rows.find(connection, gallery)
        return name_search.search(connection, found, lookup_name(text), after, limit)


def change_subject(
    galleries: Galleries,
    gallery: str,
    name: str,
    new_name: str | None = None,
    metadata: Metadata | None = None,
    expires: Expiry = None,
    deadline: Deadline | None = None,
) -> Subject:
    """Change the given attributes of a subject.

    Raises:
        GalleryUnknown: No gallery has this name.
        SubjectUnknown: The gallery has no subject with this name.
        NameInvalid: The new name is invalid.
        SubjectExists: Another subject of the gallery has the new name.
    """
    new_name = None if new_name is None else clean_name(new_name, "subject")
    with galleries.database.writing(deadline) as connection:
        found = gallery_rows.find(connection, gallery)
        subject = subject_rows.find(connection, found, name)
        return subject_rows.change(connection, found, subject, new_name, metadata, expires)


def merge_subjects(
    galleries: Galleries, gallery: str, into: str, others: str | Sequence[str], deadline: Deadline | None = None
) -> Subject:
    """Move all templates of other subjects to the subject `into`, and remove these, in one transaction.

    Raises:
        GalleryUnknown: No gallery has this name.
        SubjectUnknown: The gallery lacks one of the subjects.
        SubjectExists: Two names refer to the same subject.
        SubjectFull: The subject would have more templates than allowed.
    """
    moved: list[int] = []
    with galleries.database.exclusive(deadline):
        with galleries.database.writing() as connection:
            found = gallery_rows.find(connection, gallery)
            subject = subject_rows.find(connection, found, into)
            for other in [others] if isinstance(others, str) else others:
                merged = subject_rows.find(connection, found, other)
                subject_rows.require_distinct(subject, merged)
                if subject.template_count + len(moved) + merged.template_count > galleries.max_templates:
                    raise galleries.subject_full()
                moved += subject_moves.merge(connection, subject, merged)
        galleries.live(found).apply_reassigned(moved, subject.key)
    return replace(subject, template_count=subject.template_count + len(moved))
