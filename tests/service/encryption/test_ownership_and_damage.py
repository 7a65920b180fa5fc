"""Data keys are used by one process at a time, and damage to one of them costs nobody but its owner anything."""

import logging
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from service.backup.restoring import restore_backup
from service.backup.writing import make_backup
from service.doctor.examination import examine
from service.encryption.data_keys import DATA_KEYS, DataKeys
from service.encryption.master_key import MasterKey
from service.errors import BackupDamaged, DataKeysUnfit, GalleriesInUse, StorageFull, SubjectUnknown
from service.gallery.administration import change_subject, create_gallery, list_subjects
from service.gallery.encrypting import encrypt_galleries
from service.gallery.encryption import encryption_of
from service.gallery.erasure import erase_subject
from service.gallery.expiry import erase_expired
from service.gallery.galleries import STORE, Galleries
from service.gallery.store.encryption_state import peek
from service.gallery.templates import store_templates
from service.settings import Settings, SettingsInvalid
from tests.service.backup.conftest import places_in
from tests.service.cli.command import vultus_here
from tests.service.encryption.test_data_keys import Fixture
from tests.service.gallery.conftest import CONTRACT, DIMENSIONS, LIMITS, encryption_in, people, template


@pytest.fixture
def fixture(tmp_path: Path) -> Iterator[Fixture]:
    made = Fixture(tmp_path)
    create_gallery(made.galleries, "a")
    for number, name in enumerate(("ada", "bob", "cleo")):
        made.enrol("a", name, number)
    yield made
    made.galleries.close()


def damage(fixture: Fixture, position: int = 0) -> None:
    """Change a bit of the data key of a subject, while no service runs."""
    with closing(sqlite3.connect(fixture.encryption.data_keys)) as connection, connection:
        rows = connection.execute("SELECT id, wrapped FROM data_keys WHERE kind = 'subject' ORDER BY key").fetchall()
        key_id, wrapped = rows[position]
        changed = wrapped[:-1] + bytes([wrapped[-1] ^ 1])
        connection.execute("UPDATE data_keys SET wrapped = ? WHERE id = ?", (changed, key_id))


def test_the_same_data_key_under_the_same_master_key_is_the_same_bytes() -> None:
    first, second = MasterKey(bytes(range(32))), MasterKey(bytes(range(1, 33)))
    key, other = bytes(range(40, 72)), bytes(range(50, 82))
    assert first.wrap(key, b"1") == first.wrap(key, b"1")
    assert first.unwrap(first.wrap(key, b"1"), b"1") == key
    assert len({first.wrap(key, b"1")[:12], first.wrap(other, b"2")[:12], second.wrap(key, b"1")[:12]}) == 3


def test_a_restore_elsewhere_is_refused_while_a_service_uses_the_data_keys(fixture: Fixture, tmp_path: Path) -> None:
    make_backup(fixture.places, tmp_path / "backups")
    rehearsal = replace(places_in(tmp_path, "rehearsal-"), data_keys=fixture.encryption.data_keys)
    with pytest.raises(GalleriesInUse, match="data keys"):
        restore_backup(tmp_path / "backups", rehearsal)
    fixture.enrol("a", "dora", 3)
    fixture.reopen()
    assert fixture.names("a") == ["ada", "bob", "cleo", "dora"]


def test_two_services_do_not_share_data_keys(tmp_path: Path) -> None:
    """The second would take the data keys of the first, which has no galleries yet, for its own."""
    first = Fixture(tmp_path)
    with pytest.raises(GalleriesInUse, match="data keys"):
        Galleries(tmp_path / "others", CONTRACT, DIMENSIONS, limits=LIMITS, encryption=first.encryption)
    create_gallery(first.galleries, "a")
    first.enrol("a", "ada", 1)
    first.reopen()
    assert first.names("a") == ["ada"]
    first.galleries.close()


