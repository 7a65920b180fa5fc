"""Backups are consistent, incremental and private, beside writers, readers and erasures."""

import sqlite3
import stat
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from models.deadline import Deadline
from models.errors import RequestCancelled
from service.backup.directory import readable, writable
from service.backup.places import Places
from service.backup.restoring import restore_backup
from service.backup.verification import verify_backups
from service.backup.writing import make_backup
from service.errors import BackupInProgress, BackupUnfit, StoreFailed
from service.gallery.consistency import check_erasure
from service.gallery.erasure import erase_subject
from service.gallery.erasure_log import ERASURE_LOG
from service.gallery.galleries import STORE, UNRESTORED
from service.security.keys.store import KeyStore
from tests.conftest import ROOT
from tests.service.backup.conftest import (
    Service,
    contents,
    enrol,
    everybody,
    has_bytes_of,
    name,
    open_galleries,
    places_in,
)


def restored(service: Service, tmp_path: Path, backup: str | None = None, *lists: Path) -> dict[str, dict[str, int]]:
    """Restore a backup elsewhere, and return what the galleries have."""
    places = places_in(tmp_path, f"again {backup} {len(lists)} ", service.is_encrypted)
    restore_backup(service.backups, places, backup, lists)
    galleries = open_galleries(places)
    try:
        return contents(galleries)
    finally:
        galleries.close()


def test_a_backup_of_open_galleries_has_everything(service: Service, tmp_path: Path) -> None:
    before = contents(service.galleries)
    made = make_backup(service.places, service.backups)
    assert (made.manifest.galleries, made.manifest.subjects, made.manifest.templates) == (2, 12, 24)
    assert [file.name for file in made.manifest.files] == ["keys.sqlite", "server.secret", STORE]
    assert verify_backups(service.backups)[0].faults == []
    assert restored(service, tmp_path) == before
    keys = KeyStore(tmp_path / "again None 0 security")
    assert [key.name for key in keys.list_all()] == ["door"]
    keys.close()


def test_a_backup_needs_no_service(service: Service) -> None:
    service.close()
    make_backup(service.places, service.backups)
    assert {path.name for path in service.places.galleries.iterdir()} == {STORE, "owner.lock"}


def test_a_second_backup_writes_what_changed(service: Service, tmp_path: Path) -> None:
    for number in range(100, 500):
        enrol(service.galleries, number)
    first = make_backup(service.places, service.backups)
    assert first.new_bytes > 6 * 65536
    assert make_backup(service.places, service.backups).new_bytes == 0
    enrol(service.galleries, 7)
    third = make_backup(service.places, service.backups)
    assert 0 < third.new_bytes < first.new_bytes
    assert name(7) in restored(service, tmp_path)["staff"]
    assert name(7) not in restored(service, tmp_path, first.manifest.name)["staff"]


def test_only_the_newest_backups_are_kept_and_their_blocks(service: Service, tmp_path: Path) -> None:
    erased = make_backup(service.places, service.backups).manifest.name
    erase_subject(service.galleries, "staff", name(1))
    erase_subject(service.galleries, "visitors", name(1))
    check_erasure(service.galleries)
    for _ in range(3):
        made = make_backup(service.places, service.backups)
    assert has_bytes_of(service.backups, 1)
    last = make_backup(service.places, service.backups, keep=2)
    assert last.removed[0] == erased
    with readable(service.backups) as directory:
        assert directory.names() == [made.manifest.name, last.manifest.name]
    assert not has_bytes_of(service.backups, 1)
    assert all(found.faults == [] for found in verify_backups(service.backups))
    assert restored(service, tmp_path) == {"staff": everybody(1), "visitors": everybody(1)}


