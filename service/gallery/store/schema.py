"""Tables, and the steps by which older stores become newer ones.

Keys are never used again (AUTOINCREMENT): an index that still knows an erased template can never give its place to
another person. `templates_gallery` holds what an index needs beside vectors, so that catching up reads no vectors.
"""

import sqlite3
from textwrap import dedent

from service.errors import StoreUnfit

PAGE_BYTES = 16384  # seven rows of 512 numbers fit in; into 4096 bytes one

MIGRATIONS = (
    """
    CREATE TABLE store (id TEXT NOT NULL) STRICT;
    INSERT INTO store VALUES (lower(hex(randomblob(16))));
    CREATE TABLE galleries (
        key INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        contract_id TEXT NOT NULL,
        dimensions INTEGER NOT NULL CHECK (dimensions > 0),
        kind TEXT NOT NULL,
        keep_crops INTEGER NOT NULL,
        metadata TEXT NOT NULL,
        created REAL NOT NULL
    ) STRICT;
    CREATE TABLE subjects (
        key INTEGER PRIMARY KEY AUTOINCREMENT,
        gallery INTEGER NOT NULL REFERENCES galleries ON DELETE CASCADE,
        name TEXT NOT NULL,
        metadata TEXT NOT NULL,
        created REAL NOT NULL,
        UNIQUE (gallery, name)
    ) STRICT;
    CREATE TABLE templates (
        key INTEGER PRIMARY KEY AUTOINCREMENT,
        gallery INTEGER NOT NULL REFERENCES galleries,
        subject INTEGER NOT NULL REFERENCES subjects ON DELETE CASCADE,
        contract_id TEXT NOT NULL,
        source BLOB NOT NULL CHECK (length(source) = 32),
        norm REAL,
        quality REAL,
        created REAL NOT NULL,
        embedding BLOB NOT NULL,
        UNIQUE (gallery, source)
    ) STRICT;
    CREATE INDEX templates_gallery ON templates (gallery, key, subject);
    CREATE INDEX templates_subject ON templates (subject);
    CREATE TABLE crops (
        template INTEGER PRIMARY KEY REFERENCES templates ON DELETE CASCADE,
        png BLOB NOT NULL
    ) STRICT;
    CREATE TABLE erasures (
        key INTEGER PRIMARY KEY AUTOINCREMENT,
        what TEXT NOT NULL,
        subjects INTEGER NOT NULL,
        templates INTEGER NOT NULL,
        crops INTEGER NOT NULL,
        erased REAL NOT NULL
    ) STRICT;
    """,
    """
    ALTER TABLE galleries ADD COLUMN min_quality REAL NOT NULL DEFAULT 0;
    """,
)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring a store to the newest version, each step in a transaction.

    Raises:
        StoreUnfit: It was written by a newer Vultus.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise StoreUnfit(
            f"the galleries were written by a newer Vultus (version {version} of the tables, this one knows "
            f"{len(MIGRATIONS)}); nothing was changed"
        )
    for number, script in enumerate(MIGRATIONS[version:], version + 1):
        connection.executescript(f"BEGIN IMMEDIATE;\n{dedent(script)}\nPRAGMA user_version = {number};\nCOMMIT;")
