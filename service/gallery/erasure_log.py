"""The list of erasures beside the store, which a restored backup needs if the store is lost.

The store holds the same keys, committed with each erasure. The list is written from them, so a process that is killed
between the two leaves a list that the next start completes.
"""

import json
import logging
import os
from pathlib import Path

from models.artefact.directories import sync
from models.errors import VultusError
from service.errors import ErasuresDamaged
from service.gallery.erased_keys import read_line
from service.gallery.store import gallery_rows, template_rows
from service.gallery.store.database import Database
from service.storage.private_files import open_private

ERASURE_LOG = "erasures.log"

_WINDOW_BYTES = 65536

_log = logging.getLogger("vultus")


class ErasureLog:
    """Appends erasures to the list. The caller excludes other writers of the store."""

    def __init__(self, path: Path, database: Database) -> None:
        """Find out what the list has.

        Args:
            path: File of the list, which may be missing.
            database: The store.

        Raises:
            StoreFailed: The file system refused a read of the store.
        """
        self._path = path
        self._database = database
        with database.reading() as connection:
            self._store, _ = template_rows.store_and_sequence(connection)
        self._last: int | None = None

    def update(self) -> None:
        """Append the erasures that the list lacks, and flush it to disk.

        If the disk refuses it, this is logged, and the next erasure, backup or start appends them: the erasures
        themselves are committed.
        """
        try:
            if self._last is None:
                self._last = self._last_number()
            with self._database.reading() as connection:
                erasures = gallery_rows.erasures_after(connection, self._store, self._last)
            if not erasures:
                return
            self._append("".join(erasure.line() for erasure in erasures).encode())
            self._last = erasures[-1].number
        except (OSError, VultusError) as error:
            self._last = None  # the end of the list is unknown
            _log.warning("the list of erasures was not completed and is completed later: %s", error)

    def _append(self, lines: bytes) -> None:
        is_new = not self._path.exists()
        with os.fdopen(open_private(self._path, os.O_WRONLY | os.O_APPEND), "ab") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            sync(self._path.parent)

    def _last_number(self) -> int:
        """Remove an incomplete last line, and return the number of the last erasure in the list; 0 for none."""
        try:
            with self._path.open("r+b") as file:
                size = file.seek(0, os.SEEK_END)
                window = _WINDOW_BYTES
                while True:
                    start = max(0, size - window)
                    file.seek(start)
                    lines = file.read(size - start).split(b"\n")
                    if start == 0 or len(lines) > 2:
                        break
                    window *= 2
                if lines[-1]:
                    file.truncate(size - len(lines[-1]))
        except FileNotFoundError:
            return 0
        try:
            last = read_line(lines[-2].decode("utf-8", "replace")) if len(lines) > 1 else None
        except (ErasuresDamaged, json.JSONDecodeError):
            return 0  # all erasures of the store are appended again
        return last.number if last is not None and last.store == self._store else 0
