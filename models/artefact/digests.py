"""SHA-256 of files and of structured values."""

import hashlib
import json
from pathlib import Path
from typing import Any


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def value_digest(value: Any) -> str:
    """Return the SHA-256 of a JSON-like value, independent of key order and spacing."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def directory_digests(directory: Path, exclude: str) -> dict[str, str]:
    """Return the SHA-256 of every file of a directory by name, except the file named `exclude`."""
    return {path.name: file_digest(path) for path in sorted(directory.iterdir()) if path.name != exclude}
