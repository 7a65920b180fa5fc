"""Data keys live as long as what they encrypt, and no longer, whatever happens between."""

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
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
from service.encryption.data_keys import DATA_KEYS, DATA_KEYS_LOCK, DataKeys
from service.encryption.source import MasterKeySource
from service.errors import (
    BackupDamaged,
    BackupUnfit,
    DataKeysUnfit,
    MasterKeyUnfit,
    StoreBusy,
    StoreFailed,
    SubjectUnknown,
)
from service.gallery.administration import change_subject, create_gallery, list_subjects, merge_subjects
from service.gallery.encrypting import change_master_key, encrypt_galleries
from service.gallery.encryption import Encryption
from service.gallery.erasure import erase_gallery, erase_subject
from service.gallery.exchange import export_lines
from service.gallery.galleries import STORE, Galleries
from service.gallery.identification import identify, templates_of
from service.gallery.index import scan
from service.gallery.store.database import Database
from service.gallery.store.encryption_state import peek
from service.gallery.templates import store_templates
from tests.conftest import ROOT
from tests.service.gallery.conftest import CONTRACT, DIMENSIONS, LIMITS, encryption_in, people, template


class Fixture:
    """Encrypted galleries below a directory, which can be lost and opened again."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.encryption = encryption_in(root)
        self.places = Places(root / "galleries", root / "security", data_keys=self.encryption.data_keys)
        self.galleries = self.open()

    def open(self, encryption: Encryption | None = None, build: bool = False) -> Galleries:
        encryption = encryption or self.encryption
        directory = self.places.galleries
        return Galleries(directory, CONTRACT, DIMENSIONS, limits=LIMITS, encryption=encryption, build=build)

    def reopen(self) -> None:
        self.galleries.close()
        self.galleries = self.open()

    def enrol(self, gallery: str, name: str, seed: int) -> None:
        store_templates(self.galleries, gallery, [(name, template(people(1, 1, seed)[0, 0]))])

    def names(self, gallery: str) -> list[str]:
        return [subject.name for subject in list_subjects(self.galleries, gallery, "", -1)]

    def live_keys(self) -> int:
        with closing(sqlite3.connect(self.encryption.data_keys)) as connection:
            query = "SELECT COUNT(*) FROM data_keys WHERE kind = 'subject' AND wrapped != x''"
            return int(connection.execute(query).fetchone()[0])

    def lose(self, *, data_keys: bool) -> None:
        self.galleries.close()
        shutil.rmtree(self.places.galleries)
        if data_keys:
            shutil.rmtree(self.encryption.data_keys.parent)

    def restore(self, backups: Path, backup: str | None = None) -> None:
        restore_backup(backups, self.places, backup)
        self.galleries = self.open()


@pytest.fixture
def fixture(tmp_path: Path) -> Iterator[Fixture]:
    made = Fixture(tmp_path)
    create_gallery(made.galleries, "a")
    create_gallery(made.galleries, "b")
    yield made
    made.galleries.close()


_KILLED_AT_COMMIT = """
import os, sys
from pathlib import Path
from tests.service.encryption.test_data_keys import Fixture
made = Fixture(Path(sys.argv[1]))
with made.galleries.database.exclusive():
    writer = made.galleries.database._writer
    writer.set_trace_callback(lambda statement: os.kill(os.getpid(), 9) if statement == "COMMIT" else None)
    made.enrol("a", "killed", 1)
