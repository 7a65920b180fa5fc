"""Cursors of lists: opaque to clients, the last name of a part within."""

import base64
import binascii

from service.errors import CursorInvalid


def cursor_of(name: str) -> str:
    """Make the cursor behind a name."""
    return base64.urlsafe_b64encode(name.encode()).decode()


def name_behind(cursor: str | None) -> str:
    """Read a cursor; the beginning if there is none.

    Raises:
        CursorInvalid: It is none that a list gave.
    """
    if cursor is None:
        return ""
    try:
        return base64.b64decode(cursor, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise CursorInvalid("the cursor is none that a list gave; take `next` of the part before") from error
