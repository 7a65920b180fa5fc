"""Restoring a backup into empty directories, without anything that was erased since it was made.

The store is assembled beside its place, checked, and rid of what was erased; the keys are put in place, and the store
last, by a rename. While the unfinished store is there, no service opens the directory, so a restore that is cut off is
repeated and never served. The directories themselves stay, because they may be mount points.
"""

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from models.artefact.directories import sync
from models.types import Progress, no_progress
from service.audit.store import STORE as AUDIT_STORE
from service.audit.tables import SCHEMA as AUDIT_SCHEMA
from service.backup.blocks import Blocks
from service.backup.completion import complete_store
from service.backup.copying import copy_store
from service.backup.directory import BackupDirectory, readable
from service.backup.disk import PART, translated_os_errors, write_private
from service.backup.kept_data_keys import kept_data_keys, take_data_keys
from service.backup.manifest import BackedUpFile, Manifest
from service.backup.places import Places, is_security_file
from service.encryption.data_keys import DATA_KEYS_LOCK, UNFINISHED, own_data_keys
from service.encryption.data_keys import peek as peek_data_keys
from service.errors import BackupDamaged, BackupUnfit, ErasuresDamaged, RestoreRefused
from service.gallery.erased_keys import Erasure, merged, read_list_file
from service.gallery.erasure_log import ERASURE_LOG
from service.gallery.galleries import STORE, UNRESTORED
from service.gallery.store.encryption_state import peek as peek_store
from service.gallery.store.schema import MIGRATIONS
from service.security.keys.store import STORE as KEY_STORE
from service.security.keys.tables import SCHEMA as KEY_SCHEMA
from service.storage.disk_errors import translated_errors
from service.storage.ownership import LOCK, Ownership
from service.storage.private_files import FOREIGN, make_private, open_private


@dataclass(frozen=True, slots=True)
class Restored:
    """A backup that was restored.

    Attributes:
        manifest: What the backup has.
        erasures: Number of erasures in the list that was applied.
        galleries, subjects, templates: Numbers of rows that the backup had and that were erased since.
        with_keys: Whether keys and the audit log were restored.
    """

    manifest: Manifest
    erasures: int
    galleries: int
    subjects: int
    templates: int
    with_keys: bool


def restore_backup(
    source: Path,
    places: Places,
    name: str | None = None,
    lists: Iterable[Path] = (),
    with_keys: bool = True,
    progress: Progress = no_progress,
) -> Restored:
    """Restore a backup into directories without galleries and keys.

    Args:
        source: Directory of backups.
        places: Where to restore.
        name: Name of the backup; None for the newest.
        lists: Files with lists of erasures, beside those of the backups and of the directory of the galleries.
        with_keys: Whether to restore the keys and the audit log.
        progress: Receives the number of bytes.

    Raises:
        BackupInProgress: A backup is being made in the directory.
        BackupUnknown: There is no such backup.
        BackupDamaged: A file of the backup is missing or altered; nothing was restored.
        BackupUnfit: A newer version made the backup; nothing was restored.
        ErasuresDamaged: A list of erasures is missing, damaged or incomplete; nothing was restored.
        RestoreRefused: There are galleries, keys or data keys already.
        GalleriesInUse: A service uses the directory.
        StorageFull: The disk is full.
        StoreFailed: The file system refused a read or write.
    """
    with readable(source) as directory, translated_os_errors("the restored data"):
        manifest = directory.manifest(directory.require(name))
        _require_readable(manifest)
        erasures = merged(
            directory.erasures(),
            read_list_file(places.erasures),
            *(_required_list(path) for path in lists),
        )
        keys = [file for file in manifest.files if with_keys and is_security_file(file.name)]
        with _owned(places.galleries), _owned_data_keys(places), _unfinished(places, keys) as unfinished:
            files = [(places.security / (file.name + PART), file) for file in keys]
            for path, file in [(unfinished, _store_file(manifest)), *files]:
                _assemble(path, file, directory.blocks, progress)
            data_keys = _data_keys(places, directory, unfinished, manifest)
            removed = complete_store(unfinished, manifest, erasures, data_keys)
            write_private(places.erasures, "".join(each.line() for each in erasures).encode())
            for path, file in files:
                path.rename(path.with_name(file.name))
            if files:
                sync(places.security)
            if data_keys is not None and places.data_keys is not None:
                _put_in_place(data_keys, places.data_keys)
            unfinished.rename(places.galleries / STORE)
            sync(places.galleries)
        return Restored(manifest, len(erasures), *removed, bool(keys))