def test_data_keys_do_not_lie_among_keys_and_audit_log(tmp_path: Path) -> None:
    settings = Settings.model_validate(
        {"data_dir": tmp_path, "encryption": {"directory": tmp_path / "security", "master_key": "00" * 32}}
    )
    with pytest.raises(SettingsInvalid, match="audit log"):
        encryption_of(settings)


@pytest.mark.parametrize("backed_up_again", [False, True])
def test_a_damaged_data_key_does_not_replace_an_intact_copy(
    fixture: Fixture, tmp_path: Path, caplog: pytest.LogCaptureFixture, backed_up_again: bool
) -> None:
    backups = tmp_path / "backups"
    make_backup(fixture.places, backups)
    fixture.galleries.close()
    damage(fixture)
    if backed_up_again:
        with caplog.at_level(logging.WARNING):
            make_backup(fixture.places, backups)
        assert "1 of the data keys in place are damaged" in caplog.text
    fixture.lose(data_keys=False)
    fixture.restore(backups)
    assert fixture.names("a") == ["ada", "bob", "cleo"]


def test_whose_data_key_is_damaged_can_be_erased_and_others_expire(fixture: Fixture) -> None:
    change_subject(fixture.galleries, "a", "ada", metadata={"badge": 1})
    change_subject(fixture.galleries, "a", "bob", expires=time.time() + 60)
    fixture.galleries.close()
    damage(fixture)
    fixture.galleries = fixture.open()
    with pytest.raises(DataKeysUnfit):
        list_subjects(fixture.galleries, "a", "", -1)
    assert sum(len(part) for part in erase_expired(fixture.galleries, time.time() + 61)) == 1
    assert erase_subject(fixture.galleries, "a", "ada").log_cut
    assert fixture.names("a") == ["cleo"]
    with pytest.raises(SubjectUnknown):
        erase_subject(fixture.galleries, "a", "ada")


