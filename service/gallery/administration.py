"""Galleries and subjects as things with names: made, listed, renamed, joined."""

from dataclasses import replace

from service.gallery.galleries import Galleries
from service.gallery.names import clean_name
from service.gallery.records import Gallery, IndexKind, Metadata, Subject, Template
from service.gallery.store import gallery_rows, subject_rows, template_rows


def create_gallery(
    galleries: Galleries,
    name: str,
    index: IndexKind = "auto",
    keep_crops: bool = False,
    metadata: Metadata | None = None,
    min_quality: float | None = None,
) -> Gallery:
    """Make a gallery under the contract that is served.

    Raises:
        NameInvalid, GalleryExists: It cannot have that name.
    """
    name = clean_name(name, "gallery")
    with galleries.database.exclusive():
        with galleries.changing() as connection:
            gallery = gallery_rows.add(
                connection,
                name,
                galleries.served_contract(),
                galleries.dimensions,
                index,
                keep_crops,
                metadata or {},
                min_quality or 0.0,
            )
        galleries.begin(gallery).build()  # of nothing
    return gallery


def read_gallery(galleries: Galleries, name: str) -> tuple[Gallery, int, int]:
    """Read a gallery of any contract, and count its subjects and templates.

    Raises:
        GalleryUnknown: There is none of that name.
    """
    with galleries.database.reading() as connection:
        gallery = gallery_rows.find(connection, name)
        return gallery, subject_rows.count(connection, gallery), template_rows.count(connection, gallery)


def list_galleries(galleries: Galleries, after: str, limit: int) -> list[tuple[Gallery, int, int]]:
    """Read galleries by name, beginning behind one, with their counts of subjects and templates."""
    with galleries.database.reading() as connection:
        return [
            (gallery, subject_rows.count(connection, gallery), template_rows.count(connection, gallery))
            for gallery in gallery_rows.page(connection, after, limit)
        ]


def change_gallery(
    galleries: Galleries,
    name: str,
    new_name: str | None = None,
    index: IndexKind | None = None,
    metadata: Metadata | None = None,
    min_quality: float | None = None,
) -> Gallery:
    """Change what is given; another kind of index is built in the background.

    Raises:
        GalleryUnknown: There is none of that name.
        NameInvalid, GalleryExists: It cannot have the new name.
    """
    new_name = None if new_name is None else clean_name(new_name, "gallery")
    with galleries.database.exclusive():
        with galleries.changing() as connection:
            found = gallery_rows.find(connection, name)
            gallery = gallery_rows.change(connection, found, new_name, index, metadata, min_quality)
        live = galleries.live(gallery)
        live.gallery = gallery
    if live.outdated:
        galleries.rebuild(live)
    return gallery


def create_subject(galleries: Galleries, gallery: str, name: str, metadata: Metadata | None = None) -> Subject:
    """Make a subject without templates.

    Raises:
        GalleryUnknown: There is no such gallery.
        NameInvalid, SubjectExists: It cannot have that name.
    """
    name = clean_name(name, "subject")
    with galleries.changing() as connection:
        return subject_rows.add(connection, gallery_rows.find(connection, gallery), name, metadata or {})


def read_subject(galleries: Galleries, gallery: str, name: str) -> tuple[Subject, list[Template]]:
    """Read a subject and what is known of its templates.

    Raises:
        GalleryUnknown, SubjectUnknown: It is not there.
    """
    with galleries.database.reading() as connection:
        subject = subject_rows.find(connection, gallery_rows.find(connection, gallery), name)
        return subject, template_rows.of_subject(connection, subject)


def list_subjects(galleries: Galleries, gallery: str, after: str, limit: int) -> list[Subject]:
    """Read subjects by name, beginning behind one.

    Raises:
        GalleryUnknown: There is no such gallery.
    """
    with galleries.database.reading() as connection:
        return subject_rows.page(connection, gallery_rows.find(connection, gallery), after, limit)


def change_subject(
    galleries: Galleries, gallery: str, name: str, new_name: str | None = None, metadata: Metadata | None = None
) -> Subject:
    """Change what is given.

    Raises:
        GalleryUnknown, SubjectUnknown: It is not there.
        NameInvalid, SubjectExists: It cannot have the new name.
    """
    new_name = None if new_name is None else clean_name(new_name, "subject")
    with galleries.changing() as connection:
        where = gallery_rows.find(connection, gallery)
        return subject_rows.change(connection, where, subject_rows.find(connection, where, name), new_name, metadata)


def merge_subjects(galleries: Galleries, gallery: str, into: str, other: str) -> Subject:
    """Give a subject all templates of another, which is no more afterwards.

    Raises:
        GalleryUnknown, SubjectUnknown: One is not there.
        SubjectExists: Both are the same.
    """
    with galleries.database.exclusive():
        with galleries.changing() as connection:
            where = gallery_rows.find(connection, gallery)
            subject, gone = subject_rows.find(connection, where, into), subject_rows.find(connection, where, other)
            subject_rows.require_two(subject, gone)
            moved = subject_rows.merge(connection, subject, gone)
        galleries.live(where).reassigned(moved, subject.key)
    return replace(subject, template_count=subject.template_count + len(moved))
