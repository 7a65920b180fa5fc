"""Galleries and keys with a backup, on real files."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.backup.places import Places
from service.encryption.data_keys import DATA_KEYS
from service.encryption.source import MasterKeySource
from service.gallery.administration import create_gallery, list_galleries, list_subjects
from service.gallery.encryption import Encryption
from service.gallery.galleries import Galleries
from service.gallery.templates import store_templates
from service.security.keys.store import KeyRequest, KeyStore
from tests.service.gallery.conftest import CONTRACT, DIMENSIONS, MASTER_KEY, people, template

PEOPLE = 6


def name(number: int) -> str:
    return f"person {number}"


def enrol(galleries: Galleries, number: int, gallery: str = "staff") -> None:
    store_templates(galleries, gallery, [(name(number), template(vector)) for vector in people(1, 2, number)[0]])


def places_in(root: Path, prefix: str = "", encrypted: bool = True) -> Places:
    """Return places below a directory."""
    data_keys = root / f"{prefix}encryption" / DATA_KEYS if encrypted else None
    return Places(root / f"{prefix}galleries", root / f"{prefix}security", data_keys=data_keys)


def open_galleries(places: Places) -> Galleries:
    encryption = None
    if places.data_keys is not None:
        encryption = Encryption(places.data_keys, MasterKeySource(text=MASTER_KEY))
    return Galleries(
        places.galleries,
        CONTRACT,
        DIMENSIONS,
        build=False,
        erasure_log=places.erasure_log,
        encryption=encryption,
    )


def remove(places: Places) -> None:
    """Remove all that a restore puts in place."""
    directories = [places.galleries, places.security]
    if places.data_keys is not None:
        directories.append(places.data_keys.parent)
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)


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

    @property
    def is_encrypted(self) -> bool:
        return self.places.data_keys is not None

    def close(self) -> None:
        self.galleries.close()
        self.keys.close()

    def lose(self) -> None:
        """Lose everything but the backups."""
        self.close()
        remove(self.places)

    def reopen(self) -> Galleries:
        """Open what was restored."""
        self.close()
        self.galleries, self.keys = open_galleries(self.places), KeyStore(self.places.security)
        return self.galleries


@pytest.fixture(params=["plain", "encrypted"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    places = places_in(tmp_path, encrypted=request.param == "encrypted")
    opened = Service(places, tmp_path / "backups", open_galleries(places), KeyStore(places.security))
    for gallery in ("staff", "visitors"):
        create_gallery(opened.galleries, gallery, "flat")
        for number in range(PEOPLE):
            enrol(opened.galleries, number, gallery)
    opened.keys.create(KeyRequest("door", ["read"]))
    yield opened
    opened.close()
