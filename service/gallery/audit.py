"""Whether index and store agree, and whether what was erased is in no file."""

from dataclasses import dataclass

import numpy as np

from service.errors import StoreFailed
from service.gallery.galleries import STORE, Galleries
from service.gallery.index.live import LiveIndex
from service.gallery.index.scan import read_blocks
from service.gallery.records import Block, Gallery
from service.gallery.rows import galleries as gallery_rows
from service.gallery.rows import templates as template_rows

_ROUNDED = 0.02  # most that a number of a compressed vector is off
_SERVING = {STORE, f"{STORE}-wal", f"{STORE}-shm", "owner.lock"}


@dataclass(frozen=True, slots=True)
class Audit:
    """What was compared.

    Attributes:
        gallery: Name.
        templates: In the store.
        index: Kind that serves, or None while it is built.
        faults: Sentences; none is good.
    """

    gallery: str
    templates: int
    index: str | None
    faults: list[str]


@dataclass(frozen=True, slots=True)
class ErasureAudit:
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


def verify_gallery(galleries: Galleries, name: str) -> Audit:
    """Compare a gallery's index with the store, vector by vector.

    Raises:
        GalleryUnknown: There is none of that name.
    """
    galleries.settle()
    with galleries.database.exclusive():
        with galleries.database.reading() as connection:
            gallery = gallery_rows.find(connection, name)
            templates = template_rows.count(connection, gallery)
        live = galleries.live(gallery)
        faults = [*galleries.database.damages(), *_disagreements(galleries, gallery, live)]
    return Audit(name, templates, live.current.kind if live.current else None, faults)


def verify_erasure(galleries: Galleries) -> ErasureAudit:
    """Write the store anew and make sure that no file has more than the store.

    The store's free space was overwritten at each erasure already; rows that SQLite moved may have left copies in it,
    and those go now.

    Raises:
        StorageFull: There is no room for a second store; nothing was changed.
        StoreFailed: A reader kept the log from being cut.
    """
    galleries.settle()
    with galleries.database.exclusive():
        before = _size(galleries)
        galleries.database.rewrite()
        if not galleries.database.forget():
            raise StoreFailed("a reader keeps the log from being cut; ask again")
        faults = [
            f"the file {path.name} is none of the galleries'"
            for path in galleries.directory.iterdir()
            if path.name not in _SERVING and path.suffix != ".graph"
        ]
        with galleries.database.reading() as connection:
            for gallery in gallery_rows.page(connection, "", -1):
                keys, _ = template_rows.owners(connection, gallery)
                kept = galleries.live(gallery).snapshot_keys()
                if len(np.setdiff1d(kept, keys)):
                    faults.append(f"the snapshot of the gallery {gallery.name} holds what was erased")
        return ErasureAudit(before, _size(galleries), len(list(galleries.directory.iterdir())), faults)


def _size(galleries: Galleries) -> int:
    return sum(path.stat().st_size for path in galleries.directory.iterdir())


def _disagreements(galleries: Galleries, gallery: Gallery, live: LiveIndex) -> list[str]:
    index = live.current
    if index is None:
        return ["the index is not built yet"]
    held = index.blocks()
    keys = np.concatenate([block.templates for block in held] or [np.empty(0, np.int64)])
    subjects = np.concatenate([block.subjects for block in held] or [np.empty(0, np.int64)])
    with galleries.database.reading() as connection:
        true_keys, true_subjects = template_rows.owners(connection, gallery)
    if not np.array_equal(keys, true_keys):
        missing, more = len(np.setdiff1d(true_keys, keys)), len(np.setdiff1d(keys, true_keys))
        return [f"the index lacks {missing} templates and has {more} that are not in the store"]
    faults = []
    if not np.array_equal(subjects, true_subjects):
        faults.append("the index gives templates to other subjects than the store")
    if off := _vectors_off(galleries, gallery, held, _ROUNDED if index.rounding else 0.0):
        faults.append(f"{off} vectors of the index are not those of the store")
    return faults


def _vectors_off(galleries: Galleries, gallery: Gallery, held: list[Block], tolerance: float) -> int:
    off, start = 0, 0
    vectors = np.concatenate([block.vectors for block in held] or [np.empty((0, gallery.dimensions), np.float32)])
    for block in read_blocks(galleries.database, gallery):
        own = vectors[start : start + len(block.vectors)]
        off += int((np.abs(own - block.vectors).max(axis=1) > tolerance).sum())
        start += len(block.vectors)
    return off
