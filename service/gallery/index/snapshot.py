"""Snapshots of graphs on the disk; other indices are rebuilt quickly and have none.

Layout: a line of JSON (the header), the keys of the graph's templates (int64, little-endian), the graph as serialised
by FAISS, and the SHA-256 of everything before it. The digest is verified before FAISS reads a byte. Snapshot files
appear atomically.

If the galleries are encrypted, the whole file is, under a data key of its own, which is destroyed with it.
"""

import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from models.artefact.directories import sync
from service.encryption.sealed_file import SealedReader, SealedWriter
from service.errors import SnapshotUnfit
from service.gallery.index.faiss_vectors import read, write
from service.storage.private_files import open_private

_FORMAT = "vultus-graph/1"
_DIGEST_BYTES = 32
_PIECE_BYTES = 2**22
_MAX_HEADER_BYTES = 4096
_PART = ".part"


class Snapshot(NamedTuple):
    """A graph and the (N,) int64 keys of its templates, ascending in magnitude, negative for removed templates."""

    graph: Any
    template_keys: NDArray[np.int64]


class Origin(NamedTuple):
    """The state of the store that a snapshot was made from.

    Attributes:
        contract_id: Contract of the embeddings.
        store: Id of the store.
        sequence: Largest template key that the store had assigned by then.
    """

    contract_id: str
    store: str
    sequence: int


def write_snapshot(path: Path, snapshot: Snapshot, origin: Origin, key: AESGCM | None) -> Path:
    """Write a snapshot to a temporary file beside `path` and return its path; `publish` renames it.

    Args:
        path: File of the snapshot.
        snapshot: The graph.
        origin: State of the store that it was made from.
        key: Data key under which it is encrypted; None to write it as it is.
    """
    header = {"format": _FORMAT, **origin._asdict(), "templates": len(snapshot.template_keys)}
    digest = hashlib.sha256()
    part = path.with_name(path.name + _PART)
    part.unlink(missing_ok=True)  # an old file may have another mode
    descriptor = open_private(part, os.O_WRONLY)
    try:
        with os.fdopen(descriptor, "wb", buffering=_PIECE_BYTES) as file:
            sealed = None if key is None else SealedWriter(file, key, _context(origin))
            target = sealed or file

            def put(piece: bytes) -> None:
                digest.update(piece)
                target.write(piece)

            put(json.dumps(header).encode() + b"\n")
            put(snapshot.template_keys.astype("<i8").tobytes())
            write(snapshot.graph, put)
            target.write(digest.digest())
            if sealed is not None:
                sealed.finish()
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return part


def publish(part: Path, path: Path) -> None:
    """Move a written snapshot to its final path, atomically and durably."""
    part.rename(path)
    sync(path.parent)


def read_snapshot(path: Path, now: Origin, key: AESGCM | None) -> Snapshot:
    """Read a snapshot after verifying its digest.

    Args:
        path: Snapshot file.
        now: Current state of the store. A snapshot with a larger sequence comes from a later state, which means that
            the store was restored from a backup.
        key: Data key under which the snapshot is encrypted; None if it is not encrypted.

    Raises:
        SnapshotUnfit: The file is missing, truncated or modified, belongs to another contract or store, is not
            encrypted although it should be, or this FAISS cannot read it.
    """
    try:
        with path.open("rb", buffering=_PIECE_BYTES) as raw:
            file = raw if key is None else io.BufferedReader(SealedReader(raw, key, _context(now)), _PIECE_BYTES)
            remaining = file.seek(0, io.SEEK_END) - _DIGEST_BYTES
            file.seek(0)
            digest = hashlib.sha256()
            while remaining > 0:
                piece = file.read(min(remaining, _PIECE_BYTES))
                digest.update(piece)
                remaining -= len(piece)
            if remaining < 0 or file.read() != digest.digest():
                raise SnapshotUnfit("the snapshot is truncated or modified")
            file.seek(0)
            header = json.loads(file.readline(_MAX_HEADER_BYTES))
            if (header["format"], header["contract_id"], header["store"]) != (_FORMAT, now.contract_id, now.store):
                raise SnapshotUnfit("the snapshot is of another format, contract or store")
            if header["sequence"] > now.sequence:
                raise SnapshotUnfit("the snapshot is of a later state of the store than the current one")
            templates = np.frombuffer(file.read(8 * header["templates"]), "<i8").astype(np.int64)
            return Snapshot(read(file.read), templates)
    except (OSError, ValueError, KeyError, RuntimeError) as error:  # FAISS raises RuntimeError
        raise SnapshotUnfit("the snapshot is missing or unreadable") from error


def _context(origin: Origin) -> bytes:
    return f"snapshot/{origin.contract_id}/{origin.store}".encode()


def remove_partial(directory: Path) -> None:
    """Remove temporary snapshot files that a killed process left behind."""
    for part in directory.glob(f"*{_PART}"):
        part.unlink()