"""


@pytest.mark.parametrize("erased", ["a", "b"])
def test_the_number_of_a_row_that_was_never_committed_gets_a_key_of_its_own(fixture: Fixture, erased: str) -> None:
    fixture.galleries.close()
    command = [sys.executable, "-c", _KILLED_AT_COMMIT, str(fixture.root)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -9
    fixture.galleries = fixture.open()
    assert fixture.names("a") == []
    assert fixture.live_keys() == 1
    fixture.enrol("b", "bob", 2)
    erase_gallery(fixture.galleries, erased)
    fixture.reopen()
    if erased == "a":
        np.testing.assert_array_equal(templates_of(fixture.galleries, "b", "bob").vectors, people(1, 1, 2)[0])
    assert fixture.live_keys() == 1  # Bob's; or that of nobody, in the other gallery


def test_refused_enrolments_leave_no_data_keys(fixture: Fixture) -> None:
    for number in range(5):
        fixture.enrol("a", f"same photo {number}", 1)
    assert fixture.names("a") == ["same photo 0"]
    assert fixture.live_keys() == 1


class Concurrent:
    """Erases subjects between the reading of rows and that of their data keys, as another thread would."""

    def __init__(self, fixture: Fixture, monkeypatch: pytest.MonkeyPatch, names: list[str]) -> None:
        find = DataKeys.find
        left = list(names)

        def find_after_erasure(keys: DataKeys, kind: str, wanted: list[int]) -> object:
            if left and threading.current_thread() is threading.main_thread() and kind == "subject":
                name = left.pop()
                thread = threading.Thread(target=erase_subject, args=(fixture.galleries, "a", name))
                thread.start()
                thread.join()
            return find(keys, kind, wanted)  # type: ignore[arg-type]

        monkeypatch.setattr(DataKeys, "find", find_after_erasure)


def test_a_page_is_full_although_subjects_are_erased_meanwhile(
    fixture: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        fixture.enrol("a", f"p{number}", number)
    for number in range(6):
        change_subject(fixture.galleries, "a", f"p{number}", metadata={"n": number})
    Concurrent(fixture, monkeypatch, ["p1"])
    assert [subject.name for subject in list_subjects(fixture.galleries, "a", "", 3)] == ["p0", "p2", "p3"]


def test_a_scan_goes_on_behind_subjects_that_are_erased_meanwhile(
    fixture: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(12):
        fixture.enrol("a", f"p{number:02}", number)
    fixture.reopen()
    monkeypatch.setattr(scan, "BLOCK_ROWS", 4)
    Concurrent(fixture, monkeypatch, ["p00", "p05"])
    (found,) = identify(fixture.galleries, ["a"], people(1, 1, 11)[0], 1)
    assert found[0].subject == "p11"


def test_a_subject_that_is_erased_while_it_is_read_is_unknown(
    fixture: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixture.enrol("a", "p0", 0)
    Concurrent(fixture, monkeypatch, ["p0"])
    with pytest.raises(SubjectUnknown):
        templates_of(fixture.galleries, "a", "p0")


def test_an_export_while_subjects_are_erased_has_the_others(fixture: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        fixture.enrol("a", f"p{number}", number)
    lines = export_lines(fixture.galleries, "a")
    header = next(lines)
    Concurrent(fixture, monkeypatch, ["p1"])
    assert b"".join([header, *lines]).count(b'"subject"') == 5


def test_a_restore_destroys_the_data_keys_of_who_was_erased_since(fixture: Fixture, tmp_path: Path) -> None:
    """The list of erasures survived the loss of galleries and data keys."""
    fixture.places = replace(fixture.places, erasure_log=tmp_path / "elsewhere.log")
    fixture.galleries.close()
    fixture.galleries = Galleries(
        fixture.places.galleries,
        CONTRACT,
        DIMENSIONS,
        encryption=fixture.encryption,
        erasure_log=fixture.places.erasure_log,
    )
    for number in range(4):
        fixture.enrol("a", f"p{number}", number)
    make_backup(fixture.places, tmp_path / "backups")
    erase_subject(fixture.galleries, "a", "p1")
    fixture.lose(data_keys=True)
    fixture.restore(tmp_path / "backups")
    assert fixture.names("a") == ["p0", "p2", "p3"]
    assert fixture.live_keys() == 3
    make_backup(replace(fixture.places, erasure_log=None), tmp_path / "backups")
    (kept,) = (tmp_path / "backups").glob("data_keys-*")
    with closing(sqlite3.connect(kept)) as connection:
        query = "SELECT COUNT(*) FROM data_keys WHERE kind = 'subject' AND wrapped != x''"
        assert connection.execute(query).fetchone() == (3,)


@pytest.mark.parametrize("was_encrypted", [True, False])
def test_erasures_after_a_restore_destroy_data_keys_too(fixture: Fixture, tmp_path: Path, was_encrypted: bool) -> None:
    """The galleries are lost with the list of erasures, the data keys, which know of three erasures, are not."""
    for number in range(6):
        fixture.enrol("a", f"p{number}", number)
    backups = tmp_path / "backups"
    make_backup(fixture.places, backups)
    for number in range(3):
        erase_subject(fixture.galleries, "a", f"p{number}")
    if not was_encrypted:  # the backup is of a time before the encryption
        fixture.galleries.close()
        with closing(sqlite3.connect(fixture.places.galleries / STORE)) as connection:
            connection.execute("DELETE FROM subjects")
            connection.execute("DELETE FROM galleries")
            connection.execute("DELETE FROM erasures")
            connection.execute("DELETE FROM sqlite_sequence WHERE name = 'erasures'")
            connection.execute("UPDATE store SET encryption = 'none'")
            connection.commit()
        plain = Galleries(fixture.places.galleries, CONTRACT, DIMENSIONS, build=False)
        create_gallery(plain, "a")
        for number in range(3, 6):
            store_templates(plain, "a", [(f"p{number}", template(people(1, 1, number)[0, 0]))])
        plain.close()
        encrypt_galleries(fixture.places.galleries / STORE, fixture.encryption)
        fixture.galleries = fixture.open()
        before = fixture.live_keys()
    else:
        fixture.lose(data_keys=False)
        fixture.restore(backups)
        before = fixture.live_keys()
        assert before == 3
    assert fixture.names("a") == ["p3", "p4", "p5"]
    for number in range(3, 6):
        erase_subject(fixture.galleries, "a", f"p{number}")
    assert fixture.live_keys() == before - 3


def test_a_restore_with_older_data_keys_in_place_adds_those_of_the_backup(fixture: Fixture, tmp_path: Path) -> None:
    backups, offsite = tmp_path / "backups", tmp_path / "offsite"
    fixture.enrol("a", "ann", 1)
    make_backup(fixture.places, backups)
    shutil.copytree(backups, offsite)
    fixture.enrol("a", "bob", 2)
    make_backup(fixture.places, backups)
    fixture.lose(data_keys=True)
    fixture.restore(offsite)
    fixture.lose(data_keys=False)
    fixture.restore(backups)
    assert fixture.names("a") == ["ann", "bob"]
    np.testing.assert_array_equal(templates_of(fixture.galleries, "a", "bob").vectors, people(1, 1, 2)[0])


def test_a_backup_after_a_restore_from_elsewhere_keeps_the_data_keys_of_the_earlier_ones(
    fixture: Fixture, tmp_path: Path
) -> None:
    offsite, backups = tmp_path / "offsite", tmp_path / "backups"
    fixture.enrol("a", "ann", 1)
    make_backup(fixture.places, offsite)
    fixture.enrol("a", "bob", 2)
    newer = make_backup(fixture.places, backups).manifest.name
    fixture.lose(data_keys=True)
    fixture.restore(offsite)
    fixture.enrol("a", "cid", 3)
    make_backup(fixture.places, backups)
    fixture.lose(data_keys=True)
    fixture.restore(backups, newer)
    assert fixture.names("a") == ["ann", "bob"]


def test_data_keys_that_do_not_know_of_somebody_are_refused_and_nobody_is_dropped(
    fixture: Fixture, tmp_path: Path
) -> None:
    backups = tmp_path / "backups"
    fixture.enrol("a", "ann", 1)
    make_backup(fixture.places, backups)
    (older,) = backups.glob("data_keys-*")
    content, name = older.read_bytes(), older.name
    fixture.enrol("a", "bob", 2)
    make_backup(fixture.places, backups)
    for newer in backups.glob("data_keys-*"):
        newer.unlink()
    (backups / name).write_bytes(content)
    fixture.lose(data_keys=True)
    with pytest.raises(DataKeysUnfit, match="1 of the subjects in the backup have no data key"):
        restore_backup(backups, fixture.places)
    assert not (fixture.places.galleries / STORE).exists()
    fixture.galleries = Fixture(tmp_path / "another").galleries


def test_data_keys_under_an_earlier_master_key_are_kept_as_long_as_a_backup_needs_them(
    fixture: Fixture, tmp_path: Path
) -> None:
    offsite, backups = tmp_path / "offsite", tmp_path / "backups"
    fixture.enrol("a", "ann", 1)
    make_backup(fixture.places, offsite)
    fixture.enrol("a", "bob", 2)
    newer = make_backup(fixture.places, backups).manifest.name
    fixture.lose(data_keys=True)
    fixture.restore(offsite)
    fixture.galleries.close()
    new = MasterKeySource(text="0123456789abcdef" * 4)
    change_master_key(fixture.places.galleries / STORE, fixture.encryption, new)
    old, fixture.encryption = fixture.encryption, replace(fixture.encryption, master_key=new)
    fixture.galleries = fixture.open()
    make_backup(fixture.places, backups)
    assert len(list(backups.glob("data_keys-*"))) == 2
    assert all(found.faults == [] for found in verify_backups(backups))
    fixture.lose(data_keys=True)
    fixture.restore(backups)  # the newest
    assert fixture.names("a") == ["ann"]
    fixture.lose(data_keys=True)
    fixture.encryption = old
    fixture.restore(backups, newer)  # Bob's data key was never wrapped under the new master key
    assert fixture.names("a") == ["ann", "bob"]
    np.testing.assert_array_equal(templates_of(fixture.galleries, "a", "bob").vectors, people(1, 1, 2)[0])


def test_a_backup_after_a_rotation_leaves_nothing_under_the_earlier_master_key(
    fixture: Fixture, tmp_path: Path
) -> None:
    fixture.enrol("a", "ann", 1)
    make_backup(fixture.places, tmp_path / "backups")
    fixture.galleries.close()
    new = MasterKeySource(text="0123456789abcdef" * 4)
    change_master_key(fixture.places.galleries / STORE, fixture.encryption, new)
    fixture.encryption = replace(fixture.encryption, master_key=new)
    fixture.galleries = fixture.open()
    make_backup(fixture.places, tmp_path / "backups")
    (kept,) = (tmp_path / "backups").glob("data_keys-*")
    assert kept.name.startswith(f"data_keys-{new.read().id}-")


def test_a_locked_store_is_not_taken_for_a_new_one(fixture: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    fixture.galleries.close()
    store = fixture.places.galleries / STORE
    monkeypatch.setattr("service.storage.reading.BUSY_WAIT_S", 0.1)
    with closing(sqlite3.connect(store, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN IMMEDIATE")
        other.execute("SELECT COUNT(*) FROM galleries").fetchone()
        with pytest.raises(StoreBusy):
            Galleries(fixture.places.galleries, CONTRACT, DIMENSIONS)
    fixture.galleries = fixture.open()


def test_lost_galleries_beside_their_data_keys_are_not_begun_anew(fixture: Fixture, tmp_path: Path) -> None:
    backups, key = tmp_path / "backups", tmp_path / "master.key"
    fixture.enrol("a", "ann", 1)
    make_backup(fixture.places, backups)
    fixture.lose(data_keys=False)
    with pytest.raises(DataKeysUnfit, match="vultus restore"):
        fixture.open(replace(fixture.encryption, master_key=MasterKeySource(file=key)))
    assert not key.exists()
    fixture.restore(backups)
    assert fixture.names("a") == ["ann"]


def test_an_encryption_beside_another_reader_is_unfinished_until_the_next_start(
    tmp_path: Path, fixture: Fixture
) -> None:
    directory = tmp_path / "plain" / "galleries"
    plain = Galleries(directory, CONTRACT, DIMENSIONS, build=False)
    create_gallery(plain, "a")
    vectors = people(50, 1)
    store_templates(plain, "a", [(f"p{number}", template(vector[0])) for number, vector in enumerate(vectors)])
    plain.close()
    encryption, store = encryption_in(tmp_path / "plain"), directory / STORE
    with closing(sqlite3.connect(store, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT COUNT(*) FROM templates").fetchone()
        assert encrypt_galleries(store, encryption) == (50, False)
        state = peek(store)
        assert state is not None
        assert state.encryption == "unfinished"
    Galleries(directory, CONTRACT, DIMENSIONS, encryption=encryption).close()
    assert not any(vector.tobytes() in store.read_bytes() for vector in vectors)
    assert peek(store) == state._replace(encryption="aes-256-gcm")
    assert fixture.names("a") == []


def test_an_encryption_on_a_nearly_full_disk_says_what_is_left(
    tmp_path: Path, fixture: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "plain" / "galleries"
    plain = Galleries(directory, CONTRACT, DIMENSIONS, build=False)
    create_gallery(plain, "a")
    plain.close()
    with monkeypatch.context() as patched:

        def fail(_database: Database) -> bool:
            raise StoreFailed("no room")

        patched.setattr(Database, "rewrite", fail)
        assert encrypt_galleries(directory / STORE, encryption_in(tmp_path / "plain")) == (0, False)
    assert encrypt_galleries(directory / STORE, encryption_in(tmp_path / "plain")) == (0, True)
    assert fixture.names("b") == []


def test_the_same_master_key_is_not_a_new_one(fixture: Fixture, tmp_path: Path) -> None:
    fixture.galleries.close()
    store = fixture.places.galleries / STORE
    with pytest.raises(MasterKeyUnfit, match="is the one in use"):
        change_master_key(store, fixture.encryption, fixture.encryption.master_key)
    wrong = replace(fixture.encryption, master_key=MasterKeySource(text="f0e1d2c3b4a59687" * 4))
    fixture.galleries = fixture.open()
    fixture.enrol("a", "ann", 1)
    fixture.galleries.close()
    with pytest.raises(VultusError):
        change_master_key(store, wrong, MasterKeySource(file=tmp_path / "new.key"))
    assert not (tmp_path / "new.key").exists()
    fixture.galleries = fixture.open()


def test_a_key_of_bytes_that_are_no_text_is_a_sentence() -> None:
    text = os.fsdecode(b"\xff\xfe")
    with pytest.raises(MasterKeyUnfit, match="it has 2 characters"):
        MasterKeySource(text=text).read()


def test_a_merged_subject_is_read_and_erased_with_its_new_owner(fixture: Fixture) -> None:
    fixture.enrol("a", "ann", 1)
    fixture.enrol("a", "nan", 2)
    merge_subjects(fixture.galleries, "a", "ann", "nan")
    fixture.reopen()
    assert len(templates_of(fixture.galleries, "a", "ann").vectors) == 2
    assert fixture.live_keys() == 2  # that of the merged one serves earlier backups
    erase_subject(fixture.galleries, "a", "ann")
    assert fixture.live_keys() == 0


def test_data_keys_of_other_galleries_are_neither_kept_nor_joined(fixture: Fixture, tmp_path: Path) -> None:
    """An aborted backup left data keys and no manifest; then other galleries are backed up into the directory."""
    backups = tmp_path / "backups"
    other = Fixture(tmp_path / "other")
    create_gallery(other.galleries, "a")
    for number in range(3):
        fixture.enrol("a", f"p{number}", number)
        other.enrol("a", f"q{number}", number)
    erase_subject(other.galleries, "a", "q1")
    make_backup(other.places, backups)
    shutil.rmtree(backups / "backups")
    kept = {path.name for path in backups.glob("data_keys-*")}
    with pytest.raises(BackupUnfit, match="data keys of other galleries"):
        make_backup(fixture.places, backups)
    with pytest.raises(BackupUnfit, match="are not those of the galleries"):
        make_backup(replace(fixture.places, data_keys=other.places.data_keys), tmp_path / "more")
    assert {path.name for path in backups.glob("data_keys-*")} == kept
    other.galleries.close()


@pytest.mark.parametrize("lost_keys", [True, False])
def test_encrypted_backups_outlive_a_restore_of_one_from_before_the_encryption(
    fixture: Fixture, tmp_path: Path, lost_keys: bool
) -> None:
    """The store is encrypted twice, at different times, and one of its people was erased in between."""
    fixture.galleries.close()
    shutil.rmtree(fixture.root / "galleries")
    shutil.rmtree(fixture.root / "encryption")
    backups, store = tmp_path / "backups", fixture.places.galleries / STORE
    plain = Galleries(fixture.places.galleries, CONTRACT, DIMENSIONS, build=False)
    create_gallery(plain, "a")
    for number in range(3):
        store_templates(plain, "a", [(f"p{number}", template(people(1, 1, number)[0, 0]))])
    before = make_backup(fixture.places, backups).manifest.name
    plain.close()
    encrypt_galleries(store, fixture.encryption)
    fixture.galleries = fixture.open()
    fixture.enrol("a", "p3", 3)
    encrypted = make_backup(fixture.places, backups).manifest.name
    erase_subject(fixture.galleries, "a", "p1")
    make_backup(fixture.places, backups)
    fixture.lose(data_keys=lost_keys)
    restore_backup(backups, fixture.places, before)
    encrypt_galleries(store, fixture.encryption)
    fixture.galleries = fixture.open()
    assert fixture.names("a") == ["p0", "p2"]
    make_backup(fixture.places, backups)
    fixture.lose(data_keys=True)
    fixture.restore(backups, encrypted)
    assert fixture.names("a") == ["p0", "p2", "p3"]
    for number in (0, 2, 3):
        vectors = templates_of(fixture.galleries, "a", f"p{number}").vectors
        np.testing.assert_array_equal(vectors, people(1, 1, number)[0])
    erase_subject(fixture.galleries, "a", "p2")  # under both of its data keys
    with closing(sqlite3.connect(fixture.encryption.data_keys)) as connection:
        rows = connection.execute("SELECT wrapped FROM data_keys WHERE kind = 'subject' AND key = 3").fetchall()
    assert rows == [(b"",), (b"",)]


def test_a_log_of_earlier_data_keys_is_not_applied_to_restored_ones(fixture: Fixture, tmp_path: Path) -> None:
    backups, place = tmp_path / "backups", fixture.encryption.data_keys
    fixture.enrol("a", "ann", 1)
    make_backup(fixture.places, backups)
    log = place.with_name(place.name + "-wal")
    for keeps_file in (True, False):
        fixture.enrol("a", f"more {keeps_file}", 5 + keeps_file)
        left = log.read_bytes()
        assert left
        fixture.lose(data_keys=False)
        if not keeps_file:
            place.unlink()
        log.write_bytes(left)
        fixture.restore(backups)
        assert fixture.names("a") == ["ann"]
        np.testing.assert_array_equal(templates_of(fixture.galleries, "a", "ann").vectors, people(1, 1, 1)[0])


def test_an_older_copy_of_the_galleries_gives_no_number_again(fixture: Fixture, tmp_path: Path) -> None:
    backups = tmp_path / "backups"
    fixture.galleries.close()
    shutil.copytree(fixture.places.galleries, tmp_path / "copy")
    fixture.galleries = fixture.open()
    fixture.enrol("a", "old", 1)
    erase_subject(fixture.galleries, "a", "old")
    make_backup(fixture.places, backups)
    fixture.lose(data_keys=False)
    shutil.copytree(tmp_path / "copy", fixture.places.galleries)
    fixture.galleries = fixture.open()
    fixture.enrol("a", "new", 2)
    make_backup(fixture.places, backups)
    fixture.lose(data_keys=True)
    fixture.restore(backups)
    assert fixture.names("a") == ["new"]


def test_a_failed_restore_leaves_no_copy_of_the_data_keys(fixture: Fixture, tmp_path: Path) -> None:
    backups = tmp_path / "backups"
    fixture.enrol("a", "ann", 1)
    make_backup(fixture.places, backups)
    (kept,) = backups.glob("data_keys-*")
    kept.write_bytes(kept.read_bytes() + b"x")
    fixture.lose(data_keys=False)
    with pytest.raises(BackupDamaged):
        restore_backup(backups, fixture.places)
    names = {path.name for path in fixture.encryption.data_keys.parent.iterdir()}
    assert names == {DATA_KEYS, DATA_KEYS_LOCK}
    kept.write_bytes(kept.read_bytes()[:-1])
    fixture.restore(backups)
    assert {path.name for path in fixture.encryption.data_keys.parent.iterdir()} <= {
        DATA_KEYS,
        DATA_KEYS_LOCK,
        f"{DATA_KEYS}-wal",
        f"{DATA_KEYS}-shm",
    }


def test_a_destroyed_key_leaves_the_file_when_a_reader_of_the_data_keys_ends(fixture: Fixture) -> None:
    fixture.enrol("a", "ann", 1)
    with closing(sqlite3.connect(fixture.encryption.data_keys, isolation_level=None)) as reader:
        (wrapped,) = reader.execute("SELECT wrapped FROM data_keys WHERE kind = 'subject'").fetchone()
        reader.execute("BEGIN")
        reader.execute("SELECT COUNT(*) FROM data_keys").fetchone()
        assert not erase_subject(fixture.galleries, "a", "ann").log_cut
    for _ in range(100):
        files = fixture.encryption.data_keys.parent.iterdir()
        if not any(wrapped in path.read_bytes() for path in files):
            return
        time.sleep(0.1)  # the truncation is tried again each second
    pytest.fail("the destroyed data key is still in a file")
