"""The tables of templates and crops."""

import sqlite3
import time
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from service.errors import TemplateUnknown
from service.gallery.records import (
    Block,
    Gallery,
    NewTemplate,
    Outcome,
    Receipt,
    Stored,
    Subject,
    Template,
    TemplateSet,
)
from service.gallery.store.gallery_rows import note_erasure
from service.gallery.store.slices import slices

_STORED_AS = np.dtype("<f4")


def add(
    connection: sqlite3.Connection, gallery: Gallery, entries: Sequence[tuple[int, NewTemplate]]
) -> tuple[list[Stored], Block]:
    """Store templates, each source once.

    Args:
        connection: In a transaction.
        gallery: Where they go.
        entries: Key of the subject and template.

    Returns:
        What became of each, in order, and those that are new.
    """
    _, last = store_and_sequence(connection)
    now = time.time()
    before = connection.total_changes
    connection.executemany(
        "INSERT INTO templates (key, gallery, subject, contract_id, source, norm, quality, created, embedding) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (gallery, source) DO NOTHING",
        [
            (
                key,
                gallery.key,
                subject,
                gallery.contract_id,
                entry.source,
                entry.norm,
                entry.quality,
                now if entry.created is None else entry.created,
                entry.embedding.astype(_STORED_AS, copy=False).tobytes(),
            )
            for key, (subject, entry) in enumerate(entries, last + 1)
        ],
    )
    there = {}
    if connection.total_changes - before < len(entries):
        there = _owners(connection, gallery, [entry.source for _, entry in entries])
    outcomes, new = [], []
    for key, (subject, entry) in enumerate(entries, last + 1):
        kept, owner, name = there.get(entry.source, (key, subject, ""))
        outcome: Outcome = "enrolled" if kept == key else "duplicate" if owner == subject else "refused"
        outcomes.append(Stored(outcome, kept, name))
        if kept == key:
            new.append(key - last - 1)
            if entry.crop is not None:
                connection.execute("INSERT INTO crops (template, png) VALUES (?, ?)", (key, entry.crop))
    block = Block(
        np.array([last + 1 + place for place in new], np.int64),
        np.array([entries[place][0] for place in new], np.int64),
        np.stack([entries[place][1].embedding for place in new]) if new else _none(gallery),
    )
    return outcomes, block


def _none(gallery: Gallery) -> NDArray[np.float32]:
    return np.empty((0, gallery.dimensions), np.float32)


def _owners(
    connection: sqlite3.Connection, gallery: Gallery, sources: Sequence[bytes]
) -> dict[bytes, tuple[int, int, str]]:
    owners: dict[bytes, tuple[int, int, str]] = {}
    for some, marks in slices(sources):
        for source, *owner in connection.execute(
            "SELECT source, templates.key, subject, subjects.name FROM templates "
            f"JOIN subjects ON subjects.key = subject WHERE templates.gallery = ? AND source IN ({marks})",
            (gallery.key, *some),
        ):
            owners[source] = (owner[0], owner[1], owner[2])
    return owners


def known_sources(connection: sqlite3.Connection, gallery: Gallery, sources: Sequence[bytes]) -> dict[bytes, Stored]:
    """Say which sources are stored, and of whom; `outcome` is of no meaning here."""
    found = _owners(connection, gallery, sources)
    return {source: Stored("duplicate", key, name) for source, (key, _, name) in found.items()}


def of_subject(connection: sqlite3.Connection, subject: Subject) -> list[Template]:
    """Describe the templates of a subject, oldest first."""
    rows = connection.execute(
        "SELECT key, norm, quality, contract_id, source, created, "
        "EXISTS (SELECT 1 FROM crops WHERE template = templates.key) FROM templates WHERE subject = ? ORDER BY key",
        (subject.key,),
    )
    return [
        Template(key, norm, quality, contract_id, source, created, bool(has_crop))
        for key, norm, quality, contract_id, source, created, has_crop in rows
    ]


def count(connection: sqlite3.Connection, gallery: Gallery) -> int:
    """Count the templates of a gallery."""
    (templates,) = connection.execute("SELECT COUNT(*) FROM templates WHERE gallery = ?", (gallery.key,)).fetchone()
    return int(templates)


def block(connection: sqlite3.Connection, gallery: Gallery, after: int, limit: int) -> Block:
    """Read templates with their vectors, by key, beginning behind one."""
    rows = connection.execute(
        "SELECT key, subject, embedding FROM templates WHERE gallery = ? AND key > ? ORDER BY key LIMIT ?",
        (gallery.key, after, limit),
    ).fetchall()
    if not rows:
        return Block(np.empty(0, np.int64), np.empty(0, np.int64), _none(gallery))
    keys, subjects, blobs = zip(*rows, strict=True)
    return Block(np.array(keys, np.int64), np.array(subjects, np.int64), _vectors(blobs, gallery.dimensions))


