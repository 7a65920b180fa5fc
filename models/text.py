"""Text that quotes names from files and users."""


def printable(text: str) -> str:
    """Replace unprintable characters by U+FFFD, so that file names cannot send control codes to a terminal or page."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
