"""Tables of the store, and the migrations from older versions.

Keys are never reused (AUTOINCREMENT), so an index that still contains an erased template cannot attribute it to another
person. The SQL index `templates_gallery` covers the keys of templates and subjects, so that updating a search index
after a restart reads vectors of new templates only; `templates_subject` covers their sources, so that names of subjects
are compared with them without reading vectors. The pseudonym of a subject stands for it in the audit log.

`erasures.keys` and `merged_subjects` serve the restoring of backups: the erasure of a subject must also reach a backup
in which subjects that were merged into it later still are subjects of their own.

`former_subjects` has the subjects that a template belonged to before it was moved. A backup may still have it there:
the erasure of the subject must not reach a template that lives on elsewhere, and that of its last template must reach
the subject.

`store.encryption` says how contents are kept (see `contents`); `unfinished` if they are encrypted, but free pages and
snapshots may still have copies from before.
"""

import sqlite3
from textwrap import dedent

from service.errors import StoreUnfit

PAGE_BYTES = 16384  # holds seven rows of 512 float32 numbers; a page of 4096 bytes holds one

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
    """
    ALTER TABLE subjects ADD COLUMN pseudonym BLOB;
    UPDATE subjects SET pseudonym = randomblob(16);
    """,
    """
    ALTER TABLE galleries ADD COLUMN retain_days REAL NOT NULL DEFAULT 0;
    ALTER TABLE subjects ADD COLUMN expires REAL;
    ALTER TABLE templates ADD COLUMN expires REAL;
    CREATE INDEX subjects_expires ON subjects (expires) WHERE expires IS NOT NULL;
    CREATE INDEX templates_expires ON templates (expires) WHERE expires IS NOT NULL;
    CREATE INDEX templates_created ON templates (gallery, created);
    """,
    """
    ALTER TABLE erasures ADD COLUMN keys TEXT;
    CREATE TABLE merged_subjects (
        key INTEGER PRIMARY KEY,
        subject INTEGER NOT NULL REFERENCES subjects ON DELETE CASCADE
    ) STRICT;
    CREATE INDEX merged_subjects_subject ON merged_subjects (subject);
    """,
    """
    ALTER TABLE store ADD COLUMN encryption TEXT NOT NULL DEFAULT 'none'
        CHECK (encryption IN ('none', 'unfinished', 'aes-256-gcm'));
    """,
    """
    CREATE TABLE template_metadata (
        template INTEGER PRIMARY KEY REFERENCES templates ON DELETE CASCADE,
        json BLOB NOT NULL
    ) STRICT;
    """,
    """
    CREATE TABLE former_subjects (
        template INTEGER NOT NULL REFERENCES templates ON DELETE CASCADE,
        subject INTEGER NOT NULL,
        PRIMARY KEY (template, subject)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX former_subjects_subject ON former_subjects (subject);
    DROP INDEX templates_subject;
    CREATE INDEX templates_subject ON templates (subject, source);
    """,
)


def migrate(connection: sqlite3.Connection) -> None:
    """Migrate a store to the newest version, each step in a transaction.

    Raises:
        StoreUnfit: A newer Vultus wrote the store.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise StoreUnfit(
            f"the galleries were written by a newer Vultus (schema version {version}, this one supports up to "
            f"{len(MIGRATIONS)}); nothing was changed"
        )
    for number, script in enumerate(MIGRATIONS[version:], version + 1):
        connection.executescript(f"BEGIN IMMEDIATE;\n{dedent(script)}\nPRAGMA user_version = {number};\nCOMMIT;")
