"""A directory of backups: their manifests, the blocks that they share, and the list of erasures.

backups/NAME.json    a manifest, written last, so that what it names is complete
blocks/ab/ab…        blocks
erasures.log         the erasures of all backups and of the galleries since
data_keys-…          the data keys of encrypted galleries, in their newest state
backup.lock
"""

import fcntl
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from service.backup.blocks import Blocks
from service.backup.disk import PART, translated_os_errors, write_private
from service.backup.kept_data_keys import DATA_KEY_FILES
from service.backup.manifest import Manifest, read_manifest
from service.errors import BackupDamaged, BackupInProgress, BackupUnfit, BackupUnknown, ErasuresDamaged
from service.gallery.erased_keys import Erasure, merged, read_list_file
from service.gallery.erasure_log import ERASURE_LOG
from service.storage.private_files import FOREIGN, make_private, open_private

_MANIFESTS, _BLOCKS, _LOCK, _COPIES = "backups", "blocks", "backup.lock", "copies.part"
_OWN = frozenset({_MANIFESTS, _BLOCKS, _LOCK, _COPIES, ERASURE_LOG, ERASURE_LOG + PART})
_NAME = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{3}Z")
_SUFFIX = ".json"
_NEXT_S = 0.002  # the next millisecond, however its number is rounded


