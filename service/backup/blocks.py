"""Blocks of files, named by their SHA-256, which all backups of a directory share.

A block that an earlier backup wrote is read and compared, and not written again. So no block is trusted for its name:
one that a killed process left incomplete, or that the disk has damaged, is replaced by the next backup that needs it.
"""

import hashlib
import os
from collections.abc import Iterator, Set
from pathlib import Path
from typing import BinaryIO

from models.artefact.directories import sync
from service.errors import BackupDamaged
from service.storage.private_files import make_private, open_private

BLOCK_BYTES = 65536
"""Four pages of the gallery store: an enrolment changes single pages all over the file."""

_FOLDER_DIGITS = 2


class Blocks:
    """The blocks of a directory of backups. Not thread-safe."""

    def __init__(self, directory: Path) -> None:
        """Do nothing yet.

        Args:
            directory: Directory of the blocks.
        """
        self._directory = directory
        self._written: list[Path] = []
        self._folders: set[Path] = set()
        self.written_bytes = 0

    def add(self, content: bytes) -> str:
        """Store a block unless it is stored, and return its digest. `flush` makes it durable."""
        digest = hashlib.sha256(content).hexdigest()
        path = self._path(digest)
        if _read(path) == content:
            return digest
        if path.parent not in self._folders:
            make_private(path.parent, ("*",))
            self._folders.add(path.parent)
        with os.fdopen(open_private(path, os.O_WRONLY | os.O_TRUNC), "wb", buffering=0) as file:
            file.write(content)
        self._written.append(path)
        self.written_bytes += len(content)
        return digest

    def flush(self) -> None:
        """Flush the blocks that were added to disk, all after the last was written, which is faster by far."""
        for path in self._written:
            sync(path)
        for folder in sorted(self._folders):
            sync(folder)
        if self._folders:
            sync(self._directory)
        self._written.clear()
        self._folders.clear()

    def read(self, digest: str) -> bytes:
        """Read a block.

        Raises:
            BackupDamaged: The block is missing or altered.
        """
        content = _read(self._path(digest))
        if content is None:
            raise BackupDamaged(f"the block {digest} is missing")
        if hashlib.sha256(content).hexdigest() != digest:
            raise BackupDamaged(f"the block {digest} is damaged")
        return content

    def remove_others(self, named: Set[str]) -> int:
        """Remove all blocks but those named, and return how many were removed."""
        removed = 0
        for path in self._directory.glob("*/*"):
            if path.name not in named:
                path.unlink()
                removed += 1
        return removed

    def _path(self, digest: str) -> Path:
        return self._directory / digest[:_FOLDER_DIGITS] / digest


def blocks_of(file: BinaryIO) -> Iterator[bytes]:
    """Read a file block by block."""
    while content := file.read(BLOCK_BYTES):
        yield content


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
