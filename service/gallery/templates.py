"""Storing templates: each source once per gallery, durable on return."""

from collections.abc import Sequence

from models.deadline import Deadline
from service.gallery.galleries import Galleries
from service.gallery.names import clean_name
from service.gallery.records import Metadata, NewTemplate, StoreOutcome
from service.gallery.store import subject_rows, template_rows


def store_templates(
    galleries: Galleries,
    gallery: str,
    entries: Sequence[tuple[str, NewTemplate]],
    metadata: dict[str, Metadata] | None = None,
    deadline: Deadline | None = None,
) -> list[StoreOutcome]:
    """Store templates in one transaction; create missing subjects.

    Args:
        galleries: Galleries of the data directory.
        gallery: Name of the gallery.
        entries: Pairs of subject name and template.
        metadata: Subjects to create if missing, even without a template, with their metadata. The metadata of existing
            subjects does not change.
        deadline: Deadline of the request.

    Returns:
        The outcome of each entry, in order. All of it is on the disk when this returns.

    Raises:
        GalleryUnknown: No gallery has this name.
        ContractMismatch: The gallery holds embeddings of another contract than the loaded model.
        NameInvalid: A subject's name is invalid.
        RequestCancelled: The client disconnected while other writers were busy; nothing was stored.
        DeadlineExceeded: The deadline passed while other writers were busy; nothing was stored.
        StorageFull: The disk is full; nothing was stored.
    """
    names = [clean_name(name, "subject") for name, _ in entries]
    with galleries.database.exclusive(deadline):
        with galleries.database.writing() as connection:
            found = galleries.find(connection, gallery)
            before = subject_rows.newest(connection)
            keys = subject_rows.add_missing(connection, found, {**{name: {} for name in names}, **(metadata or {})})
            stored, block = template_rows.add(
                connection, found, [(keys[name], entry) for name, (_, entry) in zip(names, entries, strict=True)]
            )
            refused = [
                keys[name] for name, template in zip(names, stored, strict=True) if template.outcome == "refused"
            ]
            subject_rows.remove_empty(connection, refused, before)
        live = galleries.live(found)
        live.apply_added(block)
    if live.outdated or live.needs_snapshot:
        galleries.rebuild(live)
    return stored


def known_sources(galleries: Galleries, gallery: str, sources: Sequence[bytes]) -> dict[bytes, StoreOutcome]:
    """Return the stored template of each source that the gallery already has.

    Raises:
        GalleryUnknown: No gallery has this name.
        ContractMismatch: The gallery holds embeddings of another contract than the loaded model.
    """
    with galleries.database.reading() as connection:
        return template_rows.known_sources(connection, galleries.find(connection, gallery), sources)
