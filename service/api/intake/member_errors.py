"""Errors of members, which name the member."""

from collections.abc import Iterable
from difflib import get_close_matches

from service.errors import MemberUnknown, RequestError

_LONGEST = 100  # the comparison takes quadratic time


def at(error: RequestError, part: str) -> RequestError:
    """Return an error with the name of the part, member or parameter that caused it."""
    error.part = part
    return error


def unknown(kind: str, name: str, known: Iterable[str]) -> RequestError:
    """Return the error of an unknown name, with the known name that resembles it.

    Args:
        kind: What the name belongs to: a part, a member.
        name: The unknown name.
        known: The names that the operation knows.
    """
    bare = name.partition("[")[0].lower()
    similar = get_close_matches(bare[:_LONGEST], known, 1)
    hint = f"; send {similar[0]!r}" if similar else ""
    return at(MemberUnknown(f"unknown {kind} {name!r}{hint}"), name)
