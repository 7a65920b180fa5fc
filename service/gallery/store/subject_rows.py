"""Rows of the table `subjects`."""

import json
import sqlite3
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import count as counted

from service.errors import LineMalformed, SubjectAmbiguous, SubjectEmpty, SubjectExists, SubjectUnknown
from service.gallery.names import lookup_name
from service.gallery.records import (
    MAX_METADATA_CHARACTERS,
    NEVER,
    Expiry,
    Gallery,
    Metadata,
    NewSubject,
    Subject,
)
from service.gallery.store.contents import (
    StoreConnection,
    discard_new_owners,
    new_owners,
    open_metadata,
    seal_metadata,
)
from service.gallery.store.sequences import last_given
from service.gallery.store.slices import slices
from service.gallery.store.template_rows import counts

_COLUMNS = (
    "key, name, metadata, created, "
    "(SELECT COUNT(*) FROM templates WHERE templates.subject = subjects.key) AS templates, expires"
)


def add(
    connection: StoreConnection, gallery: Gallery, name: str, metadata: Metadata, expires: float | None = None
) -> Subject:
    """Add a subject.

    Raises:
        SubjectExists: The gallery already has a subject with this name.
    """
    if _keys(connection, gallery, [name]):
        raise SubjectExists("the gallery already has a subject with this name")
    _insert(connection, gallery, {name: NewSubject(metadata, expires=expires)})
    return find(connection, gallery, name)


def add_missing(connection: StoreConnection, gallery: Gallery, names: dict[str, NewSubject]) -> dict[str, int]:
    """Add the missing subjects, and return the keys of all named subjects."""
    known = _keys(connection, gallery, list(names))
    return known | _insert(connection, gallery, {name: new for name, new in names.items() if name not in known})


def _keys(connection: sqlite3.Connection, gallery: Gallery, names: Sequence[str]) -> dict[str, int]:
    """Return the keys of those named subjects that exist."""
    keys: dict[str, int] = {}
    for part, marks in slices(names):
        keys.update(
            connection.execute(
                f"SELECT name, key FROM subjects WHERE gallery = ? AND name IN ({marks})", (gallery.key, *part)
            )
        )
    return keys


def _insert(connection: StoreConnection, gallery: Gallery, subjects: dict[str, NewSubject]) -> dict[str, int]:
    """Add subjects that are missing, and return their keys."""
    now = time.time()
    keys = dict(zip(subjects, counted(newest(connection) + 1), strict=False))
    new_owners(connection, "subject", keys.values(), gallery.key)
    connection.executemany(
        "INSERT INTO subjects (key, gallery, name, metadata, created, expires, pseudonym) "
        "VALUES (?, ?, ?, ?, ?, ?, randomblob(16))",
        [
            (
                *(keys[name], gallery.key, name, seal_metadata(connection, "subject", keys[name], new.metadata)),
                *(now if new.created is None else new.created, new.expires),
            )
            for name, new in subjects.items()
        ],
    )
    return keys


def add_metadata(connection: StoreConnection, metadata: dict[int, Metadata], newer_than: int) -> None:
    """Add members to the metadata of subjects, given by key.

    Members that a subject already has are replaced only if the subject is newer than the key `newer_than`.

    Raises:
        LineMalformed: The metadata of a subject would exceed `MAX_METADATA_CHARACTERS`.
    """
    changed = []
    for part, marks in slices(list(metadata)):
        rows = connection.execute(f"SELECT key, metadata FROM subjects WHERE key IN ({marks})", tuple(part)).fetchall()
        opened = open_metadata(connection, "subject", [key for key, _ in rows], [stored for _, stored in rows])
        for (key, _), text in zip(rows, opened, strict=True):
            known = json.loads(text or "{}")
            added = {name: value for name, value in metadata[key].items() if key > newer_than or name not in known}
            merged = {**known, **added}
            if len(json.dumps(merged)) > MAX_METADATA_CHARACTERS:
                raise LineMalformed(
                    f"the subject would have more than {MAX_METADATA_CHARACTERS} characters of metadata, with what it "
                    "has in the gallery"
                )
            if merged != known:
                changed.append((seal_metadata(connection, "subject", key, merged), key))
    connection.executemany("UPDATE subjects SET metadata = ? WHERE key = ?", changed)


