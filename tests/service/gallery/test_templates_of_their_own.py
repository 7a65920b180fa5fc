"""Templates as clients of other products know them: found by digest, ranked one by one, moved between subjects."""

import numpy as np
import pytest

from service.errors import SubjectAmbiguous, SubjectUnknown, TemplateUnknown
from service.gallery.administration import (
    create_gallery,
    create_subject,
    find_subject_ignoring_case,
    list_subjects,
    merge_subjects,
    read_subject,
    spellings_of_subject,
)
from service.gallery.consistency import check_consistency, check_erasure
from service.gallery.erasure import erase_subjects, erase_templates
from service.gallery.exchange import export_lines, import_lines
from service.gallery.galleries import Galleries
from service.gallery.identification import identify, identify_templates
from service.gallery.records import Metadata, NewTemplate, OwnedTemplate, TemplateName
from service.gallery.single_templates import separate_templates
from service.gallery.store import attachments, owned_rows
from service.gallery.templates import store_templates
from tests.service.gallery.conftest import Open, people, template

VECTORS = people(20, 3)
ALONE = TemplateName("alone", lambda _: "alone")
PNG = b"\x89PNG\r\n\x1a\nx"


def _with(vector: int, metadata: Metadata) -> NewTemplate:
    made = template(VECTORS[vector, 0])
    return NewTemplate(made.embedding, made.source, crop=PNG, metadata=metadata)


def _owned(galleries: Galleries, gallery: str = "staff") -> list[OwnedTemplate]:
    with galleries.database.reading() as connection:
        return owned_rows.page(connection, galleries.find(connection, gallery), -1)


def _metadata(galleries: Galleries, *templates: OwnedTemplate) -> list[Metadata | None]:
    with galleries.database.reading() as connection:
        found = attachments.metadata_of(
            connection, galleries.find(connection, "staff"), [template.key for template in templates]
        )
    return [found.get(template.key) for template in templates]


def _crop(galleries: Galleries, owned: OwnedTemplate) -> bytes | None:
    with galleries.database.reading() as connection:
        return attachments.crop_of(connection, galleries.find(connection, "staff"), owned.key)


@pytest.fixture
def staff(galleries: Galleries) -> Galleries:
    create_gallery(galleries, "staff", keep_crops=True)
    entries = [(f"subject {at}", _with(at, {"at": at} if at else {})) for at in range(4)]
    store_templates(galleries, "staff", entries)
    return galleries


def test_a_template_is_found_by_the_beginning_of_its_digest(staff: Galleries) -> None:
    first, *others = _owned(staff)
    create_gallery(staff, "guests")
    with staff.database.reading() as connection:
        gallery, guests = (staff.find(connection, name) for name in ("staff", "guests"))
        prefixes = [others[1].source[:16], b"\0" * 16, first.source[:16]]
        assert owned_rows.by_source_prefix(connection, gallery, prefixes) == [others[1], first]
        assert owned_rows.by_source_prefix(connection, guests, prefixes) == []


def test_pages_of_templates_continue_after_a_key_or_skip_a_number(staff: Galleries) -> None:
    every = _owned(staff)
    with staff.database.reading() as connection:
        gallery = staff.find(connection, "staff")
        assert owned_rows.page(connection, gallery, 2) == every[:2]
        assert owned_rows.page(connection, gallery, 2, after=every[1].key) == every[2:]
        assert owned_rows.page(connection, gallery, 2, skip=3) == every[3:]
    subject = find_subject_ignoring_case(staff, "staff", "SUBJECT 2")
    with staff.database.reading() as connection:
        assert owned_rows.page(connection, gallery, -1, subject=subject) == [every[2]]


def test_metadata_of_templates_is_kept_moved_exported_and_erased(staff: Galleries, reopen: Open) -> None:
    first, second, *_ = _owned(staff)
    assert _metadata(staff, first, second) == [None, {"at": 1}]
    merge_subjects(staff, "staff", "subject 0", "subject 1")
    assert _metadata(staff, second) == [{"at": 1}]
    exported = list(export_lines(staff, "staff"))
    create_gallery(staff, "copy")
    list(import_lines(staff, "copy", exported))
    assert list(export_lines(staff, "copy"))[1:] == exported[1:]
    staff = reopen()
    assert _metadata(staff, second) == [{"at": 1}]
    assert [erased.key for erased in erase_templates(staff, "staff", [second, second])] == [second.key]
    assert _metadata(staff, second) == [None]
    assert erase_templates(staff, "staff", [second]) == []
    assert check_erasure(staff).faults == []


