"""The chain of records: each record is authenticated together with the one before it.

The digests are HMACs under a secret of the server, so that who can write the file, but does not have the secret, cannot
make a chain that fits.
"""

import hashlib
import hmac
from collections.abc import Iterable, Iterator

from service.audit.records import Record

BEGINNING = bytes(32)
"""Digest before the first record."""

_PURPOSE = b"vultus audit log"
_MAX_FAULTS = 100


def chain_key(server_secret: bytes) -> bytes:
    """Derive the key of the chain, 32 bytes, from the server secret."""
    return hmac.digest(server_secret, _PURPOSE, hashlib.sha256)


def digest_after(key: bytes, before: bytes, number: int, content: str) -> bytes:
    """Return the digest of a record.

    Args:
        key: Key of the chain.
        before: Digest of the record before it.
        number: Number of the record.
        content: Content of the record.
    """
    return hmac.digest(key, before + number.to_bytes(8, "big") + content.encode(), hashlib.sha256)


def faults_of(records: Iterable[Record], key: bytes, first: int, before: bytes | None) -> Iterator[str]:
    """Check a chain, and yield one sentence for each fault, at most a hundred.

    Args:
        records: The records, in the order in which they are stored.
        key: Key of the chain.
        first: Number that the first record must have.
        before: Digest of the record before the first one; None if it is not known.
    """
    expected, found = first, 0
    for record in records:
        if found >= _MAX_FAULTS:
            yield "more faults follow"
            return
        if record.number != expected:
            found += 1
            yield _gap(expected, record.number)
            before = None  # what the record was chained to is not here
        if before is not None and not hmac.compare_digest(
            digest_after(key, before, record.number, record.content), record.digest
        ):
            found += 1
            yield f"record {record.number} was changed"
        before, expected = record.digest, record.number + 1


def _gap(expected: int, number: int) -> str:
    if number < expected:
        return f"record {number} is repeated, or stands after record {expected - 1}"
    return missing(expected, number - 1)


def missing(first: int, last: int) -> str:
    """Say which records are missing."""
    return f"record {first} is missing" if first == last else f"records {first} to {last} are missing"
