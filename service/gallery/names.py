"""Names of galleries and subjects: any alphabet, and nothing that an address, a log or a screen takes for more."""

import re
import unicodedata

from service.errors import NameInvalid

LONGEST = 200  # characters

_PLAIN = re.compile(r"\w(?:[\w .@'+-]{0,98}\w)?", re.ASCII)
_REFUSED = {
    "Cc": "a control character",
    "Cs": "half a character",
    "Co": "a character of private use",
    "Cn": "a character that does not exist",
    "Zl": "a line break",
    "Zp": "a line break",
}
_TURNS_TEXT_AROUND = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")


def clean_name(name: str, what: str) -> str:
    """Return a name in Unicode's composed form, so that one name is not two.

    Args:
        name: As it was given.
        what: `gallery` or `subject`.

    Raises:
        NameInvalid: It is empty, too long, or holds what is not harmless.
    """
    if _PLAIN.fullmatch(name):  # nearly all of a million
        return name
    if not name:
        raise _invalid(what, "is empty")
    if len(name) > LONGEST:  # before anything that takes long for long ones
        raise _invalid(what, f"has {len(name)} characters; at most {LONGEST} are accepted")
    name = unicodedata.normalize("NFC", name)
    if name != name.strip():
        raise _invalid(what, "begins or ends with a space")
    if name in (".", ".."):
        raise _invalid(what, "is a step in a path")
    for character in name:
        if character in "/\\":
            raise _invalid(what, "holds a slash, which an address cannot carry")
        if character in _TURNS_TEXT_AROUND:
            raise _invalid(what, "holds a character that turns text around")
        if kind := _REFUSED.get(unicodedata.category(character)):
            raise _invalid(what, f"holds {kind} (U+{ord(character):04X})")
    return name


def sought_name(name: str) -> str:
    """Return the form in which a name is looked for; what could not be a name is found nowhere."""
    return unicodedata.normalize("NFC", name[: LONGEST + 1]).encode("utf-8", "replace").decode()


def _invalid(what: str, why: str) -> NameInvalid:
    error = NameInvalid(f"the name of the {what} {why}")
    error.part = what
    return error
