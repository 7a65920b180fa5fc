"""Encryption of contents again: of merged subjects under another data key, and of a store that was not encrypted."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from models.types import Progress
from service.gallery.store.contents import (
    StoreConnection,
    What,
    new_owners,
    open_values,
    seal_metadata_text,
    seal_values,
)

_ROWS = 1000  # read at once


class _Place(NamedTuple):
    """Where values of templates are: what to read from and to update, and how many rows to read at once."""

    source: str
    value: str
    update: str
    rows: int


_PLACES: dict[What, _Place] = {
    "embedding": _Place("templates", "embedding", "UPDATE templates SET embedding = ? WHERE key = ?", _ROWS),
    "crop": _Place(  # of some 20 kB each
        "templates JOIN crops ON crops.template = key", "png", "UPDATE crops SET png = ? WHERE template = ?", 100
    ),
    "template_metadata": _Place(
        "templates JOIN template_metadata ON template = key",
        "json",
        "UPDATE template_metadata SET json = ? WHERE template = ?",
        _ROWS,
    ),
}


class _Values(NamedTuple):
    """Values of templates: their keys, subjects and contracts, and what the rows keep of the values."""

    keys: Sequence[int]
    subjects: Sequence[int]
    contracts: Sequence[str]
    stored: Sequence[bytes]


def give_contents(connection: StoreConnection, subject: int, other: int, template: int | None = None) -> None:
    """Encrypt the contents of a subject's templates as contents of another subject, to which they will belong.

    Args:
        connection: Connection with an open transaction.
        subject: Key of the subject under whose data key they are encrypted.
        other: Key of the other subject.
        template: Key of the only template that will belong to it; None for all.
    """
    if connection.cipher is None:
        return
    where, parameters = (
        ("subject = ?", [subject]) if template is None else ("subject = ? AND key = ?", [subject, template])
    )
    for what in _PLACES:
        for found in _values(connection, what, where, *parameters):
            opened = open_values(connection, what, found.contracts, found.subjects, found.keys, found.stored)
            left = [
                (key, other, contract, value)
                for key, contract, value in zip(found.keys, found.contracts, opened, strict=True)
                if value is not None
            ]
            if left:
                _put(connection, what, _Values(*zip(*left, strict=True)))


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
    for found in _values(connection, "embedding", "TRUE"):
        _put(connection, "embedding", found)
        done += len(found.keys)
        progress("encrypting templates", done, total)
    others: tuple[What, ...] = ("crop", "template_metadata")
    for what in others:
        for found in _values(connection, what, "TRUE"):
            _put(connection, what, found)
    return done


def _values(connection: StoreConnection, what: What, where: str, *parameters: int) -> Iterator[_Values]:
    """Yield the values of templates, page by page."""
    place = _PLACES[what]
    query = f"SELECT key, subject, contract_id, {place.value} FROM {place.source} WHERE key > ? AND {where}"
    for rows in _pages(connection, query, parameters, place.rows):
        yield _Values(*zip(*rows, strict=True))


def _put(connection: StoreConnection, what: What, values: _Values) -> None:
    """Encrypt values of templates and write them to their rows."""
    sealed = seal_values(connection, what, values.contracts, values.subjects, values.keys, values.stored)
    connection.executemany(_PLACES[what].update, zip(sealed, values.keys, strict=True))


def _pages(connection: StoreConnection, query: str, parameters: Sequence[int], limit: int) -> Iterator[list[Any]]:
    """Yield the rows of a query by their key, a bounded number at a time, so that they can be changed meanwhile."""
    last = 0
    while rows := connection.execute(f"{query} ORDER BY key LIMIT ?", (last, *parameters, limit)).fetchall():
        yield rows
        last = rows[-1][0]
