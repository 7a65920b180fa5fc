"""Whether index and store agree, and whether what was erased is in no file."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.errors import StoreFailed
from service.gallery.galleries import STORE, Galleries
from service.gallery.index.live import LiveIndex
from service.gallery.records import Gallery
from service.gallery.store import gallery_rows, template_rows

_TRIES = 20  # a quarter of a second each
_ROUNDED = 0.02  # most that a number of a compressed vector is off
_SERVING = {STORE, f"{STORE}-wal", f"{STORE}-shm", "owner.lock"}


@dataclass(frozen=True, slots=True)
class ConsistencyReport:
    """What was compared.

    Attributes:
        gallery: Name.
        template_count: In the store.
        index: Kind that serves, or None while it is built.
        faults: Sentences; none is good.
    """

    gallery: str
    template_count: int
    index: str | None
    faults: list[str]


@dataclass(frozen=True, slots=True)
class ErasureReport:
    """What was made sure of.

    Attributes:
        bytes_before, bytes_after: Size of all files.
        files: How many were looked at.
        faults: Sentences; none is good.
    """

    bytes_before: int
    bytes_after: int
    files: int
    faults: list[str]


def check_consistency(galleries: Galleries, name: str) -> ConsistencyReport:
    """Compare a gallery's index with the store, vector by vector.

    Raises:
        GalleryUnknown: There is none of that name.
    """
    galleries.wait_idle()
    with galleries.database.exclusive():
        with galleries.database.reading() as connection:
            gallery = gallery_rows.find(connection, name)
            templates = template_rows.count(connection, gallery)
        live = galleries.live(gallery)
        faults = [*galleries.database.damages(), *_disagreements(galleries, gallery, live)]
    return ConsistencyReport(name, templates, live.current.kind if live.current else None, faults)


def check_erasure(galleries: Galleries) -> ErasureReport:
    """Write the store anew and make sure that no file has more than the store.

    The store's free space was overwritten at each erasure already; rows that SQLite moved may have left copies in it,
    and those go now.

    Raises:
        StorageFull: There is no room for a second store; nothing was changed.
        StoreFailed: A reader kept the log from being cut.
    """
    galleries.wait_idle()
    with galleries.database.exclusive():
        before = _size(galleries)
        galleries.database.rewrite()
        if not any(galleries.database.checkpoint() for _ in range(_TRIES)):
            raise StoreFailed("a reader keeps the log from being cut; ask again")
        with galleries.database.reading() as connection:
            found = gallery_rows.page(connection, "", -1)
            owned = {gallery.key: template_rows.owners(connection, gallery)[0] for gallery in found}
        expected = _SERVING | {f"{key}.graph" for key in owned}
        faults = [
            f"the file {path.name} is none of the galleries'"
            for path in galleries.directory.iterdir()
            if path.name not in expected
        ]
        for gallery in found:
            if len(np.setdiff1d(galleries.live(gallery).snapshot_keys(), owned[gallery.key])):
                faults.append(f"the snapshot of the gallery {gallery.name} holds what was erased")
        return ErasureReport(before, _size(galleries), len(list(galleries.directory.iterdir())), faults)


def _size(galleries: Galleries) -> int:
    return sum(path.stat().st_size for path in galleries.directory.iterdir())


def _disagreements(galleries: Galleries, gallery: Gallery, live: LiveIndex) -> list[str]:
    index = live.current
    if index is None:
        return ["the index is not built yet"]
    tolerance = _ROUNDED if index.rounding else 0.0
    keys: list[NDArray[np.int64]] = []
    others = off = 0
    for block in index.blocks():  # piece by piece: all of them in float32 may not fit into memory
        with galleries.database.reading() as connection:
            true = template_rows.block_of(connection, block.template_keys, gallery.dimensions)
        shared = np.isin(block.template_keys, true.template_keys)
        keys.append(block.template_keys)
        others += int((block.subject_keys[shared] != true.subject_keys).sum())
        off += int((np.abs(block.vectors[shared] - true.vectors).max(axis=1, initial=0) > tolerance).sum())
    held = np.concatenate(keys or [np.empty(0, np.int64)])
    with galleries.database.reading() as connection:
        stored, _ = template_rows.owners(connection, gallery)
    faults = []
    missing, more = len(np.setdiff1d(stored, held)), len(np.setdiff1d(held, stored))
    if missing or more or len(held) != len(stored):
        faults.append(f"the index lacks {missing} templates and has {more} that are not in the store")
    if others:
        faults.append("the index gives templates to other subjects than the store")
    if off:
        faults.append(f"{off} vectors of the index are not those of the store")
    return faults