def owners(connection: sqlite3.Connection, gallery: Gallery) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Read (N,) keys of all templates, rising, and (N,) of their subjects, from the table's index alone."""
    rows = connection.execute(
        "SELECT key, subject FROM templates WHERE gallery = ? ORDER BY key", (gallery.key,)
    ).fetchall()
    pairs = np.array(rows, np.int64).reshape(-1, 2)
    return pairs[:, 0].copy(), pairs[:, 1].copy()


def store_and_sequence(connection: sqlite3.Connection) -> tuple[str, int]:
    """Read the id of the store and the largest key that was ever given to a template."""
    store, sequence = connection.execute(
        "SELECT id, COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'templates'), 0) FROM store"
    ).fetchone()
    return str(store), int(sequence)


def block_of(connection: sqlite3.Connection, keys: NDArray[np.int64], dimensions: int) -> Block:
    """Read templates by keys, in the order of their keys; erased ones are missing."""
    found, subjects, vectors_of = vectors(connection, keys.tolist(), dimensions)
    order = np.argsort(found)
    return Block(found[order], subjects[order], vectors_of[order])


def vectors(
    connection: sqlite3.Connection, keys: Sequence[int], dimensions: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Read templates by keys; erased ones are missing.

    Returns:
        (N,) keys, (N,) keys of subjects, (N, D) float32.
    """
    rows: list[tuple[int, int, bytes]] = []
    for some, marks in slices(keys):
        rows += connection.execute(f"SELECT key, subject, embedding FROM templates WHERE key IN ({marks})", tuple(some))
    if not rows:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, dimensions), np.float32)
    found, subjects, blobs = zip(*rows, strict=True)
    return np.array(found, np.int64), np.array(subjects, np.int64), _vectors(blobs, dimensions)


def sets(connection: sqlite3.Connection, subjects: Sequence[int], dimensions: int) -> dict[int, TemplateSet]:
    """Read all templates of subjects; erased subjects are missing."""
    rows: dict[int, list[tuple[bytes, float | None, float | None]]] = {}
    for some, marks in slices(subjects):
        for subject, *row in connection.execute(
            f"SELECT subject, embedding, norm, quality FROM templates WHERE subject IN ({marks}) ORDER BY key",
            tuple(some),
        ):
            rows.setdefault(subject, []).append((row[0], row[1], row[2]))
    return {
        subject: TemplateSet(
            _vectors([blob for blob, _, _ in own], dimensions),
            _weights([norm for _, norm, _ in own], [quality for _, _, quality in own]),
        )
        for subject, own in rows.items()
    }


def _weights(*kinds: Sequence[float | None]) -> NDArray[np.float32]:
    for kind in kinds:
        known = np.array([value for value in kind if value is not None])
        if len(known) == len(kind) and known.any():
            scaled: NDArray[np.float32] = (known / known.max()).astype(np.float32)  # large ones would not fit in
            return scaled
    return np.ones(len(kinds[0]), np.float32)


def _vectors(blobs: Sequence[bytes], dimensions: int) -> NDArray[np.float32]:
    return np.frombuffer(b"".join(blobs), _STORED_AS).reshape(-1, dimensions)


def remove(connection: sqlite3.Connection, subject: Subject, key: int) -> Receipt:
    """Erase one template.

    Raises:
        TemplateUnknown: The subject has none of that key.
    """
    crops = connection.execute("SELECT COUNT(*) FROM crops WHERE template = ?", (key,)).fetchone()[0]
    if not connection.execute("DELETE FROM templates WHERE key = ? AND subject = ?", (key, subject.key)).rowcount:
        raise TemplateUnknown("the subject has no template of that number")
    return note_erasure(connection, "template", 0, 1, crops)


def export_rows(
    connection: sqlite3.Connection, gallery: Gallery, after: int, limit: int
) -> Iterator[tuple[int, str, str, NewTemplate]]:
    """Read templates as they are exported: key, name and metadata (JSON) of the subject, template."""
    for key, name, metadata, source, norm, quality, created, blob in connection.execute(
        "SELECT templates.key, subjects.name, subjects.metadata, source, norm, quality, templates.created, embedding "
        "FROM templates JOIN subjects ON subjects.key = subject "
        "WHERE templates.gallery = ? AND templates.key > ? ORDER BY templates.key LIMIT ?",
        (gallery.key, after, limit),
    ):
        vector = np.frombuffer(blob, _STORED_AS)
        yield key, name, metadata, NewTemplate(vector, source, norm, quality, None, created)
