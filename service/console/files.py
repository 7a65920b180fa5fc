"""The files of the console, which are read once and served as they are."""

from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

_MEDIA_TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript"}

PAGE = "index.html"


@cache
def console_files() -> dict[str, tuple[bytes, str]]:
    """Return the content and the media type of each file, by its path below the directory."""
    return dict(_walk(files("service.console").joinpath("static"), ""))


def _walk(directory: Traversable, prefix: str) -> list[tuple[str, tuple[bytes, str]]]:
    found = []
    for entry in directory.iterdir():
        if entry.is_dir():
            found += _walk(entry, f"{prefix}{entry.name}/")
        elif (media_type := _MEDIA_TYPES.get(entry.name[entry.name.rfind(".") :])) is not None:
            found.append((prefix + entry.name, (entry.read_bytes(), media_type)))
    return found
