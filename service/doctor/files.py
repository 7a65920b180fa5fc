"""Checks of stored files: who may read them, whether they are encrypted, and whether the disk has room."""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from service.doctor.findings import Finding
from service.gallery.encryption import encryption_of, require_master_key
from service.gallery.galleries import STORE
from service.gallery.store.encryption_state import peek
from service.settings import Settings

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_LOW_BYTES = 2**30
_PERSONAL = ("evaluations", "reports")  # directories of the data directory with embeddings, and error rates, of people
_ENCRYPTED = "CRYPT-"  # beginning of the ids of dm-crypt


def check_files(settings: Settings) -> Iterator[Finding]:
    """Check the modes of all files that hold data of people or secrets."""
    directories = [
        settings.galleries_dir,
        settings.security_dir,
        settings.data_keys_file.parent,
        *(settings.data_dir / name for name in _PERSONAL),
    ]
    if settings.backup.directory is not None:
        directories.append(settings.backup.directory)
    candidates = (settings.security.secret_file, settings.http.tls_key, settings.encryption.master_key_file)
    secrets = [path for path in candidates if path is not None]
    for path in [*(directory for directory in directories if directory.is_dir()), *secrets]:
        open_ones = [name for name in (path, *_inside(path)) if _mode(name) & _OTHERS]
        if open_ones:
            yield Finding(
                "readable_by_others",
                "warning",
                f"{len(open_ones)} of the files of {path} may be read by other users, first {open_ones[0].name}",
                f"chmod -R go-rwx {path}",
            )
    if os.geteuid() == 0 and settings.galleries_dir.is_dir():
        yield Finding(
            "root",
            "note",
            "this command runs as root, and the service probably too",
            "run the service as a user of its own, as the image does",
        )


def check_encryption(settings: Settings) -> Iterator[Finding]:
    """Check whether the galleries are encrypted, and whether their master key is apart from them."""
    state = peek(settings.galleries_dir / STORE)
    if state is None:
        return
    if state.encryption == "unfinished":
        yield Finding(
            "encryption_unfinished",
            "warning",
            "free space of the store may still have templates that are not encrypted",
            "make room for a second copy of the store, stop the service, and run vultus encryption enable",
        )
    if state.is_encrypted:
        require_master_key(encryption_of(settings), state)  # its error is a finding
        yield from _check_master_key(settings)
    elif not _is_on_encrypted_device(settings.galleries_dir):
        yield Finding(
            "not_encrypted",
            "warning",
            "templates are stored unencrypted: who takes the disk, or a copy of it, has the faces in a comparable form",
            "set VULTUS_ENCRYPTION__MASTER_KEY_FILE and run vultus encryption enable, or use an encrypted disk (LUKS)",
        )


def _check_master_key(settings: Settings) -> Iterator[Finding]:
    file = settings.encryption.master_key_file
    if file is None or not file.exists() or _is_on_encrypted_device(file.parent):
        return
    held = [settings.galleries_dir, settings.data_keys_file.parent]
    if any(file.stat().st_dev == directory.stat().st_dev for directory in held if directory.is_dir()):
        yield Finding(
            "master_key_on_same_disk",
            "note",
            f"the master key {file} is on the disk of the galleries: who takes the disk can read them",
            "keep it on another device or in a key management service (VULTUS_ENCRYPTION__MASTER_KEY_COMMAND)",
        )


def check_disk(settings: Settings) -> Iterator[Finding]:
    """Check the room on the disks."""
    for directory in {settings.galleries_dir, settings.security_dir}:
        if directory.is_dir() and (free := shutil.disk_usage(directory).free) < _LOW_BYTES:
            yield Finding(
                "disk_low",
                "warning",
                f"the disk of {directory} has {free // 2**20} MiB left",
                "free some room: enrolments and what must be recorded are refused when it is full",
            )


def _inside(path: Path) -> Iterator[Path]:
    return iter(()) if path.is_file() else (found for found in path.rglob("*") if not found.is_symlink())


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError:  # it was removed meanwhile
        return 0


def _is_on_encrypted_device(path: Path) -> bool:
    """Return whether a directory is on an encrypted device of the device mapper of Linux (dm-crypt)."""
    try:
        mounts = [line.split()[:2] for line in Path("/proc/self/mounts").read_text().splitlines()]
    except OSError:
        return False
    resolved = path.resolve()
    above = [(place, device) for device, place in mounts if resolved.is_relative_to(place)]
    device = max(above, key=lambda mount: len(mount[0]), default=("", ""))[1]
    try:
        return Path("/sys/block", Path(device).resolve().name, "dm/uuid").read_text().startswith(_ENCRYPTED)
    except OSError:  # not of the device mapper
        return False
