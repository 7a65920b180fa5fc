"""Search for subjects by a part of their name, and reading of single crops."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.errors import CropMissing, GalleryUnknown, SubjectUnknown, TemplateUnknown
from service.gallery.administration import create_gallery, create_subject, list_subjects, search_subjects
from service.gallery.erasure import erase_subject
from service.gallery.galleries import Galleries
from service.gallery.store import gallery_rows
from service.gallery.store.name_search import search
from service.gallery.template_reading import read_crop
from service.gallery.templates import store_templates
from tests.service.gallery.conftest import people, template

NAMES = ["Ann", "Böb", "JOHANN", "anna maria", "Ελένη", "Σοφία", "straße", "zoë"]
VECTORS = people(2, 1)[:, 0]


@pytest.fixture
def staff(galleries: Galleries) -> Galleries:
    for gallery in ("staff", "guests"):
        create_gallery(galleries, gallery)
    for name in NAMES:
        create_subject(galleries, "staff", name, {"badge": 7})
    create_subject(galleries, "guests", "Ann of the guests")
    return galleries


def names_of(galleries: Galleries, text: str, limit: int = 100) -> list[str]:
    return [subject.name for subject in search_subjects(galleries, "staff", text, "", limit).subjects]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ann", ["Ann", "JOHANN", "anna maria"]),
        ("ANN", ["Ann", "JOHANN", "anna maria"]),
        ("STRASSE", ["straße"]),
        ("ΣΟΦ", ["Σοφία"]),
        ("ZOE\u0308", ["zoë"]),
        ("bö", ["Böb"]),
        ("%", []),
        ("a_n", []),
        ("guests", []),
    ],
)
def test_names_that_contain_a_text_are_found_in_any_case(staff: Galleries, text: str, found: list[str]) -> None:
    assert names_of(staff, text) == found


def test_found_subjects_have_what_a_list_has(staff: Galleries) -> None:
    store_templates(staff, "staff", [("Ann", template(VECTORS[0]))])
    (listed,) = [subject for subject in list_subjects(staff, "staff", "", -1) if subject.name == "Ann"]
    assert search_subjects(staff, "staff", "ann", "", 1).subjects == [listed]
    assert (listed.template_count, listed.metadata) == (1, {"badge": 7})
    erase_subject(staff, "staff", "Ann")
    assert names_of(staff, "ann") == ["JOHANN", "anna maria"]


def pages(galleries: Galleries, text: str, limit: int, most: int) -> Iterator[list[str]]:
    after: str | None = ""
    while after is not None:
        with galleries.database.reading() as connection:
            found = search(connection, gallery_rows.find(connection, "staff"), text, after, limit, most)
        yield [subject.name for subject in found.subjects]
        after = found.last


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.sampled_from(["a", "n", "Ann", "x"]), limit=st.integers(1, 10), most=st.integers(1, 10))
def test_pages_of_any_size_have_every_name_once_and_compare_a_bounded_number(
    staff: Galleries, text: str, limit: int, most: int
) -> None:
    found = list(pages(staff, text, limit, most))
    assert [name for page in found for name in page] == [name for name in sorted(NAMES) if text.lower() in name.lower()]
    assert all(len(page) <= min(limit, most) for page in found)
    assert len(found) <= 2 * len(NAMES) // min(limit, most) + 1


def test_a_search_in_an_unknown_gallery_is_refused(staff: Galleries) -> None:
    with pytest.raises(GalleryUnknown):
        search_subjects(staff, "none", "a", "", 1)


def test_a_crop_is_read_through_its_subject_only(galleries: Galleries) -> None:
    create_gallery(galleries, "staff", keep_crops=True)
    png = b"\x89PNG a face"
    with_crop, without = replace(template(VECTORS[0]), crop=png), template(VECTORS[1])
    kept, bare = store_templates(galleries, "staff", [("ann", with_crop), ("bob", without)])
    assert read_crop(galleries, "staff", "ann", kept.template) == png
    with pytest.raises(CropMissing):
        read_crop(galleries, "staff", "bob", bare.template)
    for number in (kept.template, 999):
        with pytest.raises(TemplateUnknown):
            read_crop(galleries, "staff", "bob", number)
    with pytest.raises(SubjectUnknown):
        read_crop(galleries, "staff", "eve", kept.template)
    create_gallery(galleries, "guests")
    create_subject(galleries, "guests", "ann")
    with pytest.raises(TemplateUnknown):
        read_crop(galleries, "guests", "ann", kept.template)
    erase_subject(galleries, "staff", "ann")
    with pytest.raises(SubjectUnknown):
        read_crop(galleries, "staff", "ann", kept.template)