@contextmanager
def _owned(galleries: Path) -> Iterator[None]:
    """Own the directory of the galleries, so that no service opens it.

    Raises:
        RestoreRefused: It has galleries or other files.
        GalleriesInUse: A service uses it.
    """
    _refuse_files(galleries)
    make_private(galleries, (f"{UNRESTORED}*", f"{ERASURE_LOG}*", LOCK))
    owner = Ownership(galleries)
    try:
        _refuse_files(galleries)  # a service may have made them meanwhile
        yield
    finally:
        owner.release()


@contextmanager
def _owned_data_keys(places: Places) -> Iterator[None]:
    """Own the data keys, which a service may use whose galleries are elsewhere.

    Raises:
        GalleriesInUse: A service uses them.
    """
    if places.data_keys is None:
        yield
        return
    make_private(places.data_keys.parent, (f"{places.data_keys.name}*", DATA_KEYS_LOCK))
    owner = own_data_keys(places.data_keys)
    try:
        yield
    finally:
        owner.release()


@contextmanager
def _unfinished(places: Places, keys: list[BackedUpFile]) -> Iterator[Path]:
    """Yield the path of the unfinished store, beside which no service opens the galleries.

    If the block fails before it has put keys in place, nothing remains, unless an earlier restore was cut off.

    Raises:
        RestoreRefused: There are other keys.
    """
    path = places.galleries / UNRESTORED
    was_cut_off = path.exists()
    _refuse_existing(places, keys if was_cut_off else [], bool(keys))
    parts = [places.security / (file.name + PART) for file in keys]
    for left in places.galleries.glob(f"{UNRESTORED}-*"):  # SQLite's files of a store that is made again
        left.unlink()
    write_private(path, b"")
    if keys:
        make_private(places.security, [f"{file.name}*" for file in keys])
    try:
        yield path
    except BaseException:  # also an interrupt
        _remove(parts)
        if places.data_keys is not None:
            _remove(places.data_keys.parent.glob(UNFINISHED))
        if not was_cut_off and not any((places.security / file.name).exists() for file in keys):
            for left in places.galleries.glob(f"{UNRESTORED}*"):
                left.unlink()
        raise


def _refuse_files(galleries: Path) -> None:
    allowed = {ERASURE_LOG, LOCK, ERASURE_LOG + PART, *FOREIGN}
    names = {path.name for path in galleries.iterdir()} if galleries.exists() else set()
    found = {name for name in names - allowed if not name.startswith(UNRESTORED)}
    if found:
        raise RestoreRefused(
            f"{galleries} has data ({min(found)}); a backup is restored into an empty directory only: stop the "
            "service, and move the directory away"
        )


def _refuse_existing(places: Places, cut_off: list[BackedUpFile], with_keys: bool) -> None:
    """Refuse a directory of keys that has other files than a restore that was cut off has put there.

    Raises:
        RestoreRefused: It has keys.
    """
    if not with_keys or not places.security.exists():
        return
    digests = {file.name: file.sha256 for file in cut_off}
    for path in sorted(places.security.iterdir()):
        if path.name in FOREIGN or (path.name.endswith(PART) and is_security_file(path.name.removesuffix(PART))):
            continue
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digests.get(path.name):
            raise RestoreRefused(
                f"{places.security} has keys or an audit log ({path.name}); move it away, or restore with --no-keys to "
                "keep them"
            )


