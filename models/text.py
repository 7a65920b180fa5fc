"""Text that quotes names from files and users."""

from collections.abc import Iterable


def printable(text: str) -> str:
    """Replace unprintable characters by U+FFFD, so that file names cannot send control codes to a terminal or page."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def quoted(text: str, limit: int = 80) -> str:
    """Return a name that a file chose as it may stand in a sentence: without control codes, its middle cut if long."""
    if len(text) > limit:
        half = (limit - 1) // 2
        text = f"{text[:half]}…{text[-half:]}"
    return printable(text)


def listed(names: Iterable[str], limit: int = 8) -> str:
    """Return names for a sentence, separated by commas; a count stands for those beyond the limit."""
    every = list(names)
    shown = ", ".join(quoted(name) for name in every[:limit])
    return f"{shown} and {len(every) - limit} more" if len(every) > limit else shown