@pytest.mark.parametrize("index", ["flat", "flat-fp16", "sq8", "hnsw"])
def test_templates_are_ranked_one_by_one(galleries: Galleries, index: str) -> None:
    create_gallery(galleries, "staff", index=index)  # type: ignore[arg-type]
    entries = [(f"s{person}", template(VECTORS[person, at])) for person in range(20) for at in range(3)]
    store_templates(galleries, "staff", entries)
    galleries.wait_idle()
    probe = VECTORS[7, 1]
    expected = sorted(((float(entry.embedding @ probe), name) for name, entry in entries), reverse=True)
    (found,) = identify_templates(galleries, "staff", probe[None], 10)
    assert [candidate.template.subject for candidate in found] == [name for _, name in expected[:10]]
    np.testing.assert_allclose([hit.similarity for hit in found], [value for value, _ in expected[:10]], atol=1e-6)
    (above,) = identify_templates(galleries, "staff", probe[None], 60, floor=expected[4][0] - 1e-6)
    assert len(above) == 5
    (every,) = identify_templates(galleries, "staff", probe[None], 1000)
    assert len(every) == 60


def test_a_template_is_moved_to_a_subject_of_its_own(staff: Galleries, reopen: Open) -> None:
    merge_subjects(staff, "staff", "subject 0", "subject 1")
    _, second, *_ = _owned(staff)
    assert second.subject == "subject 0"
    assert [subject.name for subject in separate_templates(staff, "staff", [second], ALONE)] == ["alone"]
    for reopened in (False, True):
        opened = reopen() if reopened else staff
        found, templates = read_subject(opened, "staff", "alone")
        assert [template.key for template in templates] == [second.key]
        assert found.template_count == 1
        assert [entry.subject for entry in identify(opened, ["staff"], VECTORS[1:2, 0], 1)[0]] == ["alone"]
        assert _metadata(opened, second) == [{"at": 1}]
        assert _crop(opened, second) == PNG
        assert not check_consistency(opened, "staff").faults


def test_a_template_that_was_moved_meanwhile_is_not_moved_again(staff: Galleries) -> None:
    first, second, *_ = _owned(staff)
    separate_templates(staff, "staff", [first], ALONE)
    with pytest.raises(TemplateUnknown):
        separate_templates(staff, "staff", [second, first], ALONE)
    assert [found.subject for found in _owned(staff)[:2]] == ["alone", "subject 1"]  # nothing was moved
    erase_templates(staff, "staff", [second])
    with pytest.raises(TemplateUnknown):
        separate_templates(staff, "staff", [second], ALONE)


def test_a_template_takes_no_name_of_another_subject(staff: Galleries) -> None:
    templates = _owned(staff)
    create_subject(staff, "staff", "alone")
    create_subject(staff, "staff", "alone 2", expires=2e9)
    create_subject(staff, "staff", "alone 3", {"of": "somebody"})
    subjects = separate_templates(staff, "staff", templates[:3], ALONE)
    assert [subject.name for subject in subjects] == ["alone", "alone 4", "alone 5"]  # the first was empty
    assert [found.subject for found in _owned(staff)] == ["alone", "alone 4", "alone 5", "subject 3"]
    assert not check_consistency(staff, "staff").faults


def test_all_subjects_of_a_gallery_are_erased_at_once(staff: Galleries) -> None:
    create_gallery(staff, "guests")
    store_templates(staff, "guests", [("ann", template(VECTORS[9, 0]))])
    receipts = erase_subjects(staff, "staff")
    assert [(receipt.subject_count, receipt.template_count, receipt.crop_count) for receipt in receipts] == [
        (1, 1, 1)
    ] * 4
    assert list_subjects(staff, "staff", "", 10) == []
    assert identify_templates(staff, "staff", VECTORS[:1, 0], 5) == [[]]
    assert len(_owned(staff, "guests")) == 1
    assert check_erasure(staff).faults == []


def test_names_are_found_in_another_case_unless_there_is_the_very_name(galleries: Galleries) -> None:
    create_gallery(galleries, "staff")
    for name in ("Ann", "ann", "JÖRG", "Straße"):
        create_subject(galleries, "staff", name)
    assert find_subject_ignoring_case(galleries, "staff", "ann").name == "ann"
    with pytest.raises(SubjectAmbiguous, match="2 subjects"):
        find_subject_ignoring_case(galleries, "staff", "ANN")
    assert spellings_of_subject(galleries, "staff", "ANN") == ["Ann", "ann"]
    assert find_subject_ignoring_case(galleries, "staff", "jörg").name == "JÖRG"
    assert find_subject_ignoring_case(galleries, "staff", "STRASSE").name == "Straße"
    with pytest.raises(SubjectUnknown):
        find_subject_ignoring_case(galleries, "staff", "an")
