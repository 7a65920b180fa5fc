"""Files and directories that appear whole or not at all."""

import os
import secrets
from pathlib import Path

from models.errors import StorageFailed


def write_text(path: Path, text: str) -> None:
    """Write a file in UTF-8, whole or not at all; what a link leads to, and straight into a device or pipe.

    Raises:
        StorageFailed: The file system refused.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8")
            return
        target = Path(os.path.realpath(path))
        scratch = target.with_name(f".{secrets.token_hex(8)}+")  # of its own: several may write at once
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
    """Make a directory and those above it, unless it is there.

    Raises:
        StorageFailed: The file system refused.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageFailed(f"{directory} cannot be made: {error.strerror}") from error


def replace_directory(new: Path, target: Path, scratch: Path) -> None:
    """Put a complete directory in the place of another, which stays until then.

    Args:
        new: On the same file system; its files are flushed to the disk first.
        target: May exist.
        scratch: Where what was there before goes, to be removed by the caller.
    """
    for path in sorted(new.rglob("*")):
        if path.is_file():
            sync(path)
    old = scratch / "old"
    try:
        if target.exists():
            target.rename(old)
        new.rename(target)
    except BaseException:  # an interrupt between the two as well
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    sync(target.parent)


def sync(path: Path) -> None:
    """Have a file's content, or the names in a directory, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
