"""Tokens of pages: opaque to clients, they name the collection, so that they hold for no other one."""

import base64
import binascii

from service.errors import CursorInvalid

_INVALID = "the pagination token is invalid, or belongs to another collection"


def token_of(collection: int, last: str) -> str:
    """Return the token of the page after an entry.

    Args:
        collection: Key of the gallery; 0 for the list of collections.
        last: The last entry of the page before.
    """
    return base64.urlsafe_b64encode(f"{collection}:{last}".encode()).decode()


def last_entry(token: str | None, collection: int) -> str:
    """Return the entry after which the page of a token begins; an empty text for the first page.

    Raises:
        CursorInvalid: The token was not returned for this collection.
    """
    if token is None:
        return ""
    try:
        owner, separator, last = base64.b64decode(token, altchars=b"-_", validate=True).decode().partition(":")
    except (binascii.Error, ValueError) as error:
        raise CursorInvalid(_INVALID) from error
    if owner != str(collection) or not separator:
        raise CursorInvalid(_INVALID)
    return last


def last_key(token: str | None, collection: int) -> int:
    """Return the key after which the page of a token begins; 0 for the first page.

    Raises:
        CursorInvalid: The token was not returned for this collection.
    """
    digits = last_entry(token, collection) or "0"
    if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        raise CursorInvalid(_INVALID)
    return int(digits)
