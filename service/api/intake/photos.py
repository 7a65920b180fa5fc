"""The bytes of a photo, however a client labels and encodes them: the bytes decide, not the declared media type."""

import codecs

from service.base64_text import decode_base64, is_data_uri
from service.errors import Base64Malformed

_PREFIX = 64  # every image format has a byte that is not text within its header


def is_binary(content: bytes) -> bool:
    """Return whether content begins with bytes that no text has."""
    beginning = content[:_PREFIX]
    if b"\0" in beginning:
        return True
    try:
        codecs.getincrementaldecoder("utf-8")().decode(beginning)  # the last character may be cut off
    except UnicodeDecodeError:
        return True
    return False


def photo_bytes(content: bytes) -> bytes:
    """Return the bytes of a photo, decoded if they were sent as base64 or as a data URI.

    Raises:
        Base64Malformed: The content is a data URI that cannot be decoded.
    """
    if is_binary(content):
        return content
    try:
        return decode_base64(content)
    except Base64Malformed:
        if is_data_uri(content):
            raise
        return content  # no image, which the decoder says