def newest(connection: sqlite3.Connection) -> int:
    """Return the largest key ever assigned to a subject."""
    return last_given(connection, "subjects")


def find(connection: StoreConnection, gallery: Gallery, name: str) -> Subject:
    """Read a subject.

    Raises:
        SubjectUnknown: The gallery has no subject with this name.
    """
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM subjects WHERE gallery = ? AND name = ?", (gallery.key, lookup_name(name))
    ).fetchone()
    for subject in _subjects(connection, [] if row is None else [row]):
        return subject
    raise SubjectUnknown("the gallery has no subject with this name")


def require_key(connection: sqlite3.Connection, gallery: Gallery, name: str) -> int:
    """Return the key of a subject, without reading what is encrypted.

    Raises:
        SubjectUnknown: The gallery has no subject with this name.
    """
    for key in _keys(connection, gallery, [lookup_name(name)]).values():
        return key
    raise SubjectUnknown("the gallery has no subject with this name")


def find_ignoring_case(connection: StoreConnection, gallery: Gallery, name: str) -> Subject:
    """Read the subject whose name is the same, or else the only one whose name differs in case only.

    Raises:
        SubjectUnknown: The gallery has no such subject.
        SubjectAmbiguous: It has several, and none in this spelling.
    """
    wanted = lookup_name(name)
    with suppress(SubjectUnknown):
        return find(connection, gallery, wanted)
    names = spellings(connection, gallery, wanted)
    if len(names) > 1:
        raise SubjectAmbiguous(f"{len(names)} subjects have this name in other spellings; send the spelling of one")
    return find(connection, gallery, names[0] if names else wanted)


def spellings(connection: StoreConnection, gallery: Gallery, name: str) -> list[str]:
    """Return the names that differ from a name in case only, or are the same, sorted; it is compared with all names."""
    folded = lookup_name(name).casefold()
    rows = connection.execute("SELECT name FROM subjects WHERE gallery = ? ORDER BY name", (gallery.key,))
    return [stored for (stored,) in rows if stored.casefold() == folded]


def find_by_key(connection: StoreConnection, key: int) -> Subject:
    """Read a subject by its key.

    Raises:
        SubjectUnknown: No subject has this key, or it was erased.
    """
    row = connection.execute(f"SELECT {_COLUMNS} FROM subjects WHERE key = ?", (key,)).fetchone()
    for subject in _subjects(connection, [] if row is None else [row]):
        return subject
    raise SubjectUnknown("the subject was erased")


def find_by_keys(connection: StoreConnection, keys: Sequence[int]) -> list[Subject]:
    """Read subjects by their keys, in the order of the keys; erased ones are missing from the answer."""
    found: dict[int, Subject] = {}
    for part, marks in slices(keys):
        rows = connection.execute(f"SELECT {_COLUMNS} FROM subjects WHERE key IN ({marks})", tuple(part)).fetchall()
        found.update((subject.key, subject) for subject in _subjects(connection, rows))
    return [found[key] for key in keys if key in found]


def page(connection: StoreConnection, gallery: Gallery, after: str, limit: int) -> list[Subject]:
    """Read at most `limit` subjects sorted by name, starting after the name `after`; -1 means no limit."""
    found: list[Subject] = []
    while True:
        wanted = limit if limit < 0 else limit - len(found)
        rows = connection.execute(
            f"SELECT {_COLUMNS} FROM subjects WHERE gallery = ? AND name > ? ORDER BY name LIMIT ?",
            (gallery.key, after, wanted),
        ).fetchall()
        found += _subjects(connection, rows)
        if limit < 0 or len(rows) < wanted or len(found) == limit:
            return found
        after = rows[-1][1]  # some of them were just erased


def keys_of(connection: sqlite3.Connection, gallery: Gallery) -> list[int]:
    """Read the keys of all subjects of a gallery."""
    return [key for (key,) in connection.execute("SELECT key FROM subjects WHERE gallery = ?", (gallery.key,))]


def count(connection: sqlite3.Connection, gallery: Gallery) -> int:
    """Count the subjects of a gallery."""
    (subjects,) = connection.execute("SELECT COUNT(*) FROM subjects WHERE gallery = ?", (gallery.key,)).fetchone()
    return int(subjects)


