"""Templates into a gallery: each source once, told when it is on the disk."""

from collections.abc import Sequence

from service.gallery.galleries import Galleries
from service.gallery.names import clean_name
from service.gallery.records import Metadata, NewTemplate, Stored
from service.gallery.store import subject_rows, template_rows


def store_templates(
    galleries: Galleries,
    gallery: str,
    entries: Sequence[tuple[str, NewTemplate]],
    metadata: dict[str, Metadata] | None = None,
) -> list[Stored]:
    """Store templates in one transaction; subjects that are not there are made.

    Args:
        galleries: Where.
        gallery: Its name.
        entries: Name of the subject and template.
        metadata: Subjects that are made if they are not there, even without a template, and what is noted with them.

    Returns:
        What became of each, in order. On the disk when this returns.

    Raises:
        GalleryUnknown, ContractMismatch: The gallery cannot take them.
        NameInvalid: A subject cannot have its name.
        StorageFull: Nothing was stored.
    """
    names = [clean_name(name, "subject") for name, _ in entries]
    with galleries.database.exclusive():
        with galleries.changing() as connection:
            where = galleries.find(connection, gallery)
            before = subject_rows.newest(connection)
            keys = subject_rows.add_missing(connection, where, {**{name: {} for name in names}, **(metadata or {})})
            stored, block = template_rows.add(
                connection, where, [(keys[name], entry) for name, (_, entry) in zip(names, entries, strict=True)]
            )
            refused = [keys[name] for name, one in zip(names, stored, strict=True) if one.outcome == "refused"]
            subject_rows.remove_empty(connection, refused, before)
        live = galleries.live(where)
        live.added(block)
    if live.outdated or live.needs_snapshot:
        galleries.rebuild(live)
    return stored


def known_sources(galleries: Galleries, gallery: str, sources: Sequence[bytes]) -> dict[bytes, Stored]:
    """Say which sources the gallery has already, and whose they are.

    Raises:
        GalleryUnknown, ContractMismatch: The gallery cannot be asked.
    """
    with galleries.database.reading() as connection:
        return template_rows.known_sources(connection, galleries.find(connection, gallery), sources)
