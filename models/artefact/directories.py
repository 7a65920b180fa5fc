"""Atomic writes of files and directories."""

import os
import secrets
from pathlib import Path

from models.errors import StorageFailed

REPLACED = "old"  # name of the previous target in the scratch directory of `replace_directory`


def write_text(path: Path, text: str) -> None:
    """Write a file atomically in UTF-8.

    A symbolic link is followed. A device or a pipe is written directly. An existing file keeps its mode.

    Raises:
        StorageFailed: The file system refused the write.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8")
            return
        target = Path(os.path.realpath(path))
        scratch = target.with_name(f".{secrets.token_hex(8)}+")  # random, because several may write at once
        try:
            with scratch.open("x", encoding="utf-8") as file:
                file.write(text)
            if target.exists():
                scratch.chmod(target.stat().st_mode & 0o7777)
            scratch.replace(target)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StorageFailed(f"{path} cannot be written: {error.strerror}") from error


def make_directory(directory: Path) -> None:
    """Create a directory and its parents, unless it exists.

    Raises:
        StorageFailed: The file system refused to create it.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageFailed(f"{directory} cannot be created: {error.strerror}") from error


def link_target(path: Path) -> Path:
    """Return what a symbolic link leads to, and any other path unchanged.

    A rename to the path of a link replaces the link, and what it leads to stays as it was.
    """
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def replace_directory(new: Path, target: Path, scratch: Path) -> None:
    """Replace a directory by a complete one.

    Args:
        new: Complete directory on the same file system; its files are flushed to disk first.
        target: Path of the directory to replace, which may be missing and is not a link; see `link_target`.
        scratch: Directory into which the previous target is moved. The caller removes it.
    """
    for path in sorted(new.rglob("*")):
        if path.is_file():
            sync(path)
    old = scratch / REPLACED
    try:
        if target.exists():
            target.rename(old)
        new.rename(target)
    except BaseException:  # including an interrupt between the two renames
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    sync(target.parent)


def sync(path: Path) -> None:
    """Flush the content of a file, or the entries of a directory, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
