"""The files of the console, which are read once and served as they are."""

import hashlib
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple

_MEDIA_TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript"}

PAGE = "index.html"


class ConsoleFile(NamedTuple):
    """A file as it is sent, with its media type and its entity tag."""

    content: bytes
    media_type: str
    etag: str


@cache
def console_files() -> dict[str, ConsoleFile]:
    """Return the files by their paths below the directory."""
    return dict(_walk(files("service.console").joinpath("static"), ""))


def _walk(directory: Traversable, prefix: str) -> list[tuple[str, ConsoleFile]]:
    found = []
    for entry in directory.iterdir():
        if entry.is_dir():
            found += _walk(entry, f"{prefix}{entry.name}/")
        elif (media_type := _MEDIA_TYPES.get(entry.name[entry.name.rfind(".") :])) is not None:
            content = entry.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            found.append((prefix + entry.name, ConsoleFile(content, media_type, etag)))
    return found
