"""Encryption of contents again: of merged subjects under another data key, and of a store that was not encrypted."""

from collections.abc import Iterator, Sequence
from typing import Any

from models.types import Progress
from service.gallery.store.contents import (
    StoreConnection,
    new_owners,
    open_crops,
    open_embeddings,
    seal_crops,
    seal_embeddings,
    seal_metadata_text,
)

_ROWS = 1000  # read at once
_CROPS = 100  # the same with crops, which have some 20 kB each


def give_contents(connection: StoreConnection, subject: int, other: int) -> None:
    """Encrypt the contents of a subject's templates as contents of another subject, to which they will belong.

    Args:
        connection: Connection with an open transaction.
        subject: Key of the subject under whose data key they are encrypted.
        other: Key of the other subject.
    """
    if connection.cipher is None:
        return
    for keys, _, contracts, stored in _embeddings(connection, "subject = ?", subject):
        opened = open_embeddings(connection, contracts, [subject] * len(keys), keys, stored)
        found = [(*each, value) for *each, value in zip(keys, contracts, opened, strict=True) if value is not None]
        if found:
            _put_embeddings(connection, [other] * len(found), *zip(*found, strict=True))
    for keys, _, contracts, stored in _crops(connection, "subject = ?", subject):
        opened = open_crops(connection, contracts, [subject] * len(keys), keys, stored)
        found = [(*each, value) for *each, value in zip(keys, contracts, opened, strict=True) if value is not None]
        if found:
            _put_crops(connection, [other] * len(found), *zip(*found, strict=True))


def encrypt_contents(connection: StoreConnection, progress: Progress) -> int:
    """Encrypt all contents of a store that was not encrypted, under new data keys, and return the number of templates.

    Args:
        connection: Connection with an open transaction and the cipher.
        progress: Receives the number of templates.
    """
    for rows in _pages(connection, "SELECT key, metadata FROM galleries WHERE key > ?", (), _ROWS):
        for key, text in rows:
            new_owners(connection, "gallery", [key], key)
            sealed = seal_metadata_text(connection, "gallery", key, text)
            connection.execute("UPDATE galleries SET metadata = ? WHERE key = ?", (sealed, key))
    for rows in _pages(connection, "SELECT key, gallery, metadata FROM subjects WHERE key > ?", (), _ROWS):
        for gallery in dict.fromkeys(row[1] for row in rows):
            new_owners(connection, "subject", [row[0] for row in rows if row[1] == gallery], gallery)
        for key, _, text in rows:
            if (sealed := seal_metadata_text(connection, "subject", key, text)) != text:
                connection.execute("UPDATE subjects SET metadata = ? WHERE key = ?", (sealed, key))
        connection.store_new_keys()
    (total,) = connection.execute("SELECT COUNT(*) FROM templates").fetchone()
    done = 0
    for keys, subjects, contracts, embeddings in _embeddings(connection, "TRUE"):
        _put_embeddings(connection, subjects, keys, contracts, embeddings)
        done += len(keys)
        progress("encrypting templates", done, total)
    for keys, subjects, contracts, crops in _crops(connection, "TRUE"):
        _put_crops(connection, subjects, keys, contracts, crops)
    return done


def _embeddings(connection: StoreConnection, where: str, *values: int) -> Iterator[tuple[Sequence[Any], ...]]:
    """Yield keys, subjects, contracts and stored embeddings of templates, page by page."""
    query = f"SELECT key, subject, contract_id, embedding FROM templates WHERE key > ? AND {where}"
    for rows in _pages(connection, query, values, _ROWS):
        yield tuple(zip(*rows, strict=True))


def _crops(connection: StoreConnection, where: str, *values: int) -> Iterator[tuple[Sequence[Any], ...]]:
    """Yield keys, subjects and contracts of templates with a crop, and the stored crops, page by page."""
    query = (
        "SELECT key, subject, contract_id, png FROM templates JOIN crops ON crops.template = key "
        f"WHERE key > ? AND {where}"
    )
    for rows in _pages(connection, query, values, _CROPS):
        yield tuple(zip(*rows, strict=True))


def _pages(connection: StoreConnection, query: str, values: Sequence[int], limit: int) -> Iterator[list[Any]]:
    """Yield the rows of a query by their key, a bounded number at a time, so that they can be changed meanwhile."""
    last = 0
    while rows := connection.execute(f"{query} ORDER BY key LIMIT ?", (last, *values, limit)).fetchall():
        yield rows
        last = rows[-1][0]


def _put_embeddings(
    connection: StoreConnection,
    subjects: Sequence[int],
    keys: Sequence[int],
    contracts: Sequence[str],
    embeddings: Sequence[bytes],
) -> None:
    sealed = seal_embeddings(connection, contracts, subjects, keys, embeddings)
    connection.executemany("UPDATE templates SET embedding = ? WHERE key = ?", zip(sealed, keys, strict=True))


def _put_crops(
    connection: StoreConnection,
    subjects: Sequence[int],
    keys: Sequence[int],
    contracts: Sequence[str],
    crops: Sequence[bytes],
) -> None:
    sealed = seal_crops(connection, contracts, subjects, keys, crops)
    connection.executemany("UPDATE crops SET png = ? WHERE template = ?", zip(sealed, keys, strict=True))
