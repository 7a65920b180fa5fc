"""Checks of backups: whether there is a recent one."""

import time
from collections.abc import Iterator

from service.backup.directory import readable
from service.doctor.findings import Finding
from service.errors import BackupInProgress, BackupUnknown
from service.gallery.galleries import STORE
from service.settings import Settings
from service.times import written_time

_OLD_S = 7 * 86400.0


def check_backups(settings: Settings) -> Iterator[Finding]:
    """Check whether the galleries were backed up within a week."""
    if not (settings.galleries_dir / STORE).exists():
        return
    directory = settings.backup.directory
    if directory is None:
        yield Finding(
            "no_backup",
            "warning",
            "the galleries are not backed up into a known directory",
            "set VULTUS_BACKUP__DIRECTORY to a directory on another disk, and run vultus backup every day",
        )
        return
    try:
        with readable(directory) as backups:
            manifests, unreadable = backups.manifests()
    except BackupInProgress:
        return
    except BackupUnknown:
        manifests, unreadable = [], []
    newest = max((manifest.created for manifest in manifests), default=None)
    if newest is None or time.time() - newest > _OLD_S:
        when = "never" if newest is None else written_time(newest)
        yield Finding("backup_old", "warning", f"the last backup was made: {when}", "vultus backup, every day")
    if unreadable:
        yield Finding(
            "backup_damaged",
            "warning",
            f"{len(unreadable)} backups cannot be read, first {unreadable[0]}",
            "vultus backup --verify, and remove their manifests",
        )
