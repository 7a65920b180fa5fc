"""Modes of stored files and their directories: only their owner may read them, whatever the umask is."""

import logging
import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

FOREIGN = frozenset({"lost+found"})  # names of directories that file systems make

_DIRECTORY_MODE = 0o700
_FILE_MODE = 0o600

_log = logging.getLogger("vultus")


def make_private(directory: Path, known: Collection[str]) -> None:
    """Create a directory, or restrict an existing one and what is known in it to their owner.

    A directory that also has files of others keeps its mode, because they may need it. What cannot be restricted is
    logged: it belongs to another user, or the file system has no modes.

    Args:
        directory: The directory.
        known: Patterns of the names of the service's own files and directories in it.

    Raises:
        OSError: The file system refused to create or read the directory.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=_DIRECTORY_MODE)
    others = []
    for path in sorted(directory.iterdir()):
        if any(path.match(pattern) for pattern in known):
            if not path.is_symlink():  # a link must not change the mode of a file elsewhere
                with suppress(FileNotFoundError):  # another process has ended, and SQLite removed its log
                    _restrict(path, _DIRECTORY_MODE if path.is_dir() else _FILE_MODE)
        elif path.name not in FOREIGN:
            others.append(path.name)
    if not others:
        _restrict(directory, _DIRECTORY_MODE)
    elif open_to := _mode(directory) & ~_DIRECTORY_MODE:
        _log.warning(
            "other users may list the directory %s (mode bits %03o); it was not restricted, because %s in it does not "
            "belong to this service, whose own files are private",
            *(directory, open_to, others[0]),
        )


def open_private(path: Path, flags: int) -> int:
    """Open a file and return its descriptor; if it is new, only its owner may read it.

    SQLite gives its other files the mode of the store.

    Raises:
        OSError: The file system refused to open the file.
    """
    try:
        descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, _FILE_MODE)
    except FileExistsError:
        return os.open(path, flags)
    os.fchmod(descriptor, _FILE_MODE)  # the umask may have removed a bit
    return descriptor


def write_once(path: Path, content: bytes) -> None:
    """Write a new private file, which appears once it is complete; an existing file stays.

    If several processes write it, the first wins.

    Raises:
        OSError: The file system refused to write the file.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with os.fdopen(open_private(part, os.O_WRONLY | os.O_TRUNC), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(part, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without links, such as that of a memory stick
        if not path.exists():
            part.rename(path)
            return
    finally:
        part.unlink(missing_ok=True)


def _restrict(path: Path, mode: int) -> None:
    if _mode(path) == mode:
        return
    reason = "the file system ignores modes"
    try:
        path.chmod(mode)
    except OSError as error:
        reason = (error.strerror or "it cannot be changed").lower()
    if open_to := _mode(path) & ~mode:
        _log.warning(
            "other users may access %s (mode bits %03o), and its mode was not changed: %s", path, open_to, reason
        )


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777
