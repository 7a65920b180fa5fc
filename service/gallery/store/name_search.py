"""Search for subjects by a part of their name, in pages whose work is bounded.

An SQL index has the names in order, so a page reads a run of names from it, and compares each in Python: SQLite folds
the case of ASCII only.
"""

from typing import NamedTuple

from service.gallery.records import Gallery, Subject
from service.gallery.store import subject_rows
from service.gallery.store.contents import StoreConnection

MAX_EXAMINED = 20_000  # names of one page, which take some 10 ms; see the figures in service/README.md


class Found(NamedTuple):
    """A page of a search.

    Attributes:
        subjects: The subjects found, sorted by name; may be empty although more names follow.
        last: Name after which the next page begins; None if no names follow.
    """

    subjects: list[Subject]
    last: str | None


def search(
    connection: StoreConnection, gallery: Gallery, text: str, after: str, limit: int, most: int = MAX_EXAMINED
) -> Found:
    """Read subjects whose names contain a text, without regard to case.

    Args:
        connection: Connection with an open transaction.
        gallery: Gallery of the subjects.
        text: The text, in composed form.
        after: Name after which to start.
        limit: Maximum number of subjects.
        most: Maximum number of names to compare.
    """
    wanted = text.casefold()
    keys: list[int] = []
    examined, last = 0, after
    is_complete = False
    rows = connection.execute(
        "SELECT name, key FROM subjects WHERE gallery = ? AND name > ? ORDER BY name LIMIT ?",
        (gallery.key, after, most + 1),
    )
    for name, key in rows:
        if examined == most or len(keys) == limit:
            break
        examined, last = examined + 1, name
        if wanted in name.casefold():
            keys.append(key)
    else:
        is_complete = True
    return Found(subject_rows.find_by_keys(connection, keys), None if is_complete else last)