def test_two_restores_at_the_same_time_give_no_number_twice(
    fixture: Fixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that is not set makes both continue at the time of the backup."""
    backups = tmp_path / "backups"
    make_backup(fixture.places, backups)
    monkeypatch.setattr("service.backup.completion.time.time", lambda: 0.0)
    fixture.lose(data_keys=True)
    fixture.restore(backups)
    fixture.enrol("a", "visitor", 7)
    erase_subject(fixture.galleries, "a", "visitor")
    list_elsewhere = tmp_path / "erasures.log"
    shutil.copy(fixture.places.erasures, list_elsewhere)
    fixture.lose(data_keys=True)
    restore_backup(backups, fixture.places, lists=[list_elsewhere])
    fixture.galleries = fixture.open()
    fixture.enrol("a", "alice", 8)
    make_backup(fixture.places, backups)
    fixture.lose(data_keys=True)
    restore_backup(backups, fixture.places, lists=[list_elsewhere])
    fixture.galleries = fixture.open()
    assert "alice" in fixture.names("a")


def test_the_next_start_removes_what_a_restore_that_was_killed_left(fixture: Fixture) -> None:
    fixture.galleries.close()
    directory = fixture.encryption.data_keys.parent
    for suffix in (".part", ".part.part", ".part.0123456789abcdef.part"):
        shutil.copy(fixture.encryption.data_keys, directory / (DATA_KEYS + suffix))
    fixture.galleries = fixture.open()
    assert {path.name for path in directory.glob("*.part*")} == set()


def test_a_restore_that_fails_leaves_nothing_beside_the_data_keys(fixture: Fixture, tmp_path: Path) -> None:
    make_backup(fixture.places, tmp_path / "backups")
    fixture.galleries.close()
    shutil.rmtree(fixture.places.galleries)
    (kept,) = (tmp_path / "backups").glob("data_keys-*")
    kept.write_bytes(b"damaged")
    with pytest.raises(BackupDamaged, match="move it away"):
        restore_backup(tmp_path / "backups", fixture.places)
    names = {path.name for path in fixture.encryption.data_keys.parent.iterdir()}
    assert names <= {DATA_KEYS, f"{DATA_KEYS}-wal", f"{DATA_KEYS}-shm", "data_keys.lock"}


def test_a_receipt_says_that_a_data_key_is_not_destroyed_yet(fixture: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    destroy = DataKeys.destroy

    def refuse(*_: object) -> None:
        raise StorageFull("the disk is full")

    monkeypatch.setattr(DataKeys, "destroy", refuse)
    monkeypatch.setattr("service.gallery.log_truncation._RETRY_S", 0.02)
    assert not erase_subject(fixture.galleries, "a", "ada").log_cut
    assert fixture.live_keys() == 3
    monkeypatch.setattr(DataKeys, "destroy", destroy)
    end = time.monotonic() + 10
    while fixture.live_keys() == 3 and time.monotonic() < end:
        time.sleep(0.02)  # the retry has a thread of its own
    assert fixture.live_keys() == 2


def test_an_unfinished_encryption_is_not_finished_without_its_data_keys(fixture: Fixture, tmp_path: Path) -> None:
    fixture.galleries.close()
    with closing(sqlite3.connect(fixture.places.galleries / STORE)) as connection, connection:
        connection.execute("UPDATE store SET encryption = 'unfinished'")
    moved = fixture.encryption.data_keys.parent.rename(tmp_path / "mislaid")
    with pytest.raises(DataKeysUnfit, match="missing"):
        encrypt_galleries(fixture.places.galleries / STORE, fixture.encryption)
    moved.rename(fixture.encryption.data_keys.parent)
    assert encrypt_galleries(fixture.places.galleries / STORE, fixture.encryption).is_finished
    state = peek(fixture.places.galleries / STORE)
    assert state is not None
    assert state.encryption == "aes-256-gcm"
    fixture.galleries = fixture.open()
    assert len(fixture.names("a")) == 3


def test_an_erasure_from_galleries_that_are_not_encrypted_now_reaches_the_kept_data_keys(tmp_path: Path) -> None:
    """They are not after the restore of a backup from before the encryption, whose later backups need the data keys."""
    backups, places, encryption = tmp_path / "backups", places_in(tmp_path), encryption_in(tmp_path)
    store = places.galleries / STORE
    with closing(Galleries(places.galleries, CONTRACT, DIMENSIONS, limits=LIMITS, build=False)) as plain:
        create_gallery(plain, "a")
        store_templates(plain, "a", [("ada", template(people(1, 1, 1)[0, 0]))])
    before = make_backup(places, backups).manifest
    encrypt_galleries(store, encryption)
    make_backup(places, backups)
    shutil.rmtree(places.galleries)
    restore_backup(backups, places, before.name)
    with closing(Galleries(places.galleries, CONTRACT, DIMENSIONS, limits=LIMITS, build=False)) as plain:
        erase_subject(plain, "a", "ada")
    make_backup(places, backups)
    (kept,) = backups.glob("data_keys-*")
    with closing(sqlite3.connect(kept)) as connection:
        query = "SELECT wrapped = x'' FROM data_keys WHERE kind = 'subject'"
        assert connection.execute(query).fetchall() == [(1,)]


def test_the_doctor_finds_missing_data_keys(fixture: Fixture, tmp_path: Path) -> None:
    fixture.galleries.close()
    key = tmp_path / "key"
    key.write_text(fixture.encryption.master_key.text or "")
    directory = fixture.encryption.data_keys.parent
    settings = Settings.model_validate(
        {
            "data_dir": tmp_path,
            "gallery": {"directory": fixture.places.galleries},
            "encryption": {"directory": directory, "master_key_file": key},
        }
    )
    assert "data_keys_unfit" not in {finding.code for finding in examine(settings)}
    shutil.rmtree(directory)
    assert "data_keys_unfit" in {finding.code for finding in examine(settings)}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["encryption", "new-key", "{link}" + "x" * 300], "File name too long"),
        (["encryption", "new-key", "{link}"], "exists"),
    ],
)
def test_paths_that_cannot_be_looked_at_have_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    done = vultus_here(capsys, *(argument.format(link=link) for argument in arguments))
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
