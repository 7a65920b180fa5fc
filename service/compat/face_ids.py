"""Ids of stored faces as clients of other products know them: UUIDs.

The id of a template is the first half of the digest of its source, which is unique in its gallery. It needs no table
of its own, is found by the SQL index of sources, and survives an export.
"""

import uuid

ID_BYTES = 16


def face_id(source: bytes) -> str:
    """Return the id of the template of a source (SHA-256, 32 bytes)."""
    return str(uuid.UUID(bytes=source[:ID_BYTES]))


def source_prefix(text: str) -> bytes | None:
    """Return the beginning of the source of a template from its id; None if the text is not a UUID."""
    try:
        return uuid.UUID(text).bytes
    except ValueError:
        return None
