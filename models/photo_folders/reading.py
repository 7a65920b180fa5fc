"""Reading of files that a user names or a directory holds, without waiting for one that never ends."""

import stat
from pathlib import Path

from models.errors import ImageTooManyBytes
from models.photo_folders.formats import HEAD_BYTES


def read_photo(path: Path, max_bytes: int) -> bytes:
    """Read a file.

    Args:
        path: Path of the file.
        max_bytes: Size above which the file is not read.

    Raises:
        ImageTooManyBytes: The file is larger.
        OSError: The file cannot be read.
        ValueError: The name is invalid for a file, or it belongs to a pipe, a socket or a device, whose end may never
            come.
    """
    status = path.stat()
    mode = status.st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # reading a directory raises a fitting error itself
        raise ValueError("it is a pipe, a socket or a device")
    if stat.S_ISREG(mode) and status.st_size > max_bytes:
        raise ImageTooManyBytes(f"the image has {status.st_size} bytes; at most {max_bytes} are accepted")
    with path.open("rb") as file:
        return file.read(max_bytes + 1)  # not more if the file grows; `ImageLimits` refuses it then


def read_head(path: Path) -> bytes:
    """Read the first `HEAD_BYTES` bytes of a regular file.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        return file.read(HEAD_BYTES)
