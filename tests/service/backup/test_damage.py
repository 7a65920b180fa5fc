"""Damage to any file of a backup is noticed, and nothing damaged is restored."""

import json
import random
from pathlib import Path

import pytest

from models.errors import VultusError
from service.backup import restoring
from service.backup.directory import readable
from service.backup.restoring import restore_backup
from service.backup.verification import verify_backups
from service.backup.writing import make_backup
from service.errors import BackupDamaged, BackupError, BackupUnfit, ErasuresDamaged
from service.gallery.erased_keys import ErasedKeys, Erasure, in_ranges, merged, read_line, read_list_file
from service.gallery.erasure import erase_subject
from service.gallery.erasure_log import ERASURE_LOG
from service.gallery.galleries import UNRESTORED
from service.gallery.store.schema import MIGRATIONS
from tests.service.backup.conftest import Service, contents, enrol, everybody, name


def flip_bit(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def require_refused(service: Service) -> VultusError:
    """Check that a restore is refused, leaves nothing, and that verification finds the fault."""
    with pytest.raises(BackupError) as refused:
        restore_backup(service.backups, service.places)
    assert not service.places.security.exists() or not list(service.places.security.iterdir())
    if service.places.galleries.exists():
        assert {path.name for path in service.places.galleries.iterdir()} <= {"owner.lock"}
    try:
        assert any(found.faults for found in verify_backups(service.backups))
    except ErasuresDamaged:
        assert isinstance(refused.value, ErasuresDamaged)
    return refused.value


@pytest.fixture
def lost(service: Service) -> Service:
    """A service that is lost, with one backup that knows of an erasure."""
    for number in range(100, 250):
        enrol(service.galleries, number)
    erase_subject(service.galleries, "staff", name(1))
    make_backup(service.places, service.backups)
    service.lose()
    return service


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", ["blocks/*/*", "backups/*.json", ERASURE_LOG])
def test_a_flipped_bit_is_noticed(lost: Service, kind: str, seed: int) -> None:
    chance = random.Random(seed)
    flip_bit(chance.choice(sorted(lost.backups.glob(kind))), chance)
    require_refused(lost)


@pytest.mark.parametrize("kept", [0, 1, 1000])
@pytest.mark.parametrize("kind", ["blocks/*/*", "backups/*.json"])
def test_a_file_that_is_cut_off_is_noticed(lost: Service, kind: str, kept: int) -> None:
    path = max(lost.backups.glob(kind), key=lambda found: found.stat().st_size)
    path.write_bytes(path.read_bytes()[:kept])
    require_refused(lost)


def test_a_missing_block_is_noticed(lost: Service) -> None:
    next(lost.backups.glob("blocks/*/*")).unlink()
    assert "is missing" in str(require_refused(lost))


@pytest.mark.parametrize("content", [b"", b"0000"])
def test_a_list_without_the_erasures_of_a_backup_is_noticed(lost: Service, content: bytes) -> None:
    (lost.backups / ERASURE_LOG).write_bytes(content)
    assert "lacks erasures" in str(require_refused(lost))
    (lost.backups / ERASURE_LOG).unlink()
    assert "lacks erasures" in str(require_refused(lost))


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("templates", 3),
        ("last_erasure", 0),
        ("store", "0" * 32),
        ("block_bytes", 1),
        ("files", []),
        ("files", [1]),
        ("format", "1"),
        ("name", "x"),
        ("surplus", 1),
        ("digest", None),
    ],
)
def test_an_edited_manifest_is_noticed(lost: Service, member: str, value: object) -> None:
    path = next(lost.backups.glob("backups/*.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), member: value}))
    assert isinstance(require_refused(lost), BackupDamaged)


@pytest.mark.parametrize("content", ["[]", "null", "1", "{", '{"format": 1}', "[" * 5000, "\x00"])
def test_a_manifest_that_is_something_else_is_noticed(lost: Service, content: str) -> None:
    next(lost.backups.glob("backups/*.json")).write_text(content)
    assert isinstance(require_refused(lost), BackupDamaged)


def test_a_backup_of_a_newer_version_is_refused(lost: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(restoring, "MIGRATIONS", MIGRATIONS[:-1])
        with pytest.raises(BackupUnfit, match="a newer Vultus"):
            restore_backup(lost.backups, lost.places)
    path = next(lost.backups.glob("backups/*.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
    with pytest.raises(BackupUnfit, match="format 2"):
        restore_backup(lost.backups, lost.places)
    assert not (lost.places.galleries / UNRESTORED).exists()


def test_the_next_backup_replaces_damaged_blocks(service: Service) -> None:
    first = make_backup(service.places, service.backups).manifest.name
    for block in service.backups.glob("blocks/*/*"):
        block.write_bytes(block.read_bytes()[:-1])
    assert verify_backups(service.backups, first)[0].faults
    make_backup(service.places, service.backups)
    assert [found.faults for found in verify_backups(service.backups)] == [[], []]


def test_a_damaged_manifest_stops_neither_new_backups_nor_restores_of_others(service: Service) -> None:
    bad = make_backup(service.places, service.backups).manifest.name
    flip_bit(service.backups / "backups" / f"{bad}.json", random.Random(1))
    blocks = set(service.backups.glob("blocks/*/*"))
    erase_subject(service.galleries, "staff", name(2))
    made = make_backup(service.places, service.backups, keep=2)
    assert (made.removed, made.unreadable) == ([], [bad])
    assert blocks <= set(service.backups.glob("blocks/*/*"))  # whatever the damaged backup has
    with readable(service.backups) as directory:
        assert directory.manifests()[1] == [bad]
    made = make_backup(service.places, service.backups, keep=1)
    assert made.unreadable == []
    assert bad in made.removed
    assert not blocks <= set(service.backups.glob("blocks/*/*"))
    service.lose()
    restore_backup(service.backups, service.places)
    assert contents(service.reopen())["staff"] == everybody(2)


def test_a_line_of_erasures_is_read_as_written(tmp_path: Path) -> None:
    erasure = Erasure("ab" * 16, 7, ErasedKeys((3,), (5, 9), in_ranges([4, 1, 2, 9, 8])))
    assert erasure.keys.templates == ((1, 2), (4, 4), (8, 9))
    assert read_line(erasure.line()) == erasure
    path = tmp_path / "list"
    later = Erasure("ab" * 16, 10, ErasedKeys(subjects=(2,)))
    path.write_text(erasure.line() + later.line() + "0123 never acknow")
    assert read_list_file(path) == [erasure, later]
    assert merged([later], [erasure, later]) == [erasure, later]
    path.write_text(erasure.line() + "0123 {}\n")
    with pytest.raises(ErasuresDamaged, match="line 2"):
        read_list_file(path)


def test_the_list_beside_the_store_is_completed_at_the_next_start(service: Service) -> None:
    path = service.places.galleries / ERASURE_LOG
    for number in (1, 2, 3):
        erase_subject(service.galleries, "staff", name(number))
    whole = path.read_bytes()
    for left in (b"", whole[:-5], whole[: whole.index(b"\n") + 1], whole[: len(whole) // 2]):
        service.close()
        path.write_bytes(left)
        service.reopen()
        assert path.read_bytes() == whole
    service.close()
    path.unlink()
    service.reopen()
    assert path.read_bytes() == whole


def test_an_erasure_is_acknowledged_even_if_its_list_cannot_be_written(service: Service) -> None:
    path = service.places.galleries / ERASURE_LOG
    path.mkdir()
    erase_subject(service.galleries, "staff", name(1))
    path.rmdir()
    erase_subject(service.galleries, "staff", name(2))
    assert [erasure.number for erasure in read_list_file(path)] == [1, 2]
