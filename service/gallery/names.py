"""Names of galleries and subjects.

A name may use any alphabet. Slashes, line breaks, control characters and the like are refused, because URL paths, logs
and terminals interpret them.
"""

import re
import unicodedata

from service.errors import NameInvalid

MAX_NAME_CHARACTERS = 200  # in composed form

_PLAIN = re.compile(r"\w(?:[\w .@'+-]{0,98}\w)?", re.ASCII)
_MAX_RECEIVED = 4 * MAX_NAME_CHARACTERS  # composition joins at most four characters
_REFUSED = {
    "Cc": "a control character",
    "Cs": "an unpaired surrogate",
    "Co": "a private-use character",
    "Cn": "an unassigned character",
    "Zl": "a line separator",
    "Zp": "a paragraph separator",
}
_REPLACEMENT = "\ufffd"
_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")


def clean_name(name: str, what: str) -> str:
    """Return a name in Unicode's composed form (NFC), so that two spellings of it compare equal.

    Args:
        name: Name as received.
        what: What has the name, such as `gallery`; messages and `part` of the error name it.

    Raises:
        NameInvalid: The name is empty, longer than `MAX_NAME_CHARACTERS` in composed form, begins or ends with a
            space, is a relative path segment, or contains a refused character.
    """
    if _PLAIN.fullmatch(name):  # fast path, which matches nearly all names of a large import
        return name
    if not name:
        raise _invalid(what, "is empty")
    if len(name) <= _MAX_RECEIVED:  # the time of the composition grows with the square of the length
        name = unicodedata.normalize("NFC", name)
    if len(name) > MAX_NAME_CHARACTERS:  # the composed form may be longer, because some characters have none
        raise _invalid(what, f"has {len(name)} characters; at most {MAX_NAME_CHARACTERS} are accepted")
    if name != name.strip():
        raise _invalid(what, "begins or ends with a space")
    if name in (".", ".."):
        raise _invalid(what, "is a relative path segment")
    for character in name:
        if character in "/\\":
            raise _invalid(what, "contains a slash, which a URL path segment cannot carry")
        if character == _REPLACEMENT:  # two names that are not UTF-8 would become one
            raise _invalid(what, "contains bytes that are not UTF-8, or the character U+FFFD")
        if character in _BIDI_CONTROLS:
            raise _invalid(what, "contains a character that changes the text direction")
        if kind := _REFUSED.get(unicodedata.category(character)):
            raise _invalid(what, f"contains {kind} (U+{ord(character):04X})")
    return name


def lookup_name(name: str) -> str:
    """Return the form in which a name is looked up; an invalid name matches no row."""
    return unicodedata.normalize("NFC", name[: _MAX_RECEIVED + 1]).encode("utf-8", "replace").decode()


def _invalid(what: str, why: str) -> NameInvalid:
    error = NameInvalid(f"the name of the {what} {why}")
    error.part = what
    return error
