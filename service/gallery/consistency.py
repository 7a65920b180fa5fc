"""Checks that index and store agree and that no file contains erased records."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.deadline import Deadline
from service.gallery.galleries import STORE_FILES, Galleries
from service.gallery.index.base import TemplateIndex
from service.gallery.index.live import LiveIndex
from service.gallery.records import Block, Gallery
from service.gallery.store import gallery_rows, template_rows
from service.storage.private_files import FOREIGN

_TRUNCATIONS = 20  # attempts to truncate the log, because readers of this process end soon
_COMPARED_AT_ONCE = 8192  # templates that are compared while writers wait
_COMPRESSION_ERROR = 0.02  # maximum deviation of a component of a compressed vector


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


def check_consistency(galleries: Galleries, name: str, deadline: Deadline | None = None) -> ConsistencyReport:
    """Compare a gallery's index with the store, vector by vector, while both may change.

    Only templates that seem to differ are compared while other writers are excluded.

    Args:
        galleries: The open galleries.
        name: Name of the gallery.
        deadline: Deadline of the request.

    Raises:
        GalleryUnknown: No gallery has this name.
        RequestCancelled: The client disconnected.
    """
    with galleries.database.reading() as connection:
        gallery = gallery_rows.find(connection, name)
    galleries.wait_idle(deadline, gallery)
    with galleries.database.reading() as connection:
        gallery = gallery_rows.find(connection, name)
        templates = template_rows.count(connection, gallery)
    live = galleries.live(gallery)
    faults = [*galleries.database.integrity_faults(), *_disagreements(galleries, gallery, live, deadline)]
    return ConsistencyReport(name, templates, live.current.kind if live.current else None, faults)


def check_erasure(galleries: Galleries, deadline: Deadline | None = None) -> ErasureReport:
    """Rewrite the store and check that no file contains records that the store does not have.

    Each erasure overwrites the space it frees in the store. Rows that SQLite moved may have left copies in other free
    space; the rewrite removes those copies. Writers wait until the rewrite is complete.

    Args:
        galleries: The open galleries.
        deadline: Deadline of the request.

    Raises:
        RequestCancelled: The client disconnected before the rewrite began.
        StoreBusy: Another program has locked the store; nothing was changed.
        StorageFull: The disk has no room for a second copy of the store; nothing was changed.
        StoreFailed: The file system refused a read or write.
    """
    galleries.wait_idle(deadline)
    with galleries.database.exclusive(deadline):
        before = size_of(galleries)
        galleries.database.rewrite()
        truncated = any(galleries.truncate_log() for _ in range(_TRUNCATIONS))
        with galleries.database.reading() as connection:
            found = list(gallery_rows.iterate(connection))
            stored = {gallery.key: template_rows.owners(connection, gallery)[0] for gallery in found}
        expected = STORE_FILES | FOREIGN | {f"{key}.graph" for key in stored}
        faults = [
            f"the {'directory' if path.is_dir() else 'file'} {path.name} does not belong to the galleries, "
            "and it may hold copies of erased data"
            for path in sorted(galleries.directory.iterdir())
            if path.name not in expected
        ]
        if not truncated:
            faults.append(
                "the write-ahead log, which may hold erased data, is not truncated yet: another program, such as a "
                "backup, reads the store; it is truncated when that ends"
            )
        for gallery in found:
            if len(np.setdiff1d(galleries.live(gallery).usable_snapshot_keys(), stored[gallery.key])):
                faults.append(f"the snapshot of the gallery {gallery.name} contains erased templates")
        return ErasureReport(before, size_of(galleries), len(_files(galleries)), faults)


def size_of(galleries: Galleries) -> int:
    """Return the size of all files of the galleries in bytes."""
    return sum(path.stat().st_size for path in _files(galleries))


def _files(galleries: Galleries) -> list[Path]:
    return [path for path in galleries.directory.iterdir() if path.is_file()]


def _disagreements(galleries: Galleries, gallery: Gallery, live: LiveIndex, deadline: Deadline | None) -> list[str]:
    index = live.current
    if index is None:
        return ["the index is not built yet"] if galleries.searches(gallery) else []
    suspects = _suspects(galleries, gallery, index, deadline)
    missing = extra = wrong_subjects = wrong_vectors = 0
    for start in range(0, len(suspects), _COMPARED_AT_ONCE):
        part = suspects[start : start + _COMPARED_AT_ONCE]
        with galleries.database.exclusive(), galleries.database.reading() as connection:
            index = live.current
            if index is None:  # the gallery was erased meanwhile, or the index was discarded
                return ["the index is not built yet"]
            indexed, stored = index.find(part), template_rows.block_of(connection, part, gallery.dimensions)
        compared = _compare(indexed, stored, index.rounding)
        missing += len(np.setdiff1d(stored.template_keys, indexed.template_keys))
        extra += len(indexed.template_keys) - len(np.intersect1d(indexed.template_keys, stored.template_keys))
        wrong_subjects += int(compared.subjects.sum())
        wrong_vectors += int(compared.vectors.sum())
    faults = []
    if missing or extra:
        faults.append(f"the index lacks {missing} templates and has {extra} that are not in the store")
    if wrong_subjects:
        faults.append("the index and the store assign templates to different subjects")
    if wrong_vectors:
        faults.append(f"{wrong_vectors} vectors of the index differ from the store")
    return faults


def _suspects(
    galleries: Galleries, gallery: Gallery, index: TemplateIndex, deadline: Deadline | None
) -> NDArray[np.int64]:
    """Return the (N,) keys of templates that seem to differ; those that changed during the comparison may seem to."""
    suspects: list[NDArray[np.int64]] = []
    key_blocks: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    for block in index.blocks():  # block by block, because all vectors in float32 may not fit into memory
        if deadline is not None:
            deadline.check()
        with galleries.database.reading() as connection:
            stored = template_rows.block_of(connection, block.template_keys, gallery.dimensions)
        key_blocks.append(block.template_keys)
        compared = _compare(block, stored, index.rounding)
        suspects.append(compared.keys[compared.subjects | compared.vectors])
    indexed, counts = np.unique(np.concatenate(key_blocks), return_counts=True)
    with galleries.database.reading() as connection:
        keys, _ = template_rows.owners(connection, gallery)
    return np.unique(np.concatenate([*suspects, np.setxor1d(indexed, keys), indexed[counts > 1]]))


class _Compared(NamedTuple):
    """The (N,) keys that two blocks share, and masks of those whose subject or vector differs."""

    keys: NDArray[np.int64]
    subjects: NDArray[np.bool_]
    vectors: NDArray[np.bool_]


def _compare(indexed: Block, stored: Block, rounding: float) -> _Compared:
    keys, first, second = np.intersect1d(indexed.template_keys, stored.template_keys, return_indices=True)
    tolerance = _COMPRESSION_ERROR if rounding else 0.0
    deviations = np.abs(indexed.vectors[first] - stored.vectors[second]).max(axis=1, initial=0)
    return _Compared(keys, indexed.subject_keys[first] != stored.subject_keys[second], deviations > tolerance)