def all_of(connection: StoreConnection, gallery: Gallery) -> dict[int, tuple[str, str, float, float | None]]:
    """Read name, metadata as JSON, time of creation and time of expiry of all subjects by key, sorted by key."""
    rows = connection.execute(
        "SELECT key, name, metadata, created, expires FROM subjects WHERE gallery = ? ORDER BY key", (gallery.key,)
    ).fetchall()
    opened = open_metadata(connection, "subject", [row[0] for row in rows], [row[2] for row in rows])
    same: dict[str, str] = {}  # most subjects have the same metadata: none
    return {
        key: (name, same.setdefault(text, text), created, expires)
        for (key, name, _, created, expires), text in zip(rows, opened, strict=True)
        if text is not None
    }


def names(connection: sqlite3.Connection, keys: Sequence[int]) -> dict[int, str]:
    """Read names by key; erased subjects are missing from the answer."""
    found: dict[int, str] = {}
    for part, marks in slices(keys):
        found.update(connection.execute(f"SELECT key, name FROM subjects WHERE key IN ({marks})", tuple(part)))
    return found


def pseudonyms(connection: sqlite3.Connection, keys: Sequence[int]) -> dict[int, str]:
    """Read the pseudonyms of subjects by key, in hexadecimal; erased subjects are missing from the answer."""
    found: dict[int, str] = {}
    for part, marks in slices(keys):
        found.update(
            connection.execute(f"SELECT key, hex(pseudonym) FROM subjects WHERE key IN ({marks})", tuple(part))
        )
    return found


def pseudonyms_by_name(connection: sqlite3.Connection, gallery: str, names: Sequence[str]) -> dict[str, str]:
    """Read the pseudonyms of named subjects of a gallery, in hexadecimal; unknown names are missing from the answer."""
    found: dict[str, str] = {}
    for part, marks in slices([lookup_name(name) for name in names]):
        found.update(
            connection.execute(
                "SELECT subjects.name, hex(pseudonym) FROM subjects JOIN galleries ON galleries.key = gallery "
                f"WHERE galleries.name = ? AND subjects.name IN ({marks})",
                (lookup_name(gallery), *part),
            )
        )
    return found


def change(
    connection: StoreConnection,
    gallery: Gallery,
    subject: Subject,
    name: str | None = None,
    metadata: Metadata | None = None,
    expires: Expiry = None,
) -> Subject:
    """Change the given attributes of a subject.

    Raises:
        SubjectExists: Another subject of the gallery has the new name.
    """
    try:
        connection.execute(
            "UPDATE subjects SET name = ?, metadata = ?, expires = ? WHERE key = ?",
            (
                name or subject.name,
                seal_metadata(connection, "subject", subject.key, subject.metadata if metadata is None else metadata),
                subject.expires if expires is None else None if expires == NEVER else expires,
                subject.key,
            ),
        )
    except sqlite3.IntegrityError as error:
        raise SubjectExists("the gallery already has a subject with this name") from error
    return find(connection, gallery, name or subject.name)


def require_distinct(subject: Subject, other: Subject) -> None:
    """Refuse to merge a subject with itself.

    Raises:
        SubjectExists: Both are the same subject.
    """
    if subject.key == other.key:
        raise SubjectExists("a subject cannot be merged with itself")


def require_templates(subject: Subject) -> None:
    """Refuse a subject without templates.

    Raises:
        SubjectEmpty: The subject has no templates.
    """
    if not subject.template_count:
        raise SubjectEmpty("the subject has no templates to compare with")


def remove_empty(connection: StoreConnection, keys: Sequence[int], newer_than: int) -> None:
    """Remove the subjects among `keys` that are newer than the key `newer_than` and have no template."""
    new = [key for key in dict.fromkeys(keys) if key > newer_than]
    filled = counts(connection, new)
    empty = [key for key in new if key not in filled]
    connection.executemany("DELETE FROM subjects WHERE key = ?", [(key,) for key in empty])
    discard_new_owners(connection, "subject", empty)


def _subjects(
    connection: StoreConnection, rows: Sequence[tuple[int, str, str, float, int, float | None]]
) -> list[Subject]:
    """Return the subjects of rows, without those that were just erased."""
    opened = open_metadata(connection, "subject", [row[0] for row in rows], [row[2] for row in rows])
    return [
        Subject(key, name, json.loads(metadata), created, templates, expires)
        for (key, name, _, created, templates, expires), metadata in zip(rows, opened, strict=True)
        if metadata is not None
    ]
