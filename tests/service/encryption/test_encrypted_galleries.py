"""Encrypted galleries: no file has anything readable of people, no copy has who was erased, and no wrong key fits."""

import hashlib
import re
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.errors import VultusError
from service.backup.places import Places
from service.backup.restoring import restore_backup
from service.backup.verification import verify_backups
from service.backup.writing import make_backup
from service.encryption.data_keys import DATA_KEYS, DATA_KEYS_LOCK, peek
from service.encryption.sealed_file import MAGIC
from service.encryption.source import MasterKeySource
from service.errors import (
    BackupDamaged,
    DataKeysUnfit,
    MasterKeyMissing,
    MasterKeyUnfit,
    MasterKeyWrong,
    NotEncrypted,
    StoreFailed,
)
from service.gallery.administration import (
    change_gallery,
    change_subject,
    create_gallery,
    create_subject,
    list_subjects,
    merge_subjects,
    read_gallery,
    read_subject,
)
from service.gallery.consistency import check_consistency, check_erasure
from service.gallery.encrypting import change_master_key, encrypt_galleries
from service.gallery.encryption import Encryption
from service.gallery.erasure import erase_gallery, erase_subject
from service.gallery.exchange import export_lines
from service.gallery.expiry import erase_expired, subjects_lacking
from service.gallery.galleries import STORE, Galleries
from service.gallery.identification import identify, templates_of
from service.gallery.records import NewTemplate
from service.gallery.store.encryption_state import peek as peek_store
from service.gallery.templates import store_templates
from tests.service.gallery.conftest import CONTRACT, DIMENSIONS, LIMITS, MASTER_KEY, encryption_in, people

VECTORS = people(150, 2, 11)
CROP = b"\x89PNG crop of a face " + bytes(range(200))
METADATA = {"consent": "form seventeen", "name": "Wilhelmina of Somewhere"}
SECRETS = [b"form seventeen", b"Wilhelmina", b"doors of the east wing", CROP[5:60]]


def name(number: int) -> str:
    return f"id-{number}"


def fill(galleries: Galleries, kind: str = "hnsw") -> None:
    create_gallery(galleries, "staff", kind, keep_crops=True, metadata={"of": "doors of the east wing"})  # type: ignore[arg-type]
    for number, vectors in enumerate(VECTORS):
        entries = [
            NewTemplate(vector, hashlib.sha256(vector.tobytes()).digest(), crop=CROP + bytes([number, at]))
            for at, vector in enumerate(vectors)
        ]
        store_templates(galleries, "staff", [(name(number), entry) for entry in entries])
    change_subject(galleries, "staff", name(3), metadata=METADATA)
    create_subject(galleries, "staff", "without templates", METADATA)
    galleries.wait_idle()


def open_(root: Path, encryption: Encryption | None) -> Galleries:
    return Galleries(root / "galleries", CONTRACT, DIMENSIONS, limits=LIMITS, encryption=encryption)


