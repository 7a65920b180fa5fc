"""Encryption of values in rows of the gallery store: AES-256-GCM, as nonce (12 bytes), ciphertext and tag (16 bytes).

The associated data of a value names its row and its embedding contract, so a value that was moved to another row, or to
a gallery of another contract, is found out.
"""

import os
from collections.abc import Iterable, Sequence

from cryptography.exceptions import InvalidTag

from service.encryption.data_keys import Candidates, DataKeys, Owner
from service.encryption.master_key import NONCE_BYTES
from service.errors import StoreFailed

_NONE = Candidates((), destroyed=True)  # a row of an earlier state of the store


class RowCipher:
    """Encrypts values under the data key of the gallery or subject that they belong to."""

    def __init__(self, keys: DataKeys) -> None:
        """Use the data keys of a gallery store."""
        self._keys = keys

    def new_owners(self, owner: Owner, keys: Iterable[int], gallery: int) -> None:
        """Make data keys for new galleries or subjects, before their values are encrypted."""
        self._keys.make(owner, keys, gallery)

    def store_new_keys(self) -> None:
        """Write the data keys of new galleries and subjects to the disk, before the rows that they encrypt."""
        self._keys.store_new()

    def discard_new_keys(self, owner: Owner, keys: Iterable[int]) -> None:
        """Discard the data keys of new rows that were removed before they were committed."""
        self._keys.discard(owner, keys)

    def drop_new_keys(self) -> None:
        """Drop the data keys of galleries and subjects that were not stored."""
        self._keys.drop_new()

    def seal(
        self, owner: Owner, keys: Sequence[int], contexts: Sequence[bytes], values: Sequence[bytes]
    ) -> list[bytes]:
        """Encrypt values.

        Args:
            owner: What the values belong to.
            keys: For each value, the key of its gallery or subject.
            contexts: For each value, its associated data.
            values: The values.

        Raises:
            StoreFailed: A data key is missing.
        """
        found = self._keys.find(owner, keys)
        sealed = []
        for key, context, value in zip(keys, contexts, values, strict=True):
            if key not in found or not found[key].ciphers:
                raise StoreFailed(f"the data key of a {owner} is missing; restore the data keys from a backup")
            nonce = os.urandom(NONCE_BYTES)
            sealed.append(nonce + found[key].ciphers[0].encrypt(nonce, value, context))
        return sealed

    def open(
        self, owner: Owner, keys: Sequence[int], contexts: Sequence[bytes], values: Sequence[bytes]
    ) -> list[bytes | None]:
        """Decrypt values that `seal` encrypted; None for those whose data key is destroyed.

        Raises:
            StoreFailed: A value was altered or moved to another row.
        """
        found = self._keys.find(owner, keys)
        return [
            _opened(found.get(key, _NONE), context, value)
            for key, context, value in zip(keys, contexts, values, strict=True)
        ]


def _opened(keys: Candidates, context: bytes, value: bytes) -> bytes | None:
    """Decrypt a value; None if its data key is destroyed.

    Raises:
        StoreFailed: No data key of its row fits the value, and none is destroyed.
    """
    for cipher in keys.ciphers:
        try:
            return cipher.decrypt(value[:NONCE_BYTES], value[NONCE_BYTES:], context)
        except (InvalidTag, ValueError):
            continue
    if keys.ciphers and not keys.destroyed:
        raise StoreFailed("the gallery store is damaged: an encrypted value was altered or moved; restore a backup")
    return None
