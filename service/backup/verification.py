"""Verification of backups: every byte of every block is read and compared with its digest."""

from dataclasses import dataclass
from pathlib import Path

from models.types import Progress, no_progress
from service.backup.directory import BackupDirectory, readable
from service.backup.kept_data_keys import kept_data_keys
from service.errors import BackupDamaged, BackupUnfit


@dataclass(frozen=True, slots=True)
class Verified:
    """The findings of verifying a backup.

    Attributes:
        name: Name of the backup.
        faults: One sentence for each fault; empty if the backup is intact.
    """

    name: str
    faults: list[str]


def verify_backups(path: Path, name: str | None = None, progress: Progress = no_progress) -> list[Verified]:
    """Verify all backups of a directory, or one.

    Args:
        path: Directory of backups.
        name: Name of a backup; None for all.
        progress: Receives the number of blocks.

    Raises:
        BackupInProgress: A backup is being made in the directory.
        BackupUnknown: There is no such backup.
        ErasuresDamaged: The list of erasures is damaged or incomplete.
        StoreFailed: The file system refused a read.
    """
    with readable(path) as directory:
        directory.require(name)
        directory.erasures()
        checked: dict[str, str] = {}
        names = directory.names() if name is None else [name]
        return [Verified(each, _faults(directory, each, checked, progress)) for each in names]


def _faults(directory: BackupDirectory, name: str, checked: dict[str, str], progress: Progress) -> list[str]:
    """Verify a backup; `checked` has the faults of blocks that were read before, by digest."""
    try:
        manifest = directory.manifest(name)
        blocks = sorted(manifest.blocks)
        if manifest.master_key:
            _require_data_keys(directory)
    except (BackupDamaged, BackupUnfit) as error:
        return [str(error)]
    for number, block in enumerate(blocks):
        if block not in checked:
            checked[block] = _fault(directory, block)
        progress(name, number + 1, len(blocks))
    return [checked[block] for block in blocks if checked[block]]


def _require_data_keys(directory: BackupDirectory) -> None:
    """Refuse data keys that are missing or were altered.

    Raises:
        BackupDamaged: They are missing or were altered.
    """
    kept = kept_data_keys(directory.path)
    if not kept:
        raise BackupDamaged(f"the data keys of the encrypted galleries are missing in {directory.path}")
    for each in kept:
        each.require_intact()


def _fault(directory: BackupDirectory, block: str) -> str:
    try:
        directory.blocks.read(block)
    except BackupDamaged as error:
        return str(error)
    return ""
