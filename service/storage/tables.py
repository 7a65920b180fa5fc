"""A store of tables: SQLAlchemy Core on a private SQLite file, with Alembic migrations.

Several processes may open the same file, such as a service and a command beside it. Each commit is durable before it is
acknowledged.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DatabaseError

from service.errors import StoreUnfit
from service.storage.disk_errors import translated_errors
from service.storage.private_files import open_private

_BUSY_WAIT_MS = 5000  # maximum time to wait for other processes that write
_TRUNCATION_WAIT_MS = 250  # maximum time that the truncation of a log waits for readers
_MIGRATION_SCRIPTS = Path(__file__).parent / "migrations"
_BEGIN = "begin"  # execution option: the statement that begins a transaction


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables of a store.

    Attributes:
        name: The store as messages name it, such as `the store of keys`.
        versions: Directory of the Alembic migrations.
        head: Revision of the newest migration, so that an up-to-date store opens without loading Alembic.
    """

    name: str
    versions: Path
    head: str


class Tables:
    """A store of tables. Thread-safe."""

    def __init__(self, path: Path, schema: Schema) -> None:
        """Open a store, creating it if missing, and migrate it to the newest schema.

        Args:
            path: The SQLite file. It is private when it is new, and so is its directory.
            schema: The tables.

        Raises:
            StoreUnfit: The file is not such a store, or a newer version wrote it.
            StorageFull: The disk is full.
            StoreBusy: Another process has locked the store.
            StoreFailed: The file system refused a read or write.
        """
        self.path = path
        self._name = schema.name
        with translated_errors(self._name):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(open_private(path, os.O_RDWR))
            self.engine = _engine(path)
            self._writer = _writing(self.engine)
        try:
            with translated_errors(self._name):
                _migrate(self.engine, schema)
        except DatabaseError as error:
            self.close()
            raise StoreUnfit(f"{path.name} is not {schema.name}: {error.orig}") from error
        except BaseException:
            self.close()
            raise

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Read in one transaction, which sees a single state.

        Raises:
            StoreBusy: Another process has locked the store.
            StoreFailed: The file system refused a read.
        """
        with translated_errors(self._name), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Change the store in one transaction, which is durable when the block ends without an error.

        Raises:
            StorageFull: The disk is full; nothing was changed.
            StoreBusy: Another process has locked the store; nothing was changed.
            StoreFailed: The file system refused a read or write; nothing was changed.
        """
        with translated_errors(self._name), self._writer.begin() as connection:
            yield connection

    def truncate_log(self) -> bool:
        """Move the write-ahead log into the store and truncate it, so that neither has anything that was deleted.

        Returns:
            Whether it was truncated; another reader may prevent it.

        Raises:
            StorageFull: The disk is full.
            StoreFailed: The file system refused a read or write.
        """
        with translated_errors(self._name), closing(self.engine.raw_connection()) as connection:
            cursor = connection.cursor()
            try:
                cursor.execute(f"PRAGMA busy_timeout = {_TRUNCATION_WAIT_MS}")
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                (busy, *_) = cursor.fetchone() or (1,)
                return not busy
            finally:
                cursor.execute(f"PRAGMA busy_timeout = {_BUSY_WAIT_MS}")
                cursor.close()

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _engine(path: Path) -> Engine:
    engine = create_engine(URL.create("sqlite", database=str(path)), connect_args={"timeout": _BUSY_WAIT_MS / 1000})

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # otherwise sqlite3 begins transactions at its own time
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))

    return engine


def _writing(engine: Engine) -> Engine:
    """Return the engine whose transactions lock out other writers from their beginning, so that none fails halfway."""
    return engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})


def _migrate(engine: Engine, schema: Schema) -> None:
    with engine.begin() as connection:
        if _revision(connection) == schema.head:
            return
    with _writing(engine).begin() as connection:
        revision = _revision(connection)  # another process may have migrated it meanwhile
        if revision != schema.head:
            _upgrade(connection, schema, revision)


def _revision(connection: Connection) -> str | None:
    """Return the revision of a store, or None if it is new."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def _upgrade(connection: Connection, schema: Schema, revision: str | None) -> None:
    from alembic import command  # imported here because only a new version needs it, and it takes half a second
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    options = {
        "script_location": str(_MIGRATION_SCRIPTS),
        "version_locations": str(schema.versions),
        "path_separator": "newline",
    }
    for option, value in options.items():
        config.set_main_option(option, value.replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if revision is not None and revision not in known:
        raise StoreUnfit(f"a newer Vultus wrote {schema.name} (revision {revision}); nothing was changed")
    attributes: dict[str, Any] = config.attributes
    attributes["connection"] = connection
    command.upgrade(config, "head")
