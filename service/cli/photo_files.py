"""Photos that a command line names."""

from pathlib import Path

from models.errors import ImageUnreadable
from models.photo_folders import read_photo


def read_named_photo(path: Path, max_bytes: int) -> bytes:
    """Read the file of a photo.

    Args:
        path: Path of the file.
        max_bytes: Size above which the file is not read.

    Raises:
        ImageTooManyBytes: The file is larger.
        ImageUnreadable: The file cannot be read.
    """
    try:
        return read_photo(path, max_bytes)
    except (OSError, ValueError) as error:  # ValueError: the name is invalid for a file
        raise ImageUnreadable(f"the file cannot be read: {getattr(error, 'strerror', None) or error}") from error
