"""Checks that index and store agree and that no file contains erased records."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.errors import StoreFailed
from service.gallery.galleries import STORE, Galleries
from service.gallery.index.live import LiveIndex
from service.gallery.records import Gallery
from service.gallery.store import gallery_rows, template_rows

_CHECKPOINT_ATTEMPTS = 20  # each waits up to a quarter of a second for readers
_COMPRESSION_ERROR = 0.02  # maximum deviation of a component of a compressed vector
_STORE_FILES = {STORE, f"{STORE}-wal", f"{STORE}-shm", "owner.lock"}


@dataclass(frozen=True, slots=True)
class ConsistencyReport:
    """The findings of comparing an index with the store.

    Attributes:
        gallery: Name of the gallery.
        template_count: Number of templates in the store.
        index: Kind of the index in use, or None while it is being built.
        faults: One sentence for each fault; empty if index and store agree.
    """

    gallery: str
    template_count: int
    index: str | None
    faults: list[str]


@dataclass(frozen=True, slots=True)
class ErasureReport:
    """The findings of checking the files for erased records.

    Attributes:
        bytes_before, bytes_after: Total size of all files before and after the rewrite.
        files: Number of files checked.
        faults: One sentence for each fault; empty if no file contains erased records.
    """

    bytes_before: int
    bytes_after: int
    files: int
    faults: list[str]


def check_consistency(galleries: Galleries, name: str) -> ConsistencyReport:
    """Compare a gallery's index with the store, vector by vector.

    Raises:
        GalleryUnknown: No gallery has this name.
    """
    galleries.wait_idle()
    with galleries.database.exclusive():
        with galleries.database.reading() as connection:
            gallery = gallery_rows.find(connection, name)
            templates = template_rows.count(connection, gallery)
        live = galleries.live(gallery)
        faults = [*galleries.database.integrity_faults(), *_disagreements(galleries, gallery, live)]
    return ConsistencyReport(name, templates, live.current.kind if live.current else None, faults)


def check_erasure(galleries: Galleries) -> ErasureReport:
    """Rewrite the store and check that no file contains records that the store does not have.

    Each erasure overwrites the space it frees in the store. Rows that SQLite moved may have left copies in other free
    space; the rewrite removes those copies.

    Raises:
        StorageFull: The disk has no room for a second copy of the store; nothing was changed.
        StoreFailed: An open reader prevents truncating the write-ahead log.
    """
    galleries.wait_idle()
    with galleries.database.exclusive():
        before = _size(galleries)
        galleries.database.rewrite()
        if not any(galleries.database.checkpoint() for _ in range(_CHECKPOINT_ATTEMPTS)):
            raise StoreFailed("an open reader prevents truncating the write-ahead log; try again")
        with galleries.database.reading() as connection:
            found = gallery_rows.page(connection, "", -1)
            stored = {gallery.key: template_rows.owners(connection, gallery)[0] for gallery in found}
        expected = _STORE_FILES | {f"{key}.graph" for key in stored}
        faults = [
            f"the file {path.name} does not belong to the galleries"
            for path in galleries.directory.iterdir()
            if path.name not in expected
        ]
        for gallery in found:
            if len(np.setdiff1d(galleries.live(gallery).usable_snapshot_keys(), stored[gallery.key])):
                faults.append(f"the snapshot of the gallery {gallery.name} contains erased templates")
        return ErasureReport(before, _size(galleries), len(list(galleries.directory.iterdir())), faults)


def _size(galleries: Galleries) -> int:
    return sum(path.stat().st_size for path in galleries.directory.iterdir())


def _disagreements(galleries: Galleries, gallery: Gallery, live: LiveIndex) -> list[str]:
    index = live.current
    if index is None:
        return ["the index is not built yet"]
    tolerance = _COMPRESSION_ERROR if index.rounding else 0.0
    key_blocks: list[NDArray[np.int64]] = []
    wrong_subjects = wrong_vectors = 0
    for block in index.blocks():  # block by block, because all vectors in float32 may not fit into memory
        with galleries.database.reading() as connection:
            true = template_rows.block_of(connection, block.template_keys, gallery.dimensions)
        shared = np.isin(block.template_keys, true.template_keys)
        key_blocks.append(block.template_keys)
        wrong_subjects += int((block.subject_keys[shared] != true.subject_keys).sum())
        wrong_vectors += int((np.abs(block.vectors[shared] - true.vectors).max(axis=1, initial=0) > tolerance).sum())
    indexed = np.concatenate(key_blocks or [np.empty(0, np.int64)])
    with galleries.database.reading() as connection:
        stored, _ = template_rows.owners(connection, gallery)
    faults = []
    missing, extra = len(np.setdiff1d(stored, indexed)), len(np.setdiff1d(indexed, stored))
    if missing or extra or len(indexed) != len(stored):
        faults.append(f"the index lacks {missing} templates and has {extra} that are not in the store")
    if wrong_subjects:
        faults.append("the index and the store assign templates to different subjects")
    if wrong_vectors:
        faults.append(f"{wrong_vectors} vectors of the index differ from the store")
    return faults
