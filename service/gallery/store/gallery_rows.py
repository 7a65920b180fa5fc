"""Rows of the tables `galleries` and `erasures`."""

import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from service.errors import GalleryExists, GalleryUnknown
from service.gallery.erased_keys import ErasedKeys, Erasure
from service.gallery.names import lookup_name
from service.gallery.records import Gallery, GallerySettings, IndexKind, Metadata, Receipt
from service.gallery.store.contents import StoreConnection, new_owners, open_metadata, seal_metadata
from service.gallery.store.sequences import last_given

_COLUMNS = "key, name, contract_id, dimensions, kind, keep_crops, metadata, created, min_quality, retain_days"


def add(
    connection: StoreConnection,
    name: str,
    contract_id: str,
    dimensions: int,
    index: IndexKind,
    keep_crops: bool,
    metadata: Metadata,
    min_quality: float = 0.0,
    retain_days: float = 0.0,
) -> Gallery:
    """Add a gallery.

    Raises:
        GalleryExists: A gallery with this name already exists.
    """
    key = last_given(connection, "galleries") + 1
    new_owners(connection, "gallery", [key], key)
    try:
        connection.execute(
            "INSERT INTO galleries "
            "(key, name, contract_id, dimensions, kind, keep_crops, metadata, created, min_quality, retain_days) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(key, name, contract_id, dimensions, index, keep_crops),
                *(seal_metadata(connection, "gallery", key, metadata), time.time(), min_quality, retain_days),
            ),
        )
    except sqlite3.IntegrityError as error:
        raise GalleryExists("a gallery with this name already exists") from error
    return find(connection, name)


def find(connection: StoreConnection, name: str | Gallery) -> Gallery:
    """Read a gallery by its name, or a gallery that was read earlier, whatever its name is now.

    Raises:
        GalleryUnknown: No gallery has this name, or the gallery was erased.
    """
    if isinstance(name, Gallery):
        row = connection.execute(f"SELECT {_COLUMNS} FROM galleries WHERE key = ?", (name.key,)).fetchone()
        for gallery in _galleries(connection, [] if row is None else [row]):
            return gallery
        raise GalleryUnknown("the gallery was erased meanwhile")
    row = connection.execute(f"SELECT {_COLUMNS} FROM galleries WHERE name = ?", (lookup_name(name),)).fetchone()
    for gallery in _galleries(connection, [] if row is None else [row]):
        return gallery
    raise GalleryUnknown("no gallery has this name")


def exists(connection: sqlite3.Connection, gallery: Gallery) -> bool:
    """Return whether a gallery that was read earlier still exists, under any name."""
    return connection.execute("SELECT 1 FROM galleries WHERE key = ?", (gallery.key,)).fetchone() is not None


def iterate(connection: StoreConnection, after: str = "") -> Iterator[Gallery]:
    """Read galleries sorted by name, starting after the name `after`, as far as they are iterated over."""
    for row in connection.execute(f"SELECT {_COLUMNS} FROM galleries WHERE name > ? ORDER BY name", (after,)):
        yield from _galleries(connection, [row])


def names(connection: sqlite3.Connection) -> dict[int, str]:
    """Read the names of all galleries by key."""
    return dict(connection.execute("SELECT key, name FROM galleries"))


def change(
    connection: StoreConnection,
    gallery: Gallery,
    name: str | None = None,
    index: IndexKind | None = None,
    metadata: Metadata | None = None,
    min_quality: float | None = None,
    retain_days: float | None = None,
) -> Gallery:
    """Change the given attributes of a gallery.

    Raises:
        GalleryExists: Another gallery has the new name.
    """
    try:
        connection.execute(
            "UPDATE galleries SET name = ?, kind = ?, metadata = ?, min_quality = ?, retain_days = ? WHERE key = ?",
            (
                name or gallery.name,
                index or gallery.index,
                seal_metadata(connection, "gallery", gallery.key, gallery.metadata if metadata is None else metadata),
                gallery.min_quality if min_quality is None else min_quality,
                gallery.retain_days if retain_days is None else retain_days,
                gallery.key,
            ),
        )
    except sqlite3.IntegrityError as error:
        raise GalleryExists("a gallery with this name already exists") from error
    return find(connection, name or gallery.name)


