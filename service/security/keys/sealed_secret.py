"""Encryption of secret access keys in the store of keys: a signature is verified with the secret itself.

AES-256-GCM under a key that is derived from the server secret, as nonce (12 bytes), ciphertext and tag (16 bytes). The
associated data is the id of the key, so a secret that was moved to another key is found out.
"""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from service.errors import StoreUnfit

_PURPOSE = b"vultus secret access keys"
_KEY_BYTES = 32
_NONCE_BYTES = 12


def seal_secret(server_secret: bytes, key_id: str, secret: str) -> bytes:
    """Encrypt the secret of a key."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + _cipher(server_secret).encrypt(nonce, secret.encode(), key_id.encode())


def open_secret(server_secret: bytes, key_id: str, sealed: bytes) -> str:
    """Decrypt the secret of a key.

    Raises:
        StoreUnfit: It was altered, or belongs to another key or server secret.
    """
    try:
        opened = _cipher(server_secret).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], key_id.encode())
    except (InvalidTag, ValueError) as error:
        raise StoreUnfit("the store of keys was altered: a secret access key cannot be decrypted") from error
    return opened.decode()


def _cipher(server_secret: bytes) -> AESGCM:
    return AESGCM(HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=None, info=_PURPOSE).derive(server_secret))
