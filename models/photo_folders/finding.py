"""The one walk over directories of photos.

Hidden and system entries are passed over at every depth. A file with a photo's suffix is a photo, readable or not, so
that a damaged one is reported and not lost; of every other file, the first bytes decide. A link to a file counts as a
file. A link to a folder is followed only where a folder stands for a person; others would count photos twice.
"""

import os
from pathlib import Path
from typing import NamedTuple

from models.photo_folders.formats import has_photo_suffix, kind_of
from models.photo_folders.passed_over import PassedOver, Reason
from models.photo_folders.reading import read_head
from models.photo_folders.system_names import is_system_name

_REASON_OF = {"raw": Reason.RAW, "other": Reason.NO_PHOTO}


class Photos(NamedTuple):
    """The photos of a directory.

    Attributes:
        paths: Paths of the photos at any depth, sorted.
        passed_over: What is not among them.
    """

    paths: list[Path]
    passed_over: PassedOver


class Folders(NamedTuple):
    """The folders of a directory, each with the photos in it.

    Attributes:
        photos: By name of the folder, sorted, the paths of its photos at any depth; empty for a folder without photos.
        passed_over: What is not among them.
    """

    photos: dict[str, list[Path]]
    passed_over: PassedOver


def find_photos(directory: Path) -> Photos:
    """Find the photos of a directory at any depth.

    Raises:
        OSError: The directory cannot be read.
    """
    walk = _Walk(directory)
    return Photos(walk.photos([directory]), walk.passed_over)


def find_folders(directory: Path) -> Folders:
    """Find the folders of a directory, and the photos in each of them.

    Raises:
        OSError: The directory cannot be read.
    """
    walk = _Walk(directory)
    photos: dict[str, list[Path]] = {}
    loose, folders = walk.entries(directory, follow_links=True)
    for path in loose:
        walk.passed_over.add(Reason.LOOSE, path.name)
    for folder in sorted(folders):
        if walk.enter(folder):
            photos[folder.name] = walk.photos([folder])
    return Folders(photos, walk.passed_over)


class _Walk:
    """One walk over a directory."""

    def __init__(self, directory: Path) -> None:
        self.passed_over = PassedOver()
        self._directory = directory
        above = (directory.resolve(), *directory.resolve().parents)
        self._enclosing = {_identity(path) for path in above}

    def photos(self, folders: list[Path]) -> list[Path]:
        """Return the sorted photos at any depth in some folders.

        Raises:
            OSError: The directory itself cannot be read.
        """
        found: list[Path] = []
        while folders:
            here, inside = self.entries(folders.pop())
            found += here
            folders += inside
        return sorted(found)

    def enter(self, folder: Path) -> bool:
        """Return whether a folder may be walked; a link to the directory itself or to one around it would be a loop."""
        if folder.is_symlink() and _identity(folder) in self._enclosing:
            self.passed_over.add(Reason.LINK, folder.name)
            return False
        return True

    def entries(self, folder: Path, follow_links: bool = False) -> tuple[list[Path], list[Path]]:
        """Return the photos and the folders that lie directly in a folder; all else is counted as passed over.

        Raises:
            OSError: The folder is the directory itself and cannot be read.
        """
        photos: list[Path] = []
        folders: list[Path] = []
        try:
            with os.scandir(folder) as scanned:
                entries = sorted(scanned, key=lambda entry: entry.name)
        except OSError:
            if folder == self._directory:
                raise
            self._pass(Reason.UNREADABLE, folder)
            return photos, folders
        for entry in entries:
            path = folder / entry.name
            try:
                if entry.is_dir() and not is_system_name(entry.name):
                    if follow_links or not entry.is_symlink():
                        folders.append(path)
                    else:
                        self._pass(Reason.LINK, path)
                elif (reason := _objection(entry, path)) is None:
                    photos.append(path)
                else:
                    self._pass(reason, path)
            except OSError:
                self._pass(Reason.UNREADABLE, path)
        return photos, folders

    def _pass(self, reason: Reason, path: Path) -> None:
        system = reason in (Reason.SYSTEM_FILE, Reason.SYSTEM_FOLDER)  # the same few names recur in every folder
        self.passed_over.add(reason, path.name if system else str(path.relative_to(self._directory)))


def _objection(entry: "os.DirEntry[str]", path: Path) -> Reason | None:
    """Return why an entry is no photo, or None if it is one.

    Raises:
        OSError: The file cannot be read.
    """
    if is_system_name(entry.name):
        return Reason.SYSTEM_FOLDER if entry.is_dir() else Reason.SYSTEM_FILE
    if not entry.is_file():  # nothing else is opened: a pipe would block
        broken = entry.is_symlink() and not path.exists()
        return Reason.BROKEN_LINK if broken else Reason.SPECIAL
    if has_photo_suffix(entry.name):
        return None
    kind = kind_of(read_head(path), entry.name)
    return None if kind == "photo" else _REASON_OF[kind]


def _identity(path: Path) -> tuple[int, int]:
    """Return the device and the number of a file, which are the same under each of its names."""
    status = path.stat()
    return status.st_dev, status.st_ino
