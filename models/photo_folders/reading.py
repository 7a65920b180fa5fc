"""Reading of files that a user names or a directory holds, without waiting for one that never ends."""

import stat
from pathlib import Path

from models.photo_folders.formats import HEAD_BYTES


def read_photo(path: Path) -> bytes:
    """Read a file.

    Raises:
        OSError: The file cannot be read.
        ValueError: The name is invalid for a file, or it belongs to a pipe, a socket or a device, whose end may never
            come.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # reading a directory raises a fitting error itself
        raise ValueError("it is a pipe, a socket or a device")
    return path.read_bytes()


def read_head(path: Path) -> bytes:
    """Read the first `HEAD_BYTES` bytes of a regular file.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        return file.read(HEAD_BYTES)
