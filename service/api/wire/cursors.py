"""Keys in paths, and cursors of list operations: opaque to clients, they encode the last name or key of a page."""

import base64
import binascii

from service.errors import CursorInvalid, TemplateUnknown

KEY_DIGITS = 18
"""Digits of a key, of which the largest is 2**63 - 1, so that numbers of as many digits are in range."""


def key_of_template(number: str) -> int:
    """Return the key of a template from its number in a path.

    Raises:
        TemplateUnknown: The text is not a number of a template.
    """
    if not (number.isascii() and number.isdigit() and len(number) <= KEY_DIGITS):
        raise TemplateUnknown("the template must be given by its number")
    return int(number)


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


def last_key(cursor: str | None) -> int:
    """Return the key after which the page of a cursor begins; 0 for the first page.

    Raises:
        CursorInvalid: The cursor was not returned by a list operation.
    """
    digits = last_name(cursor) or "0"
    if not (digits.isascii() and digits.isdigit() and len(digits) <= KEY_DIGITS):
        raise CursorInvalid("the cursor is invalid; send `next` of the previous page")
    return int(digits)
