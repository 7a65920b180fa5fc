"""What rows hold of people, in the form in which the store keeps it: encrypted, if encryption at rest is on.

Embeddings, crops and metadata pass through here. Names, times, norms, qualities and digests of sources do not: they are
searched and sorted by SQL.
"""

import base64
import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Literal

from service.encryption.data_keys import Owner
from service.encryption.row_cipher import RowCipher
from service.errors import StoreFailed
from service.gallery.records import Metadata

What = Literal["embedding", "crop", "template_metadata"]

_NO_METADATA = "{}"  # tells nothing about anybody, so it is not encrypted


class StoreConnection(sqlite3.Connection):
    """A connection to the gallery store, with the cipher of its contents; None if they are not encrypted."""

    cipher: RowCipher | None = None

    def store_new_keys(self) -> None:
        """Write the data keys of new galleries and subjects to the disk, before the rows that they encrypt."""
        if self.cipher is not None:
            self.cipher.store_new_keys()

    def drop_new_keys(self) -> None:
        """Drop the data keys of galleries and subjects that were not stored."""
        if self.cipher is not None:
            self.cipher.drop_new_keys()


def new_owners(connection: StoreConnection, owner: Owner, keys: Iterable[int], gallery: int) -> None:
    """Prepare for the values of new galleries or subjects."""
    if connection.cipher is not None:
        connection.cipher.new_owners(owner, keys, gallery)


def discard_new_owners(connection: StoreConnection, owner: Owner, keys: Iterable[int]) -> None:
    """Take back `new_owners` for galleries or subjects that are removed in the same transaction."""
    if connection.cipher is not None:
        connection.cipher.discard_new_keys(owner, keys)


def seal_values(
    connection: StoreConnection,
    what: What,
    contract_ids: Sequence[str],
    subjects: Sequence[int],
    templates: Sequence[int],
    values: Sequence[bytes],
) -> Sequence[bytes]:
    """Return embeddings, crops or metadata of templates as rows keep them."""
    if connection.cipher is None:
        return values
    contexts = _contexts(what, contract_ids, subjects, templates)
    return connection.cipher.seal("subject", subjects, contexts, values)


def open_values(
    connection: StoreConnection,
    what: What,
    contract_ids: Sequence[str],
    subjects: Sequence[int],
    templates: Sequence[int],
    stored: Sequence[bytes],
) -> Sequence[bytes | None]:
    """Return what `seal_values` was given from what rows keep of it; None for what was just erased."""
    if connection.cipher is None:
        return stored
    contexts = _contexts(what, contract_ids, subjects, templates)
    return connection.cipher.open("subject", subjects, contexts, stored)


def seal_metadata(connection: StoreConnection, owner: Owner, key: int, metadata: Metadata) -> str:
    """Return metadata of a gallery or subject as the row keeps it: JSON, or base64 of encrypted JSON."""
    return seal_metadata_text(connection, owner, key, json.dumps(metadata))


def seal_metadata_text(connection: StoreConnection, owner: Owner, key: int, text: str) -> str:
    """Return metadata, given as JSON, as the row keeps it."""
    if connection.cipher is None or text == _NO_METADATA:
        return text
    [sealed] = connection.cipher.seal(owner, [key], [_metadata_context(owner, key)], [text.encode()])
    return base64.b64encode(sealed).decode("ascii")


def open_metadata(
    connection: StoreConnection, owner: Owner, keys: Sequence[int], stored: Sequence[str]
) -> Sequence[str | None]:
    """Return metadata as JSON from what rows keep of them; None for those of subjects that were just erased."""
    if connection.cipher is None:
        return stored
    opened: list[str | None] = list(stored)
    sealed = [position for position, text in enumerate(stored) if text != _NO_METADATA]
    owners = [keys[position] for position in sealed]
    contexts = [_metadata_context(owner, key) for key in owners]
    try:
        texts = [base64.b64decode(stored[position], validate=True) for position in sealed]
    except ValueError as error:
        raise StoreFailed("the gallery store is damaged: metadata are not base64; restore a backup") from error
    values = connection.cipher.open(owner, owners, contexts, texts)
    for position, value in zip(sealed, values, strict=True):
        opened[position] = None if value is None else value.decode()
    return opened


def _contexts(
    what: What, contract_ids: Sequence[str], subjects: Sequence[int], templates: Sequence[int]
) -> list[bytes]:
    return [
        f"{what}/{contract_id}/{subject}/{template}".encode()
        for contract_id, subject, template in zip(contract_ids, subjects, templates, strict=True)
    ]


def _metadata_context(owner: Owner, key: int) -> bytes:
    return f"metadata/{owner}/{key}".encode()
