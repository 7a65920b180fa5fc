"""Storing templates: each source once per gallery, durable on return."""

from collections import Counter
from collections.abc import Collection, Sequence
from sqlite3 import Connection

from models.deadline import Deadline
from service.gallery.galleries import Galleries
from service.gallery.names import clean_name
from service.gallery.records import Gallery, GallerySettings, NewSubject, NewTemplate, StoreOutcome
from service.gallery.store import gallery_rows, subject_rows, template_rows


def store_templates(
    galleries: Galleries,
    gallery: str | Gallery,
    entries: Sequence[tuple[str, NewTemplate]],
    subjects: dict[str, NewSubject] | None = None,
    deadline: Deadline | None = None,
    settings: GallerySettings | None = None,
    newest: int | None = None,
    kept: Collection[str] = (),
    all_fit: bool = False,
) -> list[StoreOutcome]:
    """Store templates in one transaction; create missing subjects, except those whose templates are all refused.

    Args:
        galleries: Galleries of the data directory.
        gallery: Name of the gallery, or the gallery as it was read earlier.
        entries: Pairs of subject name and template.
        subjects: Subjects to create if missing, even without a template. Existing subjects get the members of metadata
            that they lack.
        deadline: Deadline of the request.
        settings: Settings for a gallery without subjects, which keeps those that it has set itself.
        newest: Key of a subject; the metadata of newer subjects is replaced where it differs. None: of none.
        kept: Names of subjects to create even if all their templates are refused.
        all_fit: Whether to store nothing if a subject would have more templates than allowed.

    Returns:
        The outcome of each entry, in order. All of it is on the disk when this returns.

    Raises:
        GalleryUnknown: No gallery has this name, or the gallery was erased.
        ContractMismatch: The gallery holds embeddings of another contract than the loaded model.
        NameInvalid: A subject's name is invalid.
        LineMalformed: A subject would have too much metadata; nothing was stored.
        SubjectFull: `all_fit`, and a subject would have more templates than allowed; nothing was stored.
        RequestCancelled: The client disconnected while other writers were busy; nothing was stored.
        DeadlineExceeded: The deadline passed while other writers were busy; nothing was stored.
        StorageFull: The disk is full; nothing was stored.
    """
    names = [clean_name(name, "subject") for name, _ in entries]
    with galleries.database.exclusive(deadline):
        with galleries.database.writing() as connection:
            found = galleries.find(connection, gallery)
            if settings is not None:
                found = gallery_rows.adopt(connection, found, settings)
            before = subject_rows.newest(connection)
            subjects = dict.fromkeys(names, NewSubject()) | (subjects or {})
            keys = subject_rows.add_missing(connection, found, subjects)
            known = {
                keys[name]: new.metadata for name, new in subjects.items() if new.metadata and keys[name] <= before
            }
            subject_rows.add_metadata(connection, known, before if newest is None else newest)
            new = [(keys[name], entry) for name, (_, entry) in zip(names, entries, strict=True)]
            excess = _excess(connection, found, new, galleries.max_templates)
            if excess and all_fit:
                raise galleries.subject_full()
            added, block = template_rows.add(connection, found, [new[at] for at in range(len(new)) if at not in excess])
            outcomes = iter(added)
            stored = [
                StoreOutcome("full", 0, name) if at in excess else next(outcomes) for at, name in enumerate(names)
            ]
            refused = [
                keys[name]
                for name, template in zip(names, stored, strict=True)
                if template.outcome == "refused" and name not in kept
            ]
            subject_rows.remove_empty(connection, refused, before)
        live = galleries.live(found)
        if settings is not None:
            live.gallery = found
        live.apply_added(block)
    if live.outdated or live.needs_snapshot:
        galleries.rebuild(live)
    return stored


def _excess(
    connection: Connection, gallery: Gallery, entries: Sequence[tuple[int, NewTemplate]], most: int
) -> set[int]:
    """Return the positions of the entries with which their subjects would have more templates than allowed."""
    new = Counter(subject for subject, _ in entries)
    room = {subject: most - count for subject, count in template_rows.counts(connection, list(new)).items()}
    at_risk = {subject for subject in new if new[subject] > room.get(subject, most)}
    if not at_risk:
        return set()
    sources = [entry.source for subject, entry in entries if subject in at_risk]
    stored = set(template_rows.known_sources(connection, gallery, sources))
    excess = set()
    for position, (subject, entry) in enumerate(entries):
        if subject not in at_risk or entry.source in stored:
            continue
        room[subject] = room.get(subject, most) - 1
        if room[subject] < 0:
            excess.add(position)
        else:
            stored.add(entry.source)
    return excess


def known_sources(galleries: Galleries, gallery: str | Gallery, sources: Sequence[bytes]) -> dict[bytes, StoreOutcome]:
    """Return the stored template of each source that the gallery already has.

    Raises:
        GalleryUnknown: No gallery has this name, or the gallery was erased.
        ContractMismatch: The gallery holds embeddings of another contract than the loaded model.
    """
    with galleries.database.reading() as connection:
        return template_rows.known_sources(connection, galleries.find(connection, gallery), sources)