def found_in_files(root: Path, numbers: range = range(150)) -> set[str]:
    """Return what any file below a directory has of the people: parts of vectors in three formats, crops, metadata."""
    content = b"".join(path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file())
    found = {secret.decode("latin-1") for secret in SECRETS if secret in content}
    for number in numbers:
        for vector in VECTORS[number]:
            half = vector[: DIMENSIONS // 2]
            if half.tobytes() in content or half.astype(np.float16).tobytes() in content:
                found.add(f"vector of {number}")
    return found


def state_of(root: Path) -> dict[str, str]:
    """Return the digest of every file below a directory."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != "owner.lock"
    }


@pytest.fixture
def encryption(tmp_path: Path) -> Encryption:
    return encryption_in(tmp_path)


@pytest.fixture
def galleries(tmp_path: Path, encryption: Encryption) -> Iterator[Galleries]:
    opened = open_(tmp_path, encryption)
    fill(opened)
    yield opened
    opened.close()


def require_all(galleries: Galleries) -> None:
    """Require that everything that `fill` stored is read as it was."""
    np.testing.assert_array_equal(templates_of(galleries, "staff", name(7)).vectors, VECTORS[7])
    assert read_subject(galleries, "staff", name(3))[0].metadata == METADATA
    assert read_gallery(galleries, "staff")[0].metadata == {"of": "doors of the east wing"}
    found = identify(galleries, ["staff"], VECTORS[:, 0], 1)
    assert [candidates[0].subject for candidates in found] == [name(number) for number in range(150)]
    exported = b"".join(export_lines(galleries, "staff"))
    assert exported.count(b"\n") == 303  # header, templates, the subject without templates, end
    assert b"Wilhelmina" in exported
    assert check_consistency(galleries, "staff").faults == []


def test_everything_is_read_as_it_was_written_also_after_a_restart(
    galleries: Galleries, tmp_path: Path, encryption: Encryption
) -> None:
    require_all(galleries)
    galleries.close()
    again = open_(tmp_path, encryption)
    again.wait_idle()
    require_all(again)
    assert subjects_lacking(again, "staff", "consent") == sorted(name(number) for number in range(150) if number != 3)
    again.close()


def test_no_file_has_anything_of_people(galleries: Galleries, tmp_path: Path) -> None:
    assert list((tmp_path / "galleries").glob("*.graph")), "a snapshot would be searched too"
    assert found_in_files(tmp_path) == set()
    merge_subjects(galleries, "staff", name(4), name(5))
    change_gallery(galleries, "staff", metadata={"of": "doors of the east wing", "more": 1})
    erase_subject(galleries, "staff", name(6))
    galleries.wait_idle()
    assert found_in_files(tmp_path) == set()
    make_backup(places(tmp_path), tmp_path / "backups")
    assert found_in_files(tmp_path) == set()


def test_the_search_of_files_finds_what_is_not_encrypted(tmp_path: Path) -> None:
    opened = open_(tmp_path, None)
    fill(opened, "flat")
    opened.close()
    assert found_in_files(tmp_path) == {
        *(secret.decode("latin-1") for secret in SECRETS),
        *(f"vector of {n}" for n in range(150)),
    }


def places(root: Path) -> Places:
    return Places(root / "galleries", root / "security", data_keys=root / "encryption" / DATA_KEYS)


def undestroyed(encryption: Encryption, subjects: Sequence[int]) -> set[int]:
    """Return those keys of subjects that have a data key."""
    with closing(sqlite3.connect(encryption.data_keys)) as connection:
        rows = connection.execute("SELECT key FROM data_keys WHERE kind = 'subject' AND wrapped != x''")
        return {key for (key,) in rows} & set(subjects)


def test_an_erased_subject_is_in_no_earlier_copy(galleries: Galleries, tmp_path: Path, encryption: Encryption) -> None:
    """A copy of the store, taken before the erasure, with the data keys of now."""
    copy = tmp_path / "copy"
    with sqlite3.connect(tmp_path / "galleries" / STORE) as source:
        source.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copytree(tmp_path / "galleries", copy / "galleries", ignore=shutil.ignore_patterns("owner.lock", "*-shm"))
    merge_subjects(galleries, "staff", name(20), name(21))
    for number in (9, 20):
        erase_subject(galleries, "staff", name(number))
    change_subject(galleries, "staff", name(10), expires=1.0)
    assert [len(part) for part in erase_expired(galleries, 2.0)] == [1]
    galleries.close()
    with pytest.raises(DataKeysUnfit, match="4 of the subjects have no data key"):
        Galleries(copy / "galleries", CONTRACT, DIMENSIONS, encryption=encryption)
    assert undestroyed(encryption, [number + 1 for number in (9, 10, 20, 21)]) == set()  # keys of rows begin at 1


def test_destroyed_data_keys_are_in_no_file(galleries: Galleries, encryption: Encryption) -> None:
    connection = sqlite3.connect(encryption.data_keys)
    rows = dict(connection.execute("SELECT key, wrapped FROM data_keys WHERE kind = 'subject'"))
    connection.close()

    def has(key: int) -> bool:
        return any(rows[key] in path.read_bytes() for path in encryption.data_keys.parent.iterdir())

    assert all(map(has, rows))
    erase_subject(galleries, "staff", name(30))
    assert [key for key in rows if not has(key)] == [31]
    erase_gallery(galleries, "staff")
    assert not any(map(has, rows))


def test_a_backup_restores_everybody_but_those_whose_data_keys_are_destroyed(
    galleries: Galleries, tmp_path: Path, encryption: Encryption
) -> None:
    """Also without any list of erasures, and into an older state than the newest."""
    before = make_backup(places(tmp_path), tmp_path / "backups").manifest.name
    erase_subject(galleries, "staff", name(9))
    make_backup(places(tmp_path), tmp_path / "backups")
    galleries.close()
    shutil.rmtree(tmp_path / "galleries")
    shutil.rmtree(tmp_path / "encryption")
    backup = tmp_path / "backups"
    lines = (backup / "erasures.log").read_bytes()
    with pytest.raises(VultusError):  # a list that lacks what a backup knows is refused
        (backup / "erasures.log").write_bytes(b"")
        restore_backup(backup, places(tmp_path), before)
    (backup / "erasures.log").write_bytes(lines)
    restored = restore_backup(backup, places(tmp_path), before)
    assert (restored.subjects, restored.templates) == (1, 2)
    again = open_(tmp_path, encryption)
    again.wait_idle()
    assert name(9) not in {subject.name for subject in list_subjects(again, "staff", "", -1)}
    assert len(list_subjects(again, "staff", "", -1)) == 150
    assert check_consistency(again, "staff").faults == []
    again.close()


def test_a_restored_store_is_opened_with_data_keys_that_are_newer(
    galleries: Galleries, tmp_path: Path, encryption: Encryption
) -> None:
    """The disk of the galleries is lost, that of the data keys is not; who was erased since stays erased."""
    make_backup(places(tmp_path), tmp_path / "backups")
    erase_subject(galleries, "staff", name(9))
    galleries.close()
    shutil.rmtree(tmp_path / "galleries")
    restored = restore_backup(tmp_path / "backups", places(tmp_path))
    assert restored.subjects == 1
    again = open_(tmp_path, encryption)
    assert len(list_subjects(again, "staff", "", -1)) == 150
    again.close()


def test_damaged_or_missing_data_keys_of_a_backup_are_found(galleries: Galleries, tmp_path: Path) -> None:
    backups, data_keys = tmp_path / "backups", tmp_path / "encryption"
    make_backup(places(tmp_path), backups)
    galleries.close()
    shutil.rmtree(tmp_path / "galleries")
    shutil.rmtree(data_keys)
    (kept,) = backups.glob("data_keys-*")
    content = kept.read_bytes()
    for changed in (
        content[:-1],
        content[:9000] + bytes([content[9000] ^ 1]) + content[9001:],
        b"",
        content + b"x",
        None,
    ):
        kept.unlink()
        if changed is not None:
            kept.write_bytes(changed)
        (found,) = verify_backups(backups)
        assert re.search("data keys .* were altered or are cut off|data keys .* are missing", found.faults[0])
        with pytest.raises(BackupDamaged, match="data keys"):
            restore_backup(backups, places(tmp_path))
        assert not (tmp_path / "galleries" / STORE).exists()
        assert [path.name for path in data_keys.iterdir()] == [DATA_KEYS_LOCK]
        kept.touch()
    kept.write_bytes(content)
    assert all(found.faults == [] for found in verify_backups(backups))
    (data_keys / DATA_KEYS).write_bytes(b"something else" * 1000)
    with pytest.raises(DataKeysUnfit, match="is damaged or is not a store of data keys"):
        restore_backup(backups, places(tmp_path))


Change = Callable[[Path, Encryption], Encryption | None]


def without_data_keys(_root: Path, encryption: Encryption) -> Encryption:
    encryption.data_keys.unlink()
    return encryption


def with_truncated_data_keys(_root: Path, encryption: Encryption) -> Encryption:
    encryption.data_keys.write_bytes(encryption.data_keys.read_bytes()[:5000])
    return encryption


def with_data_keys_of_others(root: Path, encryption: Encryption) -> Encryption:
    others = replace(encryption, data_keys=root / "others" / DATA_KEYS)
    opened = Galleries(root / "other galleries", CONTRACT, DIMENSIONS, encryption=others)
    create_gallery(opened, "staff")
    opened.close()
    shutil.copy(others.data_keys, encryption.data_keys)
    return encryption


def with_a_key_file(content: bytes | None) -> Change:
    def change(root: Path, encryption: Encryption) -> Encryption:
        if content is not None:
            (root / "master.key").write_bytes(content)
        return replace(encryption, master_key=MasterKeySource(file=root / "master.key"))

    return change


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda _root, _encryption: None, MasterKeyMissing),
        (with_a_key_file(None), MasterKeyUnfit),
        (with_a_key_file(b""), MasterKeyUnfit),
        (with_a_key_file(MASTER_KEY[:-2].encode()), MasterKeyUnfit),
        (with_a_key_file(secrets.token_hex(32).encode()), MasterKeyWrong),
        (without_data_keys, DataKeysUnfit),
        (with_truncated_data_keys, DataKeysUnfit),
        (with_data_keys_of_others, DataKeysUnfit),
    ],
    ids=[
        "no key",
        "missing",
        "empty",
        "cut off",
        "another",
        "no data keys",
        "truncated data keys",
        "data keys of others",
    ],
)
def test_a_wrong_key_opens_nothing_and_touches_nothing(
    galleries: Galleries, tmp_path: Path, encryption: Encryption, change: Change, error: type[VultusError]
) -> None:
    galleries.close()
    changed = change(tmp_path, encryption)
    before = state_of(tmp_path)
    with pytest.raises(error):
        open_(tmp_path, changed)
    assert state_of(tmp_path) == before


def test_a_key_file_with_a_newline_fits(galleries: Galleries, tmp_path: Path, encryption: Encryption) -> None:
    galleries.close()
    (tmp_path / "master.key").write_text(MASTER_KEY + "\n")
    again = open_(tmp_path, replace(encryption, master_key=MasterKeySource(file=tmp_path / "master.key")))
    require_all(again)
    again.close()


def test_a_value_that_was_moved_to_another_row_is_found_out(galleries: Galleries) -> None:
    with galleries.database.writing() as connection:
        connection.execute(
            "UPDATE templates SET embedding = (SELECT embedding FROM templates WHERE key = 2) WHERE key = 1"
        )
        connection.execute(
            "UPDATE subjects SET metadata = (SELECT metadata FROM subjects WHERE name = ?) WHERE name = ?",
            (name(3), name(8)),
        )
    with pytest.raises(StoreFailed, match="an encrypted value was altered or moved"):
        templates_of(galleries, "staff", name(0))
    with pytest.raises(StoreFailed, match="an encrypted value was altered or moved"):
        read_subject(galleries, "staff", name(8))


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    opened = open_(tmp_path, None)
    fill(opened)
    opened.close()
    return tmp_path


def test_galleries_that_are_not_encrypted_are_refused_until_they_are(plain: Path, encryption: Encryption) -> None:
    before = state_of(plain)
    with pytest.raises(NotEncrypted, match="vultus encryption enable"):
        open_(plain, encryption)
    assert state_of(plain) == before
    assert encrypt_galleries(plain / "galleries" / STORE, encryption) == (300, True)
    assert found_in_files(plain) == set()
    opened = open_(plain, encryption)
    opened.wait_idle()
    require_all(opened)
    assert check_erasure(opened).faults == []
    opened.close()
    with pytest.raises(MasterKeyMissing):
        open_(plain, None)


def test_an_encryption_that_was_cut_off_before_its_end_is_finished_by_the_next_start(
    plain: Path, encryption: Encryption, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:

        def fail(*_: object) -> None:
            raise StoreFailed("killed here")

        patched.setattr("service.gallery.encrypting._finish", fail)
        with pytest.raises(StoreFailed, match="killed here"):
            encrypt_galleries(plain / "galleries" / STORE, encryption)
    (snapshot,) = (plain / "galleries").glob("*.graph")
    assert not snapshot.read_bytes().startswith(MAGIC)
    opened = open_(plain, encryption)
    opened.wait_idle()
    require_all(opened)
    opened.close()
    assert found_in_files(plain) == set()
    assert snapshot.read_bytes().startswith(MAGIC)
    state = peek_store(plain / "galleries" / STORE)
    assert state is not None
    assert state.encryption == "aes-256-gcm"


def test_rotation_wraps_the_data_keys_only(
    galleries: Galleries, tmp_path: Path, encryption: Encryption, monkeypatch: pytest.MonkeyPatch
) -> None:
    galleries.close()
    store = tmp_path / "galleries" / STORE
    before, old = state_of(tmp_path / "galleries"), sqlite3.connect(encryption.data_keys)
    wrapped = [row[0] for row in old.execute("SELECT wrapped FROM data_keys")]
    old.close()
    new = MasterKeySource(text=secrets.token_hex(32))
    monkeypatch.setattr("service.encryption.data_keys._REWRAPPED", 40)
    assert change_master_key(store, encryption, new).keys == len(wrapped) == 153  # a gallery, a snapshot, 151 subjects
    assert state_of(tmp_path / "galleries") == before
    content = b"".join(path.read_bytes() for path in encryption.data_keys.parent.iterdir())
    assert not any(old_key in content for old_key in wrapped)
    found = peek(encryption.data_keys)
    assert found is not None
    assert found.master_key == new.read().id
    with pytest.raises(MasterKeyWrong):
        open_(tmp_path, encryption)
    again = open_(tmp_path, replace(encryption, master_key=new))
    again.wait_idle()
    require_all(again)
    again.close()


def test_more_new_subjects_at_once_than_opened_data_keys_are_kept(
    galleries: Galleries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.encryption.data_keys._CACHED", 5)
    vectors = people(40, 1, 12)[:, 0]
    entries = [NewTemplate(vector, hashlib.sha256(vector.tobytes()).digest()) for vector in vectors]
    store_templates(galleries, "staff", [(f"new {number}", entry) for number, entry in enumerate(entries)])
    for number in (0, 39):
        np.testing.assert_array_equal(templates_of(galleries, "staff", f"new {number}").vectors[0], vectors[number])


def test_a_snapshot_without_its_data_key_is_rebuilt(
    galleries: Galleries, tmp_path: Path, encryption: Encryption
) -> None:
    galleries.close()
    connection = sqlite3.connect(encryption.data_keys)
    assert connection.execute("DELETE FROM data_keys WHERE kind = 'snapshot'").rowcount == 1
    connection.commit()
    connection.close()
    again = open_(tmp_path, encryption)
    again.wait_idle()
    require_all(again)
    again.close()
