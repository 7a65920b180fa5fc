"""The server secret, under which the digests of keys are made."""

import secrets
from pathlib import Path

from service.errors import ServerSecretUnfit, StoreFailed
from service.storage.private_files import write_once

SECRET_FILE = "server.secret"

_BYTES = 32


def read_secret(path: Path, make: bool) -> bytes:
    """Return the server secret, 32 bytes.

    Args:
        path: File with the secret as 64 hexadecimal digits.
        make: Whether to make a missing secret.

    Raises:
        ServerSecretUnfit: The file is missing, or does not hold 64 hexadecimal digits.
        StoreFailed: The file system refused to read or write the file.
    """
    try:
        if make and not path.exists():
            write_once(path, secrets.token_hex(_BYTES).encode() + b"\n")
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError as error:
        raise ServerSecretUnfit(
            f"the server secret {path} is missing; restore it from a backup: without it, no key is valid"
        ) from error
    except OSError as error:
        raise StoreFailed(f"the server secret {path} cannot be read or written: {error.strerror}") from error
    try:
        secret = bytes.fromhex(text)
    except ValueError:
        secret = b""
    if len(secret) != _BYTES:
        raise ServerSecretUnfit(
            f"{path} does not hold the {2 * _BYTES} hexadecimal digits of the server secret; restore it from a backup: "
            "without it, no key is valid"
        )
    return secret
