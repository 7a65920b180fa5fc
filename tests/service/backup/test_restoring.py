"""A restored backup has everything but what was erased since, and takes the place of nothing."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.audit.store import AuditStore
from service.backup.places import Places
from service.backup.restoring import restore_backup
from service.backup.writing import make_backup
from service.errors import (
    BackupUnknown,
    ErasuresDamaged,
    GalleriesInUse,
    RestoreRefused,
    StoreUnfit,
)
from service.gallery.administration import change_subject, create_gallery, merge_subjects, read_gallery, read_subject
from service.gallery.consistency import check_consistency, check_erasure
from service.gallery.erasure import erase_gallery, erase_subject, erase_template
from service.gallery.erasure_log import ERASURE_LOG
from service.gallery.expiry import erase_expired
from service.gallery.galleries import STORE, UNRESTORED
from service.gallery.identification import identify, templates_of
from service.storage.ownership import Ownership
from tests.service.backup.conftest import (
    Service,
    contents,
    enrol,
    everybody,
    has_bytes_of,
    name,
    open_galleries,
)
from tests.service.gallery.conftest import people


def lose_and_restore(service: Service, backup: str | None = None, keep_list: bool = True) -> dict[str, dict[str, int]]:
    """Lose the service, restore a backup with the list of erasures of the lost galleries, and return the contents."""
    listed = service.places.galleries / ERASURE_LOG
    content = listed.read_bytes() if keep_list and listed.exists() else b""
    service.lose()
    kept = service.backups.with_name("kept.log")
    kept.write_bytes(content)
    restore_backup(service.backups, service.places, backup, [kept])
    return contents(service.reopen())


def test_templates_crops_and_keys_are_as_they_were(service: Service) -> None:
    vectors = templates_of(service.galleries, "staff", name(2)).vectors
    template = read_subject(service.galleries, "staff", name(2))[1]
    make_backup(service.places, service.backups)
    assert lose_and_restore(service, keep_list=False) == {"staff": everybody(), "visitors": everybody()}
    np.testing.assert_array_equal(templates_of(service.galleries, "staff", name(2)).vectors, vectors)
    assert read_subject(service.galleries, "staff", name(2))[1] == template
    assert service.keys.list_all()[0].name == "door"


def test_a_subject_that_was_erased_since_is_not_restored(service: Service) -> None:
    make_backup(service.places, service.backups)
    erase_subject(service.galleries, "staff", name(1))
    assert lose_and_restore(service) == {"staff": everybody(1), "visitors": everybody()}
    assert check_erasure(service.galleries).faults == []


def test_no_byte_of_an_erased_person_is_restored(service: Service) -> None:
    make_backup(service.places, service.backups)
    for gallery in ("staff", "visitors"):
        erase_subject(service.galleries, gallery, name(1))
    lose_and_restore(service)
    assert has_bytes_of(service.backups, 1)  # proves that the search can find them
    assert not has_bytes_of(service.places.galleries, 1)


def test_a_template_and_a_gallery_that_were_erased_since_are_not_restored(service: Service) -> None:
    make_backup(service.places, service.backups)
    template = read_subject(service.galleries, "staff", name(4))[1][0]
    erase_template(service.galleries, "staff", name(4), template.key)
    erase_gallery(service.galleries, "visitors")
    assert lose_and_restore(service) == {"staff": {**everybody(), name(4): 1}}


def test_a_subject_that_was_merged_renamed_and_erased_since_is_not_restored(service: Service) -> None:
    make_backup(service.places, service.backups)
    merge_subjects(service.galleries, "staff", name(1), name(2))
    change_subject(service.galleries, "staff", name(1), "somebody")
    merge_subjects(service.galleries, "staff", name(3), "somebody")
    erase_subject(service.galleries, "staff", name(3))
    assert lose_and_restore(service) == {"staff": everybody(1, 2, 3), "visitors": everybody()}
    assert len(templates_of(service.galleries, "visitors", name(2)).vectors) == 2


def test_a_merge_alone_erases_nobody(service: Service) -> None:
    make_backup(service.places, service.backups)
    merge_subjects(service.galleries, "staff", name(1), name(2))
    assert lose_and_restore(service)["staff"] == everybody()


def test_the_newest_list_of_the_backups_is_applied_to_an_older_backup(service: Service) -> None:
    old = make_backup(service.places, service.backups).manifest.name
    erase_subject(service.galleries, "staff", name(5))
    make_backup(service.places, service.backups)
    assert lose_and_restore(service, old, keep_list=False)["staff"] == everybody(5)


def test_the_list_in_the_directory_of_the_galleries_is_applied(service: Service) -> None:
    make_backup(service.places, service.backups)
    erase_subject(service.galleries, "staff", name(5))
    content = (service.places.galleries / ERASURE_LOG).read_bytes()
    service.lose()
    service.places.galleries.mkdir()
    (service.places.galleries / ERASURE_LOG).write_bytes(content)
    restored = restore_backup(service.backups, service.places)
    assert (restored.erasures, restored.subjects, restored.templates) == (1, 1, 2)


def test_a_list_on_another_disk_survives_the_loss_of_the_galleries(service: Service, tmp_path: Path) -> None:
    elsewhere = tmp_path / "other disk" / "erasures.log"
    elsewhere.parent.mkdir()
    service.galleries.close()
    service.places = replace(service.places, erasure_log=elsewhere)
    service.galleries = open_galleries(service.places)
    make_backup(service.places, service.backups)
    erase_subject(service.galleries, "staff", name(5))
    assert not (service.places.galleries / ERASURE_LOG).exists()
    service.lose()
    restore_backup(service.backups, service.places)
    assert contents(service.reopen())["staff"] == everybody(5)
    erase_subject(service.galleries, "staff", name(4))
    assert len(elsewhere.read_text().splitlines()) == 2
    assert not (service.places.galleries / ERASURE_LOG).exists()


def test_erasures_count_for_every_later_restore(service: Service) -> None:
    first = make_backup(service.places, service.backups).manifest.name
    erase_subject(service.galleries, "staff", name(1))
    lose_and_restore(service)
    erase_subject(service.galleries, "staff", name(2))
    make_backup(service.places, service.backups)
    assert lose_and_restore(service, first, keep_list=False)["staff"] == everybody(1, 2)


def test_who_is_enrolled_after_a_restore_is_never_taken_for_an_erased_person(service: Service) -> None:
    make_backup(service.places, service.backups)
    for number in range(20, 25):  # lost with the galleries; the keys of these rows must not be assigned again
        enrol(service.galleries, number)
        erase_subject(service.galleries, "staff", name(number))
    create_gallery(service.galleries, "lost")
    erase_gallery(service.galleries, "lost")
    lost = (service.places.galleries / ERASURE_LOG).read_bytes()
    service.lose()
    restore_backup(service.backups, service.places)  # without the list
    service.reopen()
    for number in range(30, 40):
        enrol(service.galleries, number)
    create_gallery(service.galleries, "new", "flat")
    enrol(service.galleries, 1, "new")
    make_backup(service.places, service.backups)
    service.lose()
    kept = service.backups.with_name("kept.log")
    kept.write_bytes(lost)
    restore_backup(service.backups, service.places, lists=[kept])
    found = contents(service.reopen())
    assert found["staff"] == {**everybody(), **{name(number): 2 for number in range(30, 40)}}
    assert found["new"] == {name(1): 2}


def test_what_expired_since_is_not_restored(service: Service) -> None:
    make_backup(service.places, service.backups)
    soon = time.time()
    change_subject(service.galleries, "staff", name(1), expires=soon)
    ((expired,),) = erase_expired(service.galleries, soon + 1)
    assert expired.receipt.what == "subject"
    assert lose_and_restore(service)["staff"] == everybody(1)


def test_the_audit_log_is_restored_with_its_older_files(service: Service) -> None:
    log = AuditStore(service.places.security, service.keys.server_secret)
    log.append([f'{{"action":"number {number}"}}' for number in range(10)])
    log.archive(4)
    log.append(['{"action":"last"}'])
    make_backup(service.places, service.backups)
    lose_and_restore(service)
    restored = AuditStore(service.places.security, service.keys.server_secret)
    assert list(restored.faults()) == []
    assert [record.number for record in restored.records()] == list(range(1, 12))
    restored.append(['{"action":"after"}'])
    assert list(restored.faults()) == []


@pytest.mark.parametrize("kind", ["flat", "flat-fp16", "sq8", "hnsw"])
def test_restored_galleries_are_searched_with_their_larger_keys(service: Service, kind: str) -> None:
    make_backup(service.places, service.backups)
    lose_and_restore(service)
    create_gallery(service.galleries, "new", kind)  # type: ignore[arg-type]
    for number in range(40, 180):
        enrol(service.galleries, number, "new")
    service.close()
    service.reopen()
    galleries = service.galleries
    for gallery in ("new", "staff"):
        live = galleries.live(read_gallery(galleries, gallery)[0])
        galleries.rebuild(live).result(60)
        assert check_consistency(galleries, gallery).faults == []
    assert identify(galleries, ["new"], people(1, 2, 50)[0][:1], 1)[0][0].subject == name(50)
    erase_subject(galleries, "new", name(50))
    assert identify(galleries, ["new"], people(1, 2, 50)[0][:1], 1)[0][0].subject != name(50)


def test_existing_galleries_and_keys_are_not_replaced(service: Service) -> None:
    make_backup(service.places, service.backups)
    with pytest.raises(RestoreRefused, match="has data"):
        restore_backup(service.backups, service.places)
    service.close()
    with pytest.raises(RestoreRefused, match="has data"):
        restore_backup(service.backups, service.places)
    away = service.places.galleries.with_name("away")
    service.places.galleries.rename(away)
    with pytest.raises(RestoreRefused, match=r"has keys or an audit log \(keys.sqlite\)"):
        restore_backup(service.backups, service.places)
    assert not (service.places.galleries / UNRESTORED).exists()
    assert (away / STORE).exists()
    restored = restore_backup(service.backups, service.places, with_keys=False)
    assert not restored.with_keys
    assert contents(service.reopen())["staff"] == everybody()


def test_a_directory_that_a_service_uses_is_refused(service: Service, tmp_path: Path) -> None:
    make_backup(service.places, service.backups)
    service.close()
    places = Places(tmp_path / "used", tmp_path / "used keys")
    places.galleries.mkdir()
    owner = Ownership(places.galleries)
    with pytest.raises(GalleriesInUse):
        restore_backup(service.backups, places)
    owner.release()
    assert not (places.galleries / UNRESTORED).exists()


def test_a_restore_that_was_cut_off_is_not_served_and_can_be_repeated(service: Service) -> None:
    make_backup(service.places, service.backups)
    service.lose()
    service.places.galleries.mkdir()
    (service.places.galleries / UNRESTORED).write_bytes(b"half")
    (service.places.galleries / f"{UNRESTORED}-wal").write_bytes(b"half")
    with pytest.raises(StoreUnfit, match="was cut off; run vultus restore again"):
        open_galleries(service.places)
    restore_backup(service.backups, service.places)
    assert sorted(path.name for path in service.places.galleries.iterdir()) == [ERASURE_LOG, "owner.lock", STORE]
    assert contents(service.reopen())["staff"] == everybody()


def test_unknown_backups_and_lists_are_refused(service: Service, tmp_path: Path) -> None:
    with pytest.raises(BackupUnknown, match="has no backup"):
        restore_backup(tmp_path / "nothing", service.places)
    make_backup(service.places, service.backups)
    service.lose()
    for backup in ("20200101T000000.000Z", "../backups", ""):
        with pytest.raises(BackupUnknown):
            restore_backup(service.backups, service.places, backup)
    with pytest.raises(ErasuresDamaged, match="not a list of erasures"):
        restore_backup(service.backups, service.places, lists=[tmp_path / "missing.log"])
    assert not service.places.galleries.exists()
