"""A graph on the disk: only what takes long to build is kept a second time.

Layout: a line of JSON (what it is), the keys of its templates (int64, little-endian), the graph as FAISS writes it, and
the SHA-256 of all that. The digest is checked before FAISS sees a byte. Files appear whole or not at all.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.artefact.directories import sync
from service.errors import SnapshotUnfit
from service.gallery.index.faiss_vectors import read, write

_FORMAT = "vultus-graph/1"
_DIGEST_BYTES = 32
_PIECE_BYTES = 2**22
_LONGEST_HEADER = 4096
_PART = ".part"


class Snapshot(NamedTuple):
    """A graph and the (N,) int64 keys of its templates, rising but for the sign, negative where one was taken out."""

    graph: Any
    template_keys: NDArray[np.int64]


class Origin(NamedTuple):
    """Of what a snapshot was made.

    Attributes:
        contract_id: Of the embeddings.
        store: Id of the store.
        sequence: Largest key of a template that the store had given by then.
    """

    contract_id: str
    store: str
    sequence: int


def write_snapshot(path: Path, snapshot: Snapshot, origin: Origin) -> Path:
    """Write a snapshot beside its place, and return where; `publish` puts it there."""
    header = {"format": _FORMAT, **origin._asdict(), "templates": len(snapshot.template_keys)}
    digest = hashlib.sha256()
    part = path.with_name(path.name + _PART)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb", buffering=_PIECE_BYTES) as file:

            def put(piece: bytes) -> None:
                digest.update(piece)
                file.write(piece)

            put(json.dumps(header).encode() + b"\n")
            put(snapshot.template_keys.astype("<i8").tobytes())
            write(snapshot.graph, put)
            file.write(digest.digest())
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return part


def publish(part: Path, path: Path) -> None:
    """Put a snapshot that was written in its place."""
    part.rename(path)
    sync(path.parent)


def read_snapshot(path: Path, now: Origin) -> Snapshot:
    """Read a snapshot after its digest was checked.

    Args:
        path: The file.
        now: What the store is now; a snapshot that knows more than it is of a store that was put back.

    Raises:
        SnapshotUnfit: It is missing, cut off, altered, of another contract or store, or not of this FAISS.
    """
    try:
        with path.open("rb", buffering=_PIECE_BYTES) as file:
            left = path.stat().st_size - _DIGEST_BYTES
            digest = hashlib.sha256()
            while left > 0:
                piece = file.read(min(left, _PIECE_BYTES))
                digest.update(piece)
                left -= len(piece)
            if left < 0 or file.read() != digest.digest():
                raise SnapshotUnfit("the snapshot is cut off or altered")
            file.seek(0)
            header = json.loads(file.readline(_LONGEST_HEADER))
            if (header["format"], header["contract_id"], header["store"]) != (_FORMAT, now.contract_id, now.store):
                raise SnapshotUnfit("the snapshot is of another format, contract or store")
            if header["sequence"] > now.sequence:
                raise SnapshotUnfit("the snapshot is of a later state of the store than the one that is here")
            templates = np.frombuffer(file.read(8 * header["templates"]), "<i8").astype(np.int64)
            return Snapshot(read(file.read), templates)
    except (OSError, ValueError, KeyError, RuntimeError) as error:  # the last is what FAISS raises
        raise SnapshotUnfit("there is no snapshot that can be read") from error


def remove_partial(directory: Path) -> None:
    """Remove what a process that was ended left half-written."""
    for part in directory.glob(f"*{_PART}"):
        part.unlink()
