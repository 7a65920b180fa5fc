"""Galleries and keys with a backup, on real files."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.backup.places import Places
from service.gallery.administration import create_gallery, list_galleries, list_subjects
from service.gallery.galleries import Galleries
from service.gallery.templates import store_templates
from service.security.keys.store import KeyRequest, KeyStore
from tests.service.gallery.conftest import CONTRACT, DIMENSIONS, people, template

PEOPLE = 6


def name(number: int) -> str:
    return f"person {number}"


def enrol(galleries: Galleries, number: int, gallery: str = "staff") -> None:
    store_templates(galleries, gallery, [(name(number), template(vector)) for vector in people(1, 2, number)[0]])


def open_galleries(places: Places) -> Galleries:
    return Galleries(places.galleries, CONTRACT, DIMENSIONS, build=False, erasure_log=places.erasure_log)


def contents(galleries: Galleries) -> dict[str, dict[str, int]]:
    """Return the number of templates of each subject of each gallery."""
    return {
        gallery.name: {
            subject.name: subject.template_count for subject in list_subjects(galleries, gallery.name, "", -1)
        }
        for gallery, _, _ in list_galleries(galleries, "", -1)
    }


def everybody(*without: int) -> dict[str, int]:
    return {name(number): 2 for number in range(PEOPLE) if number not in without}


def has_bytes_of(directory: Path, number: int) -> bool:
    """Return whether a file has a vector or the name of a person."""
    needles = [vector.tobytes() for vector in people(1, 2, number)[0]] + [name(number).encode()]
    files = [path.read_bytes() for path in directory.rglob("*") if path.is_file()]
    return any(needle in content for needle in needles for content in files)


@dataclass
class Service:
    """Galleries `staff` and `visitors` with the same people, a key, and a directory for backups."""

    places: Places
    backups: Path
    galleries: Galleries
    keys: KeyStore

    def close(self) -> None:
        self.galleries.close()
        self.keys.close()

    def lose(self) -> None:
        """Lose everything but the backups."""
        self.close()
        for directory in (self.places.galleries, self.places.security):
            shutil.rmtree(directory, ignore_errors=True)

    def reopen(self) -> Galleries:
        """Open what was restored."""
        self.close()
        self.galleries, self.keys = open_galleries(self.places), KeyStore(self.places.security)
        return self.galleries


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    places = Places(tmp_path / "galleries", tmp_path / "security")
    opened = Service(places, tmp_path / "backups", open_galleries(places), KeyStore(places.security))
    for gallery in ("staff", "visitors"):
        create_gallery(opened.galleries, gallery, "flat")
        for number in range(PEOPLE):
            enrol(opened.galleries, number, gallery)
    opened.keys.create(KeyRequest("door", ["read"]))
    yield opened
    opened.close()
