"""Cursors of list operations: opaque to clients, they encode the last name of a page."""

import base64
import binascii

from service.errors import CursorInvalid


def cursor_of(name: str) -> str:
    """Return the cursor of the page after a name."""
    return base64.urlsafe_b64encode(name.encode()).decode()


def last_name(cursor: str | None) -> str:
    """Return the name after which the page of a cursor begins; an empty name for the first page.

    Raises:
        CursorInvalid: The cursor was not returned by a list operation.
    """
    if cursor is None:
        return ""
    try:
        return base64.b64decode(cursor, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise CursorInvalid("the cursor is invalid; send `next` of the previous page") from error
