"""The protocols that keys speak: the own one, that of CompreFace, and that of Amazon Rekognition.

A key of one protocol is unknown to the others, so that a client cannot take a wider path than the one it was given.
"""

import re
import secrets
import string
import uuid
from collections.abc import Mapping
from typing import Literal

from service.errors import KeyMalformed
from service.security.keys.tokens import Token, new_token
from service.security.scopes import Scope

Protocol = Literal["vultus", "compreface", "rekognition"]

CompreFaceService = Literal["recognition", "detection", "verification"]
"""The kind of service to which CompreFace binds each key."""

SERVICE_SCOPES: Mapping[CompreFaceService, tuple[Scope, ...]] = {
    "recognition": ("detect", "embed", "verify", "identify", "enrol", "read", "erase"),
    "detection": ("detect", "embed"),
    "verification": ("detect", "embed", "verify"),
}
"""What keys of CompreFace's services may do."""

REKOGNITION_SCOPES: tuple[Scope, ...] = ("detect", "embed", "verify", "identify", "enrol", "read", "erase")
"""What access keys of Rekognition's protocol may do."""

_ACCESS_KEY_PREFIX = "VULTUSAK"  # not AKIA, by which scanners find keys of Amazon
_ACCESS_KEY_ID = re.compile(_ACCESS_KEY_PREFIX + r"(?P<id>[0-9A-Z]{12})")
_SECRET_DIGITS = string.ascii_letters + string.digits
_SECRET_CHARACTERS = 40  # 238 bits; as long as those of Amazon
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ID_CHARACTERS = 12  # of a UUID that are its public id; the other 80 bits but 6 are secret


def new_token_of(protocol: Protocol) -> Token:
    """Return a key of random digits in the form of a protocol; the text of one of Rekognition is its secret key."""
    if protocol == "compreface":
        return _uuid_token(uuid.uuid4())
    token = new_token()
    if protocol == "rekognition":
        return Token(token.id, "".join(secrets.choice(_SECRET_DIGITS) for _ in range(_SECRET_CHARACTERS)))
    return token


def parse_uuid(text: str) -> Token:
    """Parse a key of CompreFace's protocol.

    Raises:
        KeyMalformed: The text is not a UUID.
    """
    if not _UUID.fullmatch(text.lower()):
        raise KeyMalformed("the key is not a UUID")
    return _uuid_token(uuid.UUID(text))


def access_key_id(key_id: str) -> str:
    """Return the public id of an access key, as clients of Rekognition name it, from the id of the key."""
    return _ACCESS_KEY_PREFIX + key_id.upper()


def parse_access_key_id(text: str) -> str:
    """Return the id of a key from the public id of an access key.

    Raises:
        KeyMalformed: The text is not such an id.
    """
    parts = _ACCESS_KEY_ID.fullmatch(text)
    if parts is None:
        raise KeyMalformed("the access key id was not made by this service")
    return parts["id"].lower()


def _uuid_token(value: uuid.UUID) -> Token:
    return Token(value.hex[:_ID_CHARACTERS], str(value))