def _require_readable(manifest: Manifest) -> None:
    """Refuse a backup whose tables a newer version made.

    Raises:
        BackupUnfit: A newer version made the backup.
    """
    heads = {KEY_STORE: KEY_SCHEMA.head, AUDIT_STORE: AUDIT_SCHEMA.head}
    newer = any(file.schema > heads[file.name] for file in manifest.files if file.name in heads)
    if newer or int(_store_file(manifest).schema) > len(MIGRATIONS):
        raise BackupUnfit(f"a newer Vultus ({manifest.version}) made the backup {manifest.name}; nothing was restored")


def _data_keys(places: Places, directory: BackupDirectory, store: Path, manifest: Manifest) -> Path | None:
    """Write the data keys of a store beside their place, and return that file; None if there are none.

    They are those in place, which may know of later erasures, together with those of the backups. A store that is not
    encrypted gets them too: they know who was erased, and encrypted backups of it need them.

    Raises:
        BackupUnfit: There is no place for data keys.
        BackupDamaged: The data keys of the backups are missing or were altered.
        DataKeysUnfit: The data keys in place are damaged.
        RestoreRefused: There are data keys of other galleries.
    """
    state = peek_store(store)
    is_encrypted = state is not None and state.is_encrypted
    place = places.data_keys
    if place is None:
        if is_encrypted:
            raise BackupUnfit("the galleries of the backup are encrypted, and there is no place for their data keys")
        return None
    part = _part(place)
    _remove(place.parent.glob(UNFINISHED))
    found = peek_data_keys(place)
    if found is not None and found.has_keys and found.store != manifest.store:
        raise RestoreRefused(f"{place} has data keys of other galleries; move it away")
    in_place = None
    if found is not None and found.has_keys:
        in_place = _new_private(part.with_name(part.name + PART))
        copy_store(place, in_place, "the store of data keys", lambda _done, _total: None)
    elif not is_encrypted and not kept_data_keys(directory.path):
        return None
    manifests = [each for each in directory.manifests()[0] if each.store == manifest.store]
    try:
        if take_data_keys(directory.path, manifests, store, in_place, _new_private(part)):
            return part
        raise BackupDamaged(f"the data keys of the encrypted galleries are missing in {directory.path}")
    finally:
        _remove(part.parent.glob(f"{part.name}.*"))


def _put_in_place(part: Path, place: Path) -> None:
    """Let data keys take the place of others, without a log of those, which SQLite would apply to them."""
    if place.exists():
        with translated_errors("the store of data keys"), closing(sqlite3.connect(place)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    _remove(place.with_name(place.name + suffix) for suffix in ("-wal", "-shm", "-journal"))
    part.rename(place)
    sync(place.parent)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _new_private(path: Path) -> Path:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(open_private(path, os.O_RDWR))
    return path


def _part(path: Path) -> Path:
    return path.with_name(path.name + PART)


def _store_file(manifest: Manifest) -> BackedUpFile:
    file = manifest.find(STORE)
    if file is None or not file.schema.isdigit():
        raise BackupDamaged(f"the backup {manifest.name} has no galleries")
    return file


def _required_list(path: Path) -> list[Erasure]:
    """Read a list of erasures that was asked for.

    Raises:
        ErasuresDamaged: It is missing or damaged.
    """
    if not path.is_file():
        raise ErasuresDamaged(f"{path} is not a list of erasures")
    return read_list_file(path)


def _assemble(path: Path, file: BackedUpFile, blocks: Blocks, progress: Progress) -> None:
    """Write a file from its blocks.

    Raises:
        BackupDamaged: A block is missing or altered.
    """
    digest, size = hashlib.sha256(), 0
    with os.fdopen(open_private(path, os.O_WRONLY | os.O_TRUNC), "wb") as target:
        for block in file.blocks:
            content = blocks.read(block)
            digest.update(content)
            target.write(content)
            size += len(content)
            progress(f"restoring {file.name}", size, file.size)
        target.flush()
        os.fsync(target.fileno())
    if (size, digest.hexdigest()) != (file.size, file.sha256):
        raise BackupDamaged(f"{file.name} of the backup differs from its digest")