class BackupDirectory:
    """A directory of backups, which is locked while it is open. See `writable` and `readable`."""

    def __init__(self, path: Path) -> None:
        """Do nothing yet; use `writable` or `readable`."""
        self.path = path
        self.blocks = Blocks(path / _BLOCKS)
        self._manifests: dict[str, Manifest] = {}
        self.copies = path / _COPIES
        """Directory of files that a backup in progress copies before it divides them into blocks."""

    def names(self) -> list[str]:
        """Return the names of the backups, oldest first."""
        found = (path.stem for path in (self.path / _MANIFESTS).glob(f"*{_SUFFIX}"))
        return sorted(name for name in found if _NAME.fullmatch(name))

    def require(self, name: str | None = None) -> str:
        """Return the name of a backup, or that of the newest one.

        Raises:
            BackupUnknown: There is no such backup.
        """
        names = self.names()
        if not names:
            raise BackupUnknown(f"{self.path} has no backup")
        if name is not None and name not in names:
            raise BackupUnknown(f"{self.path} has no backup of this name; `--list` shows those that it has")
        return name or names[-1]

    def manifest(self, name: str) -> Manifest:
        """Read the manifest of a backup.

        Raises:
            BackupDamaged: The manifest was altered or is incomplete.
            BackupUnfit: A newer version made the backup.
        """
        if name not in self._manifests:
            self._manifests[name] = read_manifest(name, (self.path / _MANIFESTS / (name + _SUFFIX)).read_bytes())
        return self._manifests[name]

    def manifests(self) -> tuple[list[Manifest], list[str]]:
        """Read the manifests of all backups, oldest first, and return the names of those that cannot be read beside."""
        found, unreadable = [], []
        for name in self.names():
            try:
                found.append(self.manifest(name))
            except (BackupDamaged, BackupUnfit):
                unreadable.append(name)
        return found, unreadable

    def new_name(self, now: float) -> str:
        """Return the name of a new backup, which is sorted after all others even if the clock was set back."""
        names = self.names()
        if names and _named(now) <= names[-1]:
            now = datetime.strptime(names[-1], "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC).timestamp() + _NEXT_S
        return _named(now)

    def write(self, manifest: Manifest) -> None:
        """Write the manifest of a backup, which makes it complete.

        Raises:
            OSError: The file system refused the write.
        """
        write_private(self.path / _MANIFESTS / (manifest.name + _SUFFIX), manifest.written())

    def remove_all_but(self, newest: int | None) -> tuple[list[str], list[str]]:
        """Remove all backups but the newest ones, and the blocks that no backup has.

        Args:
            newest: Number of backups to keep; None for all.

        Returns:
            Names of the removed backups, and of those whose manifest cannot be read. If there are any, no block is
            removed, because the blocks that they have are unknown.
        """
        names = self.names()
        removed = [] if newest is None else names[: max(0, len(names) - newest)]
        for name in removed:
            (self.path / _MANIFESTS / (name + _SUFFIX)).unlink()
        manifests, unreadable = self.manifests()
        if not unreadable:
            self.blocks.remove_others({block for manifest in manifests for block in manifest.blocks})
        return removed, unreadable

    def erasures(self, *others: Iterable[Erasure]) -> list[Erasure]:
        """Read the list of erasures, together with other lists.

        Raises:
            ErasuresDamaged: A line is damaged, or the last erasure of a backup is missing.
        """
        found = merged(read_list_file(self.path / ERASURE_LOG), *others)
        known = {(erasure.store, erasure.number) for erasure in found}
        for manifest in self.manifests()[0]:
            if manifest.last_erasure and (manifest.store, manifest.last_erasure) not in known:
                raise ErasuresDamaged(
                    f"{self.path / ERASURE_LOG} lacks erasures that the backup {manifest.name} knows of; copy it from "
                    "the galleries or from another copy of the backups"
                )
        return found

    def write_erasures(self, erasures: list[Erasure]) -> None:
        """Replace the list of erasures.

        Raises:
            OSError: The file system refused the write.
        """
        write_private(self.path / ERASURE_LOG, "".join(erasure.line() for erasure in erasures).encode())


@contextmanager
def writable(path: Path) -> Iterator[BackupDirectory]:
    """Open a directory of backups to make or remove some, creating it if missing.

    Raises:
        BackupInProgress: Another process or thread makes a backup in it, or restores one.
        BackupUnfit: The directory has other files.
        StorageFull: The disk is full.
        StoreFailed: The file system refused a read or write.
    """
    with translated_os_errors(f"the backup in {path}"):
        if path.exists() and not path.is_dir():
            raise BackupUnfit(f"{path} is not a directory")
        entries = [entry for entry in path.iterdir() if not entry.match(DATA_KEY_FILES)] if path.is_dir() else []
        others = {entry.name for entry in entries} - _OWN - FOREIGN
        if others:
            raise BackupUnfit(f"{path} is not a directory of backups: it has {min(others)}; choose an empty one")
        make_private(path, (*_OWN, DATA_KEY_FILES))
        descriptor = open_private(path / _LOCK, os.O_RDWR)
        try:
            _lock(descriptor, fcntl.LOCK_EX, path)
            for folder in (_MANIFESTS, _BLOCKS):
                make_private(path / folder, ("*",))
            for part in [*(path / _MANIFESTS).glob(f"*{PART}"), *path.glob(DATA_KEY_FILES + PART)]:
                part.unlink()
            yield BackupDirectory(path)
        finally:
            os.close(descriptor)


@contextmanager
def readable(path: Path) -> Iterator[BackupDirectory]:
    """Open a directory of backups to read some, while none is made or removed.

    Raises:
        BackupInProgress: A backup is being made in it.
        BackupUnknown: The directory is missing or has no backups.
        StorageFull: The disk is full.
        StoreFailed: The file system refused a read.
    """
    with translated_os_errors(f"the backup in {path}"):
        if not (path / _MANIFESTS).is_dir():
            raise BackupUnknown(f"{path} has no backup")
        try:
            descriptor = os.open(path / _LOCK, os.O_RDONLY)
        except FileNotFoundError:  # a copy on other media
            yield BackupDirectory(path)
            return
        try:
            _lock(descriptor, fcntl.LOCK_SH, path)
            yield BackupDirectory(path)
        finally:
            os.close(descriptor)


def _lock(descriptor: int, kind: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BackupInProgress(f"another backup or restore uses {path}; try again when it has ended") from error


def _named(at: float) -> str:
    time = datetime.fromtimestamp(at, UTC)
    return f"{time:%Y%m%dT%H%M%S}.{time.microsecond // 1000:03d}Z"
