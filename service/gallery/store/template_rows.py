"""Rows of the table `templates`."""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from itertools import count as counted
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.errors import StoreFailed, TemplateUnknown
from service.gallery.records import (
    Block,
    Gallery,
    NewTemplate,
    Outcome,
    Receipt,
    StoreOutcome,
    Subject,
    Template,
    TemplateSet,
    is_measured,
)
from service.gallery.store import attachments
from service.gallery.store.contents import StoreConnection, open_values, seal_values
from service.gallery.store.former_subjects import keys_of_erased_template
from service.gallery.store.gallery_rows import note_erasure
from service.gallery.store.slices import slices

_STORED_AS = np.dtype("<f4")


def add(
    connection: StoreConnection, gallery: Gallery, entries: Sequence[tuple[int, NewTemplate]]
) -> tuple[list[StoreOutcome], Block]:
    """Store templates, each source once.

    Args:
        connection: Connection with an open transaction.
        gallery: Gallery to store in.
        entries: Pairs of subject key and template.

    Returns:
        The outcome of each entry, in order, and the block of newly stored templates.
    """
    _, last = store_and_sequence(connection)
    now = time.time()
    embeddings = seal_values(
        connection,
        "embedding",
        [gallery.contract_id] * len(entries),
        [subject for subject, _ in entries],
        range(last + 1, last + 1 + len(entries)),
        [entry.embedding.astype(_STORED_AS, copy=False).tobytes() for _, entry in entries],
    )
    before = connection.total_changes
    connection.executemany(
        "INSERT INTO templates "
        "(key, gallery, subject, contract_id, source, norm, quality, created, expires, embedding) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (gallery, source) DO NOTHING",
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
                entry.expires,
                embedding,
            )
            for key, (subject, entry), embedding in zip(counted(last + 1), entries, embeddings, strict=False)
        ],
    )
    owners_by_source = {}
    if connection.total_changes - before < len(entries):
        owners_by_source = _owners(connection, gallery, [entry.source for _, entry in entries])
    outcomes, new = [], []
    for key, (subject, entry) in enumerate(entries, last + 1):
        stored, owner, name = owners_by_source.get(entry.source, (key, subject, ""))
        outcome: Outcome = "enrolled" if stored == key else "duplicate" if owner == subject else "refused"
        outcomes.append(StoreOutcome(outcome, stored, name))
        if stored == key:
            new.append(key - last - 1)
    attachments.add(connection, gallery, [(last + 1 + position, *entries[position]) for position in new])
    block = Block(
        np.array([last + 1 + position for position in new], np.int64),
        np.array([entries[position][0] for position in new], np.int64),
        np.stack([entries[position][1].embedding for position in new]) if new else _no_vectors(gallery),
    )
    return outcomes, block


def _no_vectors(gallery: Gallery) -> NDArray[np.float32]:
    return np.empty((0, gallery.dimensions), np.float32)


def _owners(
    connection: sqlite3.Connection, gallery: Gallery, sources: Sequence[bytes]
) -> dict[bytes, tuple[int, int, str]]:
    owners: dict[bytes, tuple[int, int, str]] = {}
    for part, marks in slices(sources):
        for source, *owner in connection.execute(
            "SELECT source, templates.key, subject, subjects.name FROM templates "
            f"JOIN subjects ON subjects.key = subject WHERE templates.gallery = ? AND source IN ({marks})",
            (gallery.key, *part),
        ):
            owners[source] = (owner[0], owner[1], owner[2])
    return owners


def known_sources(
    connection: sqlite3.Connection, gallery: Gallery, sources: Sequence[bytes]
) -> dict[bytes, StoreOutcome]:
    """Return the template and subject of each stored source; `outcome` is always `duplicate`."""
    found = _owners(connection, gallery, sources)
    return {source: StoreOutcome("duplicate", key, name) for source, (key, _, name) in found.items()}


def of_subject(connection: sqlite3.Connection, subject: Subject, after: int, limit: int) -> list[Template]:
    """Read the attributes of at most `limit` templates of a subject, sorted by key, starting after the key `after`."""
    rows = connection.execute(
        "SELECT key, norm, quality, contract_id, source, created, "
        "EXISTS (SELECT 1 FROM crops WHERE template = templates.key), expires FROM templates "
        "WHERE subject = ? AND key > ? ORDER BY key LIMIT ?",
        (subject.key, after, limit),
    )
    return [
        Template(key, norm, quality, contract_id, source, created, bool(has_crop), expires)
        for key, norm, quality, contract_id, source, created, has_crop, expires in rows
    ]


