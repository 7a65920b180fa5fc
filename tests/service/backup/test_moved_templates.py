"""A restored backup keeps templates that were moved to another subject, and nothing that was erased."""

import random

import pytest

from service.backup.restoring import restore_backup
from service.backup.writing import make_backup
from service.gallery.administration import change_subject, list_subjects, merge_subjects, read_subject
from service.gallery.consistency import check_erasure
from service.gallery.erased_keys import ErasedKeys, Erasure, read_line
from service.gallery.erasure import erase_subject, erase_template
from service.gallery.erasure_log import ERASURE_LOG
from service.gallery.galleries import Galleries
from service.gallery.identification import templates_of
from service.gallery.records import TemplateName
from service.gallery.single_templates import dissolve_subject, separate_templates
from service.gallery.template_reading import list_templates
from tests.service.backup.conftest import Service, everybody, name
from tests.service.backup.test_restoring import lose_and_restore

OWN = TemplateName("own ", lambda source: f"own {source[:4].hex()}")


def _owners(galleries: Galleries) -> dict[int, str]:
    """Return the name of the subject of each template of `staff` by key."""
    return {template.key: template.subject for template in list_templates(galleries, "staff", -1)[0]}


def _of(galleries: Galleries, subject: str) -> list[int]:
    return [template.key for template in read_subject(galleries, "staff", subject)[1]]


def test_a_merged_subject_whose_templates_moved_on_is_restored(service: Service) -> None:
    make_backup(service.places, service.backups)
    merge_subjects(service.galleries, "staff", name(0), [name(1), name(2)])
    dissolve_subject(service.galleries, "staff", name(0), OWN)
    assert len(_owners(service.galleries)) == 12
    restored = lose_and_restore(service)["staff"]
    kept = {subject: restored[subject] for subject in everybody(0)}
    assert kept == everybody(0)
    (parted,) = restored.keys() - kept.keys()
    assert (parted.partition(" ")[0], restored[parted]) == ("restored", 2)  # without the name that was erased
    assert len(templates_of(service.galleries, "staff", parted).vectors) == 2
    assert len(templates_of(service.galleries, "staff", name(1)).vectors) == 2


def test_what_is_erased_after_it_moved_on_is_not_restored(service: Service) -> None:
    first = make_backup(service.places, service.backups).manifest.name
    merge_subjects(service.galleries, "staff", name(0), name(1))
    second = make_backup(service.places, service.backups).manifest.name
    moved = _of(service.galleries, name(0))
    dissolve_subject(service.galleries, "staff", name(0), OWN)
    for key in moved:
        erase_subject(service.galleries, "staff", _owners(service.galleries)[key])
    assert lose_and_restore(service, first)["staff"] == everybody(0, 1)
    listed = (service.places.galleries / ERASURE_LOG).read_bytes()
    service.lose()
    kept = service.backups.with_name("again.log")
    kept.write_bytes(listed)
    restore_backup(service.backups, service.places, second, [kept])
    service.reopen()
    assert set(_owners(service.galleries).values()) == set(everybody(0, 1))


def test_a_subject_without_a_template_is_not_restored_when_its_templates_were_erased_one_by_one(
    service: Service,
) -> None:
    make_backup(service.places, service.backups)
    merge_subjects(service.galleries, "staff", name(0), name(1))
    for key in _of(service.galleries, name(0))[2:]:
        erase_template(service.galleries, "staff", name(0), key)
    assert lose_and_restore(service)["staff"] == everybody(1)


def test_a_template_that_moved_on_outlives_the_others(service: Service) -> None:
    make_backup(service.places, service.backups)
    spared, erased = list_templates(service.galleries, "staff", 2)[0]
    separate_templates(service.galleries, "staff", [spared], OWN)
    erase_subject(service.galleries, "staff", name(0))
    lose_and_restore(service)
    owners = _owners(service.galleries)
    assert erased.key not in owners
    if service.is_encrypted:  # its data key was that of an erased person
        assert spared.key not in owners
    else:
        assert owners[spared.key].startswith("restored ")
    assert check_erasure(service.galleries).faults == []


def test_a_restored_subject_that_was_named_since_keeps_its_name(service: Service) -> None:
    make_backup(service.places, service.backups)
    dissolve_subject(service.galleries, "staff", name(0), OWN)
    (parted,) = set(lose_and_restore(service)["staff"]) - set(everybody())
    change_subject(service.galleries, "staff", parted, "somebody")
    make_backup(service.places, service.backups)
    assert lose_and_restore(service)["staff"] == {**everybody(0), "somebody": 2}


@pytest.mark.parametrize("seed", range(12))
def test_after_any_changes_nothing_erased_is_restored_and_nothing_else_is_lost(service: Service, seed: int) -> None:
    chance = random.Random(seed)
    backups: dict[str, set[int]] = {}
    erased_subjects: set[int] = set()
    galleries = service.galleries
    for step in range(14):
        if step % 5 == 0:
            backups[make_backup(service.places, service.backups).manifest.name] = set(_owners(galleries))
        subjects = [subject for subject in list_subjects(galleries, "staff", "", -1) if subject.template_count]
        if len(subjects) < 2:
            break
        one, other = chance.sample(subjects, 2)
        templates = list_templates(galleries, "staff", -1, subject=one)[0]
        match chance.choice(["merge", "merge", "separate", "separate", "dissolve", "erase", "erase template"]):
            case "merge":
                merge_subjects(galleries, "staff", one.name, other.name)
            case "separate":
                separate_templates(galleries, "staff", [chance.choice(templates)], OWN)
            case "dissolve":
                dissolve_subject(galleries, "staff", one.name, OWN)
                erased_subjects.add(one.key)
            case "erase":
                erase_subject(galleries, "staff", one.name)
                erased_subjects.add(one.key)
            case _:
                erase_template(galleries, "staff", one.name, chance.choice(templates).key)
    living = set(_owners(galleries))
    listed = (service.places.galleries / ERASURE_LOG).read_bytes() if erased_subjects else b""
    kept = service.backups.with_name("kept.log")
    kept.write_bytes(listed)
    for backup, stored in backups.items():
        service.lose()
        restore_backup(service.backups, service.places, backup, [kept])
        service.reopen()
        restored = set(_owners(service.galleries))
        assert restored <= living
        if not service.is_encrypted:  # otherwise the data key of an erased person may also be that of others
            assert restored == living & stored
        for subject in list_subjects(service.galleries, "staff", "", -1):
            if subject.key in erased_subjects:
                assert subject.name.startswith("restored ")
            if subject.template_count:
                templates_of(service.galleries, "staff", subject.name)
        assert check_erasure(service.galleries).faults == []


def test_the_line_of_an_erasure_names_moved_templates_only_if_there_are_any() -> None:
    plain = Erasure("s", 1, ErasedKeys(subjects=(1,), templates=((2, 3),)))
    assert plain.line().endswith('"keys":{"galleries":[],"subjects":[1],"templates":[[2,3]]}}\n')
    moved = Erasure("s", 2, ErasedKeys(subjects=(1,), parted=(4, 5), spared=((6, 7),)))
    assert [read_line(erasure.line()) for erasure in (plain, moved)] == [plain, moved]
