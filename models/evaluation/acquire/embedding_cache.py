"""Embeddings of pictures that were evaluated before, by what the pictures contain.

One SQLite file for each way of making embeddings: contract, engine, precision, detector, policy. A second run needs no
inference, and a run that was interrupted goes on where it was. The file holds no names and no paths, but embeddings
are biometric data: who deletes the pictures deletes it as well.
"""

import json
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.artefact.digests import value_digest
from models.errors import CacheFailed
from models.quality import FaceGeometry

_FORMAT = 1
_VARIABLES = 500  # of one statement; SQLite has a limit
_SCHEMA = """
CREATE TABLE IF NOT EXISTS conditions (terms TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS faces (
    content BLOB PRIMARY KEY, embeddings BLOB, norms BLOB, geometry BLOB, code TEXT, reason TEXT
) WITHOUT ROWID;
"""


class KnownFace(NamedTuple):
    """What was made of a picture.

    Attributes:
        embeddings: (V, D) float32, each of length 1, of its views: the picture and perhaps its mirror image.
        norms: (V,) float32, their lengths before.
        geometry: How the face lies in the picture; NaN where that means nothing.
    """

    embeddings: NDArray[np.float32]
    norms: NDArray[np.float32]
    geometry: FaceGeometry


class KnownFailure(NamedTuple):
    """Why nothing was made of a picture."""

    code: str
    reason: str


Known = KnownFace | KnownFailure


class EmbeddingCache:
    """What is known of pictures. Safe for use by several threads at once."""

    def __init__(self, directory: Path, conditions: Mapping[str, Any]) -> None:
        """Open, or make, the file of these conditions.

        Args:
            directory: Where such files lie.
            conditions: All that an embedding depends on beside the picture.

        Raises:
            CacheFailed: The file cannot be used.
        """
        terms = {"format": _FORMAT, **conditions}
        self.path = directory / f"{value_digest(terms)[:32]}.sqlite"
        self._lock = threading.Lock()
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self.path, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.executescript(_SCHEMA)
            if self._connection.execute("SELECT COUNT(*) FROM conditions").fetchone() == (0,):
                with self._connection:
                    self._connection.execute("INSERT INTO conditions VALUES (?)", (json.dumps(terms),))
        except (OSError, sqlite3.Error) as error:
            raise self._failed(error) from error

    def read(self, contents: Sequence[bytes]) -> dict[bytes, Known]:
        """Return what is known of pictures by the digest of their content."""
        known: dict[bytes, Known] = {}
        for start in range(0, len(contents), _VARIABLES):
            asked = contents[start : start + _VARIABLES]
            marks = ",".join("?" * len(asked))
            try:
                with self._lock:
                    rows = self._connection.execute(
                        f"SELECT * FROM faces WHERE content IN ({marks})", tuple(asked)
                    ).fetchall()
                known |= {row[0]: _known(*row[1:]) for row in rows}
            except (sqlite3.Error, ValueError, TypeError) as error:  # the latter two of a row that was altered
                raise self._failed(error) from error
        return known

    def write(self, known: Mapping[bytes, Known]) -> None:
        """Keep what was made of pictures."""
        rows = [(content, *_row(one)) for content, one in known.items()]
        try:
            with self._lock, self._connection:
                self._connection.executemany("INSERT OR REPLACE INTO faces VALUES (?, ?, ?, ?, ?, ?)", rows)
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _failed(self, error: Exception) -> CacheFailed:
        return CacheFailed(
            f"the file of known embeddings {self.path.name} cannot be used ({error}); "
            "remove it, or go without: --no-cache"
        )


def _known(embeddings: bytes, norms: bytes, geometry: bytes, code: str | None, reason: str | None) -> Known:
    if code is not None:
        return KnownFailure(code, reason or "")
    lengths = np.frombuffer(norms, np.float32)
    views = np.frombuffer(embeddings, np.float32).reshape(len(lengths), -1)
    return KnownFace(views, lengths, FaceGeometry(*np.frombuffer(geometry, np.float64).tolist()))


def _row(known: Known) -> tuple[bytes, bytes, bytes, str | None, str | None]:
    if isinstance(known, KnownFailure):
        return b"", b"", b"", known.code, known.reason
    geometry = np.array(known.geometry, np.float64).tobytes()
    return known.embeddings.tobytes(), known.norms.tobytes(), geometry, None, None