def counts(connection: sqlite3.Connection, subjects: Sequence[int]) -> dict[int, int]:
    """Count the templates of each subject that has any."""
    found: dict[int, int] = {}
    for part, marks in slices(subjects):
        found.update(
            connection.execute(
                f"SELECT subject, COUNT(*) FROM templates WHERE subject IN ({marks}) GROUP BY subject", tuple(part)
            )
        )
    return found


def count(connection: sqlite3.Connection, gallery: Gallery) -> int:
    """Count the templates of a gallery."""
    (templates,) = connection.execute("SELECT COUNT(*) FROM templates WHERE gallery = ?", (gallery.key,)).fetchone()
    return int(templates)


class BlockPage(NamedTuple):
    """Templates of a gallery, as many as a limit allows.

    Attributes:
        block: The templates; fewer than were read if subjects were just erased.
        last: Key of the last template that was read; None if the gallery has none after it.
    """

    block: Block
    last: int | None


def block(connection: StoreConnection, gallery: Gallery, after: int, limit: int) -> BlockPage:
    """Read at most `limit` templates with their vectors, sorted by key, starting after the key `after`."""
    rows = connection.execute(
        "SELECT key, subject, contract_id, embedding FROM templates WHERE gallery = ? AND key > ? ORDER BY key LIMIT ?",
        (gallery.key, after, limit),
    ).fetchall()
    return BlockPage(Block(*_opened(connection, rows, gallery.dimensions)), rows[-1][0] if len(rows) == limit else None)


def owners(connection: sqlite3.Connection, gallery: Gallery) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Read the (N,) keys of all templates, ascending, and the (N,) keys of their subjects.

    The query reads an SQL index only, so it loads no vectors.
    """
    rows = connection.execute(
        "SELECT key, subject FROM templates WHERE gallery = ? ORDER BY key", (gallery.key,)
    ).fetchall()
    pairs = np.array(rows, np.int64).reshape(-1, 2)
    return pairs[:, 0].copy(), pairs[:, 1].copy()


def store_and_sequence(connection: sqlite3.Connection) -> tuple[str, int]:
    """Read the id of the store and the largest key ever assigned to a template."""
    store, sequence = connection.execute(
        "SELECT id, COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'templates'), 0) FROM store"
    ).fetchone()
    return str(store), int(sequence)


def block_of(connection: StoreConnection, keys: NDArray[np.int64], dimensions: int) -> Block:
    """Read templates by key, sorted by key; erased templates are missing from the answer."""
    found, subjects, embeddings = vectors(connection, keys.tolist(), dimensions)
    order = np.argsort(found)
    return Block(found[order], subjects[order], embeddings[order])


def vectors(
    connection: StoreConnection, keys: Sequence[int], dimensions: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Read templates by key, in no particular order; erased templates are missing from the answer.

    Returns:
        (N,) keys of templates, (N,) keys of subjects, (N, D) float32 embeddings.
    """
    rows: list[tuple[int, int, str, bytes]] = []
    for part, marks in slices(keys):
        rows += connection.execute(
            f"SELECT key, subject, contract_id, embedding FROM templates WHERE key IN ({marks})", tuple(part)
        )
    return _opened(connection, rows, dimensions)


def sets(connection: StoreConnection, subjects: Sequence[int], dimensions: int) -> dict[int, TemplateSet]:
    """Read all templates of each subject; erased subjects are missing from the answer."""
    rows: list[tuple[int, int, str, bytes]] = []
    weights: dict[int, tuple[float | None, float | None]] = {}
    for part, marks in slices(subjects):
        for *row, norm, quality in connection.execute(
            "SELECT key, subject, contract_id, embedding, norm, quality FROM templates "
            f"WHERE subject IN ({marks}) ORDER BY key",
            tuple(part),
        ):
            rows.append((row[0], row[1], row[2], row[3]))
            weights[row[0]] = (norm, quality)
    keys, owners, embeddings = _opened(connection, rows, dimensions)
    positions: dict[int, list[int]] = {}
    for position, owner in enumerate(owners.tolist()):
        positions.setdefault(owner, []).append(position)
    found = {}
    for owner, of_owner in positions.items():
        norms, qualities = zip(*(weights[key] for key in keys[of_owner].tolist()), strict=True)
        measured = np.array([is_measured(quality) for quality in qualities], np.bool_)
        found[owner] = TemplateSet(embeddings[of_owner], _weights(norms, qualities, measured), measured)
    return found