def adopt(connection: StoreConnection, gallery: Gallery, settings: GallerySettings) -> Gallery:
    """Give a gallery without subjects the settings of an exported gallery, except those that differ from the default.

    Returns:
        The gallery; unchanged if it has subjects.
    """
    if connection.execute("SELECT EXISTS (SELECT 1 FROM subjects WHERE gallery = ?)", (gallery.key,)).fetchone()[0]:
        return gallery
    connection.execute(
        "UPDATE galleries SET kind = ?, keep_crops = ?, min_quality = ?, metadata = ?, created = ?, retain_days = ? "
        "WHERE key = ?",
        (
            settings.index if gallery.index == "auto" else gallery.index,
            gallery.keep_crops or settings.keep_crops,
            gallery.min_quality or settings.min_quality,
            seal_metadata(connection, "gallery", gallery.key, gallery.metadata or settings.metadata),
            gallery.created if settings.created is None else settings.created,
            gallery.retain_days or settings.retain_days,
            gallery.key,
        ),
    )
    return find(connection, gallery.name)


def remove(connection: sqlite3.Connection, gallery: Gallery) -> Receipt:
    """Erase a gallery with all its contents."""
    subjects, templates, crops = connection.execute(
        "SELECT (SELECT COUNT(*) FROM subjects WHERE gallery = :key), "
        "(SELECT COUNT(*) FROM templates WHERE gallery = :key), "
        "(SELECT COUNT(*) FROM crops JOIN templates ON templates.key = template WHERE gallery = :key)",
        {"key": gallery.key},
    ).fetchone()
    connection.execute("DELETE FROM galleries WHERE key = ?", (gallery.key,))
    return note_erasure(connection, "gallery", subjects, templates, crops, ErasedKeys(galleries=(gallery.key,)))


def note_erasure(
    connection: sqlite3.Connection,
    what: Literal["gallery", "subject", "template"],
    subjects: int,
    templates: int,
    crops: int,
    keys: ErasedKeys,
) -> Receipt:
    """Record an erasure without anything that identifies the subject."""
    erased = time.time()
    cursor = connection.execute(
        "INSERT INTO erasures (what, subjects, templates, crops, erased, keys) VALUES (?, ?, ?, ?, ?, ?)",
        (what, subjects, templates, crops, erased, keys.as_json()),
    )
    return Receipt(int(cursor.lastrowid or 0), what, subjects, templates, crops, erased)


def erasures_after(connection: sqlite3.Connection, store: str, after: int) -> list[Erasure]:
    """Read the erasures after a number, oldest first, except those of versions that did not record keys.

    Args:
        connection: Connection with an open transaction.
        store: Id of the store.
        after: Number of an erasure.
    """
    rows = connection.execute(
        "SELECT key, keys FROM erasures WHERE key > ? AND keys IS NOT NULL ORDER BY key", (after,)
    )
    return [Erasure(store, number, ErasedKeys.from_json(keys)) for number, keys in rows]


def _galleries(connection: StoreConnection, rows: Sequence[tuple[Any, ...]]) -> Iterator[Gallery]:
    """Yield the galleries of rows, without those that were just erased."""
    opened = open_metadata(connection, "gallery", [row[0] for row in rows], [row[6] for row in rows])
    for (key, name, contract_id, dimensions, index, keep_crops, _, *numbers), text in zip(rows, opened, strict=True):
        if text is not None:
            yield Gallery(key, name, contract_id, dimensions, index, bool(keep_crops), json.loads(text), *numbers)
