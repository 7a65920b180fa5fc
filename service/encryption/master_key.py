"""The master key, under which all data keys are wrapped.

Wrapping is AES-256-GCM (NIST SP 800-38D). The nonce of 96 bits is computed from the context, which names one data key
only, so it is repeated for the same data key only, and one master key may wrap 2**32 of them. The same data key under
the same master key is always the same 60 bytes: two copies that differ show that one of them is damaged.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from service.errors import DataKeysUnfit, MasterKeyUnfit
from service.storage.private_files import write_once

KEY_BYTES = 32
NONCE_BYTES = 12

_ID_CONTEXT = b"vultus master key"
_NONCE_CONTEXT = b"vultus nonces of data keys"
_ID_BYTES = 8
_MIN_DISTINCT_BYTES = 8  # of a random key of 32 bytes, which has fewer with a probability below 2**-90
_MAX_TEXT_BYTES = 4096


class MasterKey:
    """A master key. Its representation does not contain it."""

    def __init__(self, key: bytes) -> None:
        """Take a key.

        Args:
            key: 32 random bytes.
        """
        self._cipher = AESGCM(key)
        self._nonce_key = hmac.digest(key, _NONCE_CONTEXT, hashlib.sha256)
        self.id = hmac.digest(key, _ID_CONTEXT, hashlib.sha256)[:_ID_BYTES].hex()
        """Public id, from which the key cannot be computed."""

    def __repr__(self) -> str:
        return f"MasterKey({self.id})"

    def wrap(self, key: bytes, context: bytes) -> bytes:
        """Encrypt a data key of 32 bytes for a context of its own, to 60 bytes: nonce, ciphertext, tag."""
        nonce = hmac.digest(self._nonce_key, context, hashlib.sha256)[:NONCE_BYTES]
        return nonce + self._cipher.encrypt(nonce, key, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Decrypt a data key.

        Raises:
            DataKeysUnfit: It was altered, or wrapped for another context.
        """
        try:
            return self._cipher.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], context)
        except (InvalidTag, ValueError) as error:
            raise DataKeysUnfit("a data key was altered or is damaged; restore the data keys from a backup") from error


def parse_master_key(text: bytes, where: str) -> MasterKey:
    """Read a master key.

    Args:
        text: 64 hexadecimal digits or 44 characters of base64; white space around them is ignored.
        where: Where the text comes from, as messages name it.

    Raises:
        MasterKeyUnfit: The text is not a key of 32 random bytes. The message does not contain the text.
    """
    stripped = text.strip()
    key = _decoded(stripped)
    if len(key) != KEY_BYTES:
        raise MasterKeyUnfit(
            f"{where} is not a master key: 32 bytes as 64 hexadecimal digits or 44 characters of base64 are required, "
            f"and it has {len(stripped)} characters"
        )
    if len(set(key)) < _MIN_DISTINCT_BYTES:
        raise MasterKeyUnfit(f"{where} is not a random master key; make one with vultus encryption new-key FILE")
    return MasterKey(key)


def _decoded(text: bytes) -> bytes:
    try:
        return (
            bytes.fromhex(text.decode("ascii")) if len(text) == 2 * KEY_BYTES else base64.b64decode(text, validate=True)
        )
    except (ValueError, binascii.Error):
        return b""


def read_master_key_file(path: Path) -> MasterKey:
    """Read a master key from a file.

    Raises:
        MasterKeyUnfit: The file is missing, cannot be read, or does not hold a master key.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_TEXT_BYTES)
    except OSError as error:
        raise MasterKeyUnfit(f"the master key {path} cannot be read: {error.strerror}") from error
    return parse_master_key(text, f"the content of {path}")


def make_master_key_file(path: Path) -> None:
    """Write a new master key to a file that only its owner may read, unless the file exists.

    Raises:
        MasterKeyUnfit: The file system refused to write the file.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_once(path, secrets.token_hex(KEY_BYTES).encode() + b"\n")
    except OSError as error:
        raise MasterKeyUnfit(f"the master key {path} cannot be written: {error.strerror}") from error
