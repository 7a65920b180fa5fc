"""The form of a key: `vultus_<id>_<secret><checksum>`.

The fixed beginning and the checksum let scanners find keys in source code and logs with hardly any false finding. The
checksum also tells a mistyped key from a wrong one without a look into the store. Only a digest of a key is stored.
"""

import hashlib
import hmac
import re
import secrets
import string
import zlib
from typing import NamedTuple

from service.errors import KeyMalformed

TOKEN = re.compile(r"vultus_(?P<id>[0-9a-z]{12})_(?P<secret>[0-9A-Za-z]{40})(?P<checksum>[0-9A-Za-z]{6})")

_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_ID_DIGITS = string.digits + string.ascii_lowercase
_ID_CHARACTERS = 12
_SECRET_CHARACTERS = 40  # 238 bits
_CHECKSUM_CHARACTERS = 6  # the least that hold 32 bits


class Token(NamedTuple):
    """A key as its owner sends it.

    Attributes:
        id: Public id of the key.
        text: The whole key, which is secret.
    """

    id: str
    text: str


def new_token() -> Token:
    """Return a key of random digits."""
    key_id = "".join(secrets.choice(_ID_DIGITS) for _ in range(_ID_CHARACTERS))
    secret = "".join(secrets.choice(_DIGITS) for _ in range(_SECRET_CHARACTERS))
    begun = f"vultus_{key_id}_{secret}"
    return Token(key_id, begun + _checksum(begun))


def parse_token(text: str) -> Token:
    """Parse a key.

    Raises:
        KeyMalformed: The text does not have the form of a key, or its checksum differs.
    """
    parts = TOKEN.fullmatch(text)
    if parts is None:
        raise KeyMalformed("the key does not have the form vultus_<id>_<secret>")
    if _checksum(text[:-_CHECKSUM_CHARACTERS]) != parts["checksum"]:
        raise KeyMalformed("the key is mistyped or cut off: its checksum does not match")
    return Token(parts["id"], text)


def digest_of(token: Token, server_secret: bytes) -> bytes:
    """Return the HMAC-SHA-256 of a key, 32 bytes, which is what the store keeps."""
    return hmac.digest(server_secret, token.text.encode(), hashlib.sha256)


def _checksum(text: str) -> str:
    number = zlib.crc32(text.encode())
    digits = []
    for _ in range(_CHECKSUM_CHARACTERS):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
