"""The manifest of a backup: which files it has, in which blocks, and what they hold."""

import hashlib
import json
import sys
from dataclasses import asdict, dataclass
from typing import Any

from service.errors import BackupDamaged, BackupUnfit
from service.times import written_time

FORMAT = 1
"""Version of the form of backups."""


@dataclass(frozen=True, slots=True)
class BackedUpFile:
    """A file of a backup.

    Attributes:
        name: Name of the file, such as `store.sqlite`.
        size: Size in bytes.
        sha256: SHA-256 of its content, hexadecimal.
        schema: Version of the tables in it; empty if it has none.
        blocks: SHA-256 of each of its blocks, in order.
    """

    name: str
    size: int
    sha256: str
    schema: str
    blocks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup has.

    Attributes:
        name: Name of the backup: its time in UTC.
        created: Seconds since 1970.
        version: Version of Vultus that made it.
        store: Id of the gallery store.
        last_erasure: Number of the last erasure in the store; 0 for none.
        galleries, subjects, templates: Numbers of them.
        block_bytes: Size of the blocks of files; the last one of a file may be shorter.
        files: The files.
        master_key: Id of the master key under which the data keys were at the time; empty without encryption.
    """

    name: str
    created: float
    version: str
    store: str
    last_erasure: int
    galleries: int
    subjects: int
    templates: int
    block_bytes: int
    files: tuple[BackedUpFile, ...]
    master_key: str = ""

    @property
    def size(self) -> int:
        """Size of all files in bytes."""
        return sum(file.size for file in self.files)

    @property
    def blocks(self) -> set[str]:
        """SHA-256 of all blocks."""
        return {block for file in self.files for block in file.blocks}

    def find(self, name: str) -> BackedUpFile | None:
        """Return a file by its name, or None."""
        return next((file for file in self.files if file.name == name), None)

    def described(self) -> dict[str, Any]:
        """Return what a user sees of the backup, as JSON."""
        return {
            "backup": self.name,
            "created": written_time(self.created),
            "version": self.version,
            "gallery_count": self.galleries,
            "subject_count": self.subjects,
            "template_count": self.templates,
            "bytes": self.size,
            "encrypted": bool(self.master_key),
        }

    def written(self) -> bytes:
        """Return the manifest as a JSON file that has a digest of itself."""
        content = {"format": FORMAT, **asdict(self)}
        return json.dumps({**content, "digest": _digest(content)}, indent=1).encode() + b"\n"


def read_manifest(name: str, content: bytes) -> Manifest:
    """Read a manifest.

    Args:
        name: Name of the backup.
        content: What `Manifest.written` returned.

    Raises:
        BackupDamaged: The manifest was altered or is incomplete.
        BackupUnfit: A newer version wrote it.
    """
    try:
        found: dict[str, Any] = json.loads(content)
        form, digest = found["format"], found.pop("digest")
        if isinstance(form, int) and form > FORMAT:
            raise BackupUnfit(f"a newer Vultus made the backup {name} (format {form}, this one reads {FORMAT})")
        if digest != _digest(found):
            raise ValueError
        del found["format"]
        files = tuple(BackedUpFile(**{**file, "blocks": _shared(file["blocks"])}) for file in found.pop("files"))
        manifest = Manifest(**found, files=files)
        if manifest.name != name:
            raise ValueError
        return manifest
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BackupDamaged(f"the manifest of the backup {name} was altered or is incomplete") from error


def _shared(blocks: list[str]) -> tuple[str, ...]:
    """Return digests that all manifests share in memory, because most blocks of backups are the same."""
    return tuple(map(sys.intern, blocks))


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
