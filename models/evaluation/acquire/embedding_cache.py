"""Cache of embeddings of evaluation pictures, by the digest of their content.

The cache has one SQLite file for each set of conditions: contract, engine, precision, detector, policy. A second run
needs no inference, and a run after an interrupt resumes where the first one stopped. The files hold no names and no
paths, but embeddings are biometric data: a user who deletes the pictures must delete the cache too.
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
_VARIABLES = 500  # digests in one SELECT; SQLite limits the variables of a statement
_SCHEMA = """
CREATE TABLE IF NOT EXISTS conditions (terms TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS faces (
    content BLOB PRIMARY KEY, embeddings BLOB, norms BLOB, geometry BLOB, code TEXT, reason TEXT
) WITHOUT ROWID;
"""


class CachedFace(NamedTuple):
    """The embedded face of a picture.

    Attributes:
        embeddings: (V, D) float32, each of length 1, one for each view: the picture and optionally its mirror image.
        norms: (V,) float32, lengths of the embeddings before normalisation.
        geometry: Geometry of the face in the picture; NaN if no detector ran.
    """

    embeddings: NDArray[np.float32]
    norms: NDArray[np.float32]
    geometry: FaceGeometry


class CachedFailure(NamedTuple):
    """The reason why a picture has no embedding.

    Attributes:
        code: Error code.
        reason: Error sentence.
    """

    code: str
    reason: str


Cached = CachedFace | CachedFailure


class EmbeddingCache:
    """Cached faces and failures under one set of conditions. Thread-safe."""

    def __init__(self, directory: Path, conditions: Mapping[str, Any]) -> None:
        """Open the file of these conditions; create it if it does not exist.

        Args:
            directory: Directory of the cache files.
            conditions: Everything that an embedding depends on, except the picture.

        Raises:
            CacheFailed: The file cannot be opened or created.
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

    def read(self, contents: Sequence[bytes]) -> dict[bytes, Cached]:
        """Return the cached entries of pictures by the digest of their content.

        Args:
            contents: Digests of the pictures; digests without an entry are not in the returned dictionary.

        Raises:
            CacheFailed: The file cannot be read, or a row is malformed.
        """
        entries: dict[bytes, Cached] = {}
        for start in range(0, len(contents), _VARIABLES):
            digests = contents[start : start + _VARIABLES]
            marks = ",".join("?" * len(digests))
            try:
                with self._lock:
                    rows = self._connection.execute(
                        f"SELECT * FROM faces WHERE content IN ({marks})", tuple(digests)
                    ).fetchall()
                entries |= {row[0]: _entry(*row[1:]) for row in rows}
            except (sqlite3.Error, ValueError, TypeError) as error:  # ValueError, TypeError: the row is malformed
                raise self._failed(error) from error
        return entries

    def write(self, known: Mapping[bytes, Cached]) -> None:
        """Store the entries of pictures by the digest of their content.

        Raises:
            CacheFailed: The file cannot be written.
        """
        rows = [(content, *_row(entry)) for content, entry in known.items()]
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
            f"the embedding cache {self.path.name} cannot be used ({error}); remove it, or run with --no-cache"
        )


def _entry(embeddings: bytes, norms: bytes, geometry: bytes, code: str | None, reason: str | None) -> Cached:
    if code is not None:
        return CachedFailure(code, reason or "")
    view_norms = np.frombuffer(norms, np.float32)
    views = np.frombuffer(embeddings, np.float32).reshape(len(view_norms), -1)
    return CachedFace(views, view_norms, FaceGeometry(*np.frombuffer(geometry, np.float64).tolist()))


def _row(entry: Cached) -> tuple[bytes, bytes, bytes, str | None, str | None]:
    if isinstance(entry, CachedFailure):
        return b"", b"", b"", entry.code, entry.reason
    geometry = np.array(entry.geometry, np.float64).tobytes()
    return entry.embeddings.tobytes(), entry.norms.tobytes(), geometry, None, None