def test_backups_are_private(service: Service) -> None:
    make_backup(service.places, service.backups)
    for path in [service.backups, *service.backups.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_open_directories_of_backups_are_restricted(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """As a copy from elsewhere may have left them."""
    make_backup(service.places, service.backups)
    directories = [service.backups, *(path for path in service.backups.rglob("*") if path.is_dir())]
    for directory in directories:
        directory.chmod(0o755)
    make_backup(service.places, service.backups)
    assert {stat.S_IMODE(directory.stat().st_mode) for directory in directories} == {0o700}
    assert not caplog.records


def test_a_secret_that_its_operator_keeps_is_not_in_backups(service: Service, tmp_path: Path) -> None:
    places = replace(service.places, secret_file=tmp_path / "elsewhere")
    made = make_backup(places, service.backups)
    assert [file.name for file in made.manifest.files] == ["keys.sqlite", STORE]


def test_a_backup_beside_writers_has_all_that_was_acknowledged_before(service: Service, tmp_path: Path) -> None:
    enrolled: list[int] = []
    erased: list[int] = []
    stop = threading.Event()

    def enrol_for_ever(first: int) -> None:
        for number in range(first, first + 10_000):
            if stop.is_set():
                return
            enrol(service.galleries, number)
            enrolled.append(number)

    def erase_for_ever() -> None:
        while not stop.is_set():
            if len(enrolled) > len(erased) + 20:
                number = enrolled[len(erased)]
                erase_subject(service.galleries, "staff", name(number))
                erased.append(number)

    threads = [threading.Thread(target=enrol_for_ever, args=(first,)) for first in (1000, 20_000)]
    threads.append(threading.Thread(target=erase_for_ever))
    for thread in threads:
        thread.start()
    states = []
    try:
        for _ in range(4):
            time.sleep(0.2)  # lets the threads change something between backups
            before, gone = list(enrolled), list(erased)
            states.append((make_backup(service.places, service.backups).manifest.name, before, gone))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert erased
    for backup, before, gone in states:
        found = restored(service, tmp_path, backup)["staff"]
        assert set(found.values()) == {2}
        assert {name(number) for number in before} - {name(number) for number in erased} <= set(found)
        assert not {name(number) for number in gone} & set(found)
        found = restored(service, tmp_path, backup, service.places.galleries / ERASURE_LOG)["staff"]
        assert not {name(number) for number in erased} & set(found)
    assert restored(service, tmp_path)["visitors"] == everybody()


def test_a_reader_such_as_litestream_harms_neither_backups_nor_erasures(service: Service, tmp_path: Path) -> None:
    reader = sqlite3.connect(service.places.galleries / STORE, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT COUNT(*) FROM templates").fetchone()
    erase_subject(service.galleries, "staff", name(3))
    make_backup(service.places, service.backups)
    enrol(service.galleries, 50)
    assert restored(service, tmp_path) == {"staff": everybody(3), "visitors": everybody()}
    reader.close()
    assert check_erasure(service.galleries).faults == []


def test_the_log_is_truncated_after_a_backup(service: Service) -> None:
    make_backup(service.places, service.backups)
    assert erase_subject(service.galleries, "staff", name(2)).log_cut


def test_one_backup_at_a_time(service: Service) -> None:
    make_backup(service.places, service.backups)
    with writable(service.backups):
        with pytest.raises(BackupInProgress, match="another backup"):
            make_backup(service.places, service.backups)
        with pytest.raises(BackupInProgress):
            verify_backups(service.backups)
    with readable(service.backups), readable(service.backups), pytest.raises(BackupInProgress):
        make_backup(service.places, service.backups)


def test_a_cancelled_backup_leaves_nothing(service: Service) -> None:
    deadline = Deadline()
    deadline.cancel()
    with pytest.raises(RequestCancelled):
        make_backup(service.places, service.backups, deadline=deadline)
    assert list((service.backups / "backups").iterdir()) == []
    assert not (service.backups / "copies.part").exists()


def test_unsuitable_directories_are_refused(service: Service, tmp_path: Path) -> None:
    with pytest.raises(BackupUnfit, match="lies in"):
        make_backup(service.places, service.places.galleries / "backups")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").touch()
    with pytest.raises(BackupUnfit, match=r"it has one\.jpg"):
        make_backup(service.places, tmp_path / "photos")
    with pytest.raises(BackupUnfit, match="not a directory"):
        make_backup(service.places, tmp_path / "photos" / "one.jpg")
    with pytest.raises(BackupUnfit, match="no galleries to back up"):
        make_backup(Places(tmp_path / "nowhere", tmp_path / "nowhere"), service.backups)
    assert not (tmp_path / "nowhere").exists()
    others = Places(tmp_path / "others", tmp_path / "other keys")
    open_galleries(others).close()
    make_backup(service.places, service.backups)
    with pytest.raises(BackupUnfit, match="other galleries"):
        make_backup(others, service.backups)
    (others.galleries / UNRESTORED).touch()
    with pytest.raises(BackupUnfit, match="no galleries to back up"):
        make_backup(others, tmp_path / "more")


def test_a_damaged_store_is_not_backed_up(service: Service) -> None:
    for number in range(100, 300):
        enrol(service.galleries, number)
    service.close()
    path = service.places.galleries / STORE
    content = bytearray(path.read_bytes())
    for start in range(5 * 16384, len(content), 3 * 16384):
        content[start : start + 200] = bytes(200)
    path.write_bytes(content)
    with pytest.raises(StoreFailed, match=r"the gallery store (is damaged|failed|cannot be copied)"):
        make_backup(service.places, service.backups)
    with readable(service.backups) as directory:
        assert directory.names() == []


def test_names_are_sorted_even_if_the_clock_is_set_back(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make_backup(service.places, service.backups).manifest.name
    earlier = time.time() - 3600
    monkeypatch.setattr(time, "time", lambda: earlier)
    names = [make_backup(service.places, service.backups).manifest.name for _ in range(3)]
    assert [first, *names] == sorted({first, *names})


def test_a_full_disk_leaves_no_backup_and_no_store(service: Service, tmp_path: Path) -> None:
    """Uses a real file system of 1 MB, if the machine allows mounting one."""
    small = tmp_path / "small"
    small.mkdir()
    mount = f"mount -t tmpfs -o size=1m none {small}"
    try:
        subprocess.run(["unshare", "-Urm", "sh", "-c", mount], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this machine does not allow mounting a file system")
    for number in range(100, 2000):
        enrol(service.galleries, number)
    make_backup(service.places, service.backups)
    service.close()
    command = f"{mount} && exec {sys.executable} -m tests.service.backup.full_disk {tmp_path} {small}"
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", command], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["storage_full", "0 backups", "0 copies", "storage_full", "0 stores"]
