"""Reading of templates one by one: by the beginning of their source, page by page, with their crops and metadata."""

from collections.abc import Sequence

from service.errors import CropMissing, TemplateUnknown
from service.gallery.galleries import Galleries
from service.gallery.records import Metadata, OwnedTemplate, Subject
from service.gallery.store import attachments, gallery_rows, owned_rows, subject_rows, template_rows


def find_templates(galleries: Galleries, gallery: str, prefixes: Sequence[bytes]) -> list[OwnedTemplate]:
    """Read the templates whose source begins with one of the prefixes, in the order of the prefixes.

    Raises:
        GalleryUnknown: No gallery has this name.
    """
    with galleries.database.reading() as connection:
        return owned_rows.by_source_prefix(connection, gallery_rows.find(connection, gallery), prefixes)


def list_templates(
    galleries: Galleries,
    gallery: str,
    limit: int,
    after: int = 0,
    skip: int = 0,
    subject: Subject | None = None,
) -> tuple[list[OwnedTemplate], int]:
    """Read templates sorted by key, and the number of all.

    Args:
        galleries: Galleries of the data directory.
        gallery: Name of the gallery.
        limit: Maximum number of templates; -1 for no limit.
        after: Key after which to start.
        skip: Number of templates to skip.
        subject: Subject of the templates; None for all.

    Raises:
        GalleryUnknown: No gallery has this name.
    """
    with galleries.database.reading() as connection:
        found = gallery_rows.find(connection, gallery)
        if subject is None:
            total = template_rows.count(connection, found)
        else:
            total = template_rows.counts(connection, [subject.key]).get(subject.key, 0)
        return owned_rows.page(connection, found, limit, after, skip, subject), total


def measured_subjects(galleries: Galleries, subjects: Sequence[int]) -> set[int]:
    """Return the subjects that have a template for which the error rates of a calibration hold."""
    with galleries.database.reading() as connection:
        return template_rows.measured_subjects(connection, subjects)


def crop_of_template(galleries: Galleries, gallery: str, template: OwnedTemplate) -> bytes | None:
    """Read the crop of a template, a PNG file; None if it is not stored.

    Raises:
        GalleryUnknown: No gallery has this name.
    """
    with galleries.database.reading() as connection:
        return attachments.crop_of(connection, gallery_rows.find(connection, gallery), template.key)


def read_crop(galleries: Galleries, gallery: str, subject: str, template: int) -> bytes:
    """Read the crop of a template of a subject, a PNG file.

    Args:
        galleries: Galleries of the data directory.
        gallery: Name of the gallery.
        subject: Name of the subject.
        template: Key of the template.

    Raises:
        GalleryUnknown: No gallery has this name.
        SubjectUnknown: The gallery has no subject with this name.
        TemplateUnknown: The subject has no template with this key.
        CropMissing: The crop is not stored.
    """
    with galleries.database.reading() as connection:
        found = gallery_rows.find(connection, gallery)
        owner = subject_rows.require_key(connection, found, subject)
        owned = owned_rows.by_key(connection, found, [template]).get(template)
        if owned is None or owned.subject_key != owner:
            raise TemplateUnknown("the subject has no template with this number")
        crop = attachments.crop_of(connection, found, template)
    if crop is None:
        raise CropMissing("the aligned crop of this template is not stored; a gallery keeps crops with `keep_crops`")
    return crop


def metadata_of_templates(galleries: Galleries, gallery: str, keys: Sequence[int]) -> dict[int, Metadata]:
    """Read the metadata of templates by key; those without any are missing from the answer.

    Raises:
        GalleryUnknown: No gallery has this name.
    """
    with galleries.database.reading() as connection:
        return attachments.metadata_of(connection, gallery_rows.find(connection, gallery), keys)