def measured_subjects(connection: sqlite3.Connection, subjects: Sequence[int]) -> set[int]:
    """Return the subjects that have a template for which error rates hold: those of `records.is_measured`."""
    found: set[int] = set()
    for part, marks in slices(subjects):
        found.update(
            key
            for (key,) in connection.execute(
                "SELECT DISTINCT subject FROM templates "
                f"WHERE subject IN ({marks}) AND (quality IS NULL OR quality > 0)",
                tuple(part),
            )
        )
    return found


def _opened(
    connection: StoreConnection, rows: Sequence[tuple[int, int, str, bytes]], dimensions: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return templates from rows of key, subject, contract and embedding, without those of subjects just erased.

    Returns:
        (N,) keys of templates, (N,) keys of subjects, (N, D) float32 embeddings.
    """
    if not rows:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, dimensions), np.float32)
    keys, subjects, contract_ids, stored = zip(*rows, strict=True)
    blobs = open_values(connection, "embedding", contract_ids, subjects, keys, stored)
    left = [position for position, blob in enumerate(blobs) if blob is not None]
    vectors = _vectors([blob for blob in blobs if blob is not None], dimensions)
    return np.array(keys, np.int64)[left], np.array(subjects, np.int64)[left], vectors


def _weights(
    norms: Sequence[float | None], qualities: Sequence[float | None], measured: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return the first kind of weights that every template has, scaled to a maximum of 1; otherwise equal weights.

    A template that is not measured has the weight 0 beside one that is: its norm is low, but not negligible.
    """
    heeded = measured if measured.any() else np.ones_like(measured)
    for kind in (norms, qualities):
        known = np.array([value for value in kind if value is not None])
        if len(known) == len(kind) and known[heeded].any():
            scaled: NDArray[np.float32] = (known / known.max() * heeded).astype(np.float32)  # large ones overflow
            return scaled
    return heeded.astype(np.float32)


def _vectors(blobs: Sequence[bytes], dimensions: int) -> NDArray[np.float32]:
    """Return embeddings, (N, D) float32.

    Raises:
        StoreFailed: An embedding has another size than the contract requires.
    """
    size = dimensions * _STORED_AS.itemsize
    damaged = [len(blob) for blob in blobs if len(blob) != size]
    if damaged:
        raise StoreFailed(
            f"the gallery store is damaged: an embedding has {damaged[0]} bytes instead of {size}; restore a backup"
        )
    return np.frombuffer(b"".join(blobs), _STORED_AS).reshape(-1, dimensions)


def remove(connection: sqlite3.Connection, subject: int, key: int) -> Receipt:
    """Erase one template of a subject, given by key.

    Raises:
        TemplateUnknown: The subject has no template with this key.
    """
    crops = connection.execute("SELECT COUNT(*) FROM crops WHERE template = ?", (key,)).fetchone()[0]
    keys = keys_of_erased_template(connection, key)
    if not connection.execute("DELETE FROM templates WHERE key = ? AND subject = ?", (key, subject)).rowcount:
        raise TemplateUnknown("the subject has no template with this number")
    return note_erasure(connection, "template", 0, 1, crops, keys)


def export_rows(
    connection: StoreConnection, gallery: Gallery, first: int, last: int
) -> Iterator[tuple[int, NewTemplate]]:
    """Read the templates with keys from `first` to `last` for export, sorted by key.

    Yields:
        Key of the template, and the template.
    """
    rows = connection.execute(
        "SELECT key, subject, contract_id, embedding, source, norm, quality, created, expires, png FROM templates "
        "LEFT JOIN crops ON crops.template = key WHERE gallery = ? AND key BETWEEN ? AND ? ORDER BY key",
        (gallery.key, first, last),
    ).fetchall()
    keys, _, embeddings = _opened(connection, [row[:4] for row in rows], gallery.dimensions)
    embedding_of = dict(zip(keys.tolist(), embeddings, strict=True))
    metadata = attachments.metadata_of(connection, gallery, keys.tolist())
    for key, subject, contract_id, _, source, norm, quality, created, expires, png in rows:
        if key in embedding_of:
            crop = None if png is None else open_values(connection, "crop", [contract_id], [subject], [key], [png])[0]
            yield (
                key,
                NewTemplate(*(embedding_of[key], source, norm, quality, crop, created, expires, metadata.get(key, {}))),
            )
