"""Subjects whose names differ in case only, also if several requests make, rename and erase them at the same time."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from service.compat.compreface import examples
from service.compat.face_ids import face_id
from service.gallery.administration import create_gallery, create_subject, list_subjects
from service.gallery.erasure import erase_templates
from service.gallery.galleries import Galleries
from service.gallery.records import OwnedTemplate
from service.operations import enrol
from service.operations.acquire import image_source
from service.operations.enrol import Outcome
from tests.pictures import faces_png
from tests.service.compat.compreface.conftest import Caller, refused

PHOTOS = [faces_png(1, seed) for seed in range(24)]
SPELLINGS = ("dee", "Dee", "DEE")


@pytest.fixture
def spelt(galleries: Galleries) -> Galleries:
    """Return galleries with a subject in two spellings, which the own API tells apart."""
    create_gallery(galleries, "staff")
    for name in ("Case", "CASE", "other"):
        create_subject(galleries, "staff", name)
    return galleries


def _names(galleries: Galleries) -> list[str]:
    return [subject.name for subject in list_subjects(galleries, "staff", "", -1)]


def _at_once(calls: Sequence[Callable[[], object]]) -> Iterator[object]:
    together = threading.Barrier(len(calls))

    def started(call: Callable[[], object]) -> object:
        together.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        yield from threads.map(started, calls)


def test_concurrent_examples_of_a_new_subject_have_one_spelling(call: Caller, galleries: Galleries) -> None:
    create_gallery(galleries, "staff")
    calls = [lambda at=at: call.add(SPELLINGS[at % 3], PHOTOS[at]) for at in range(6)]
    assert len(set(_at_once(calls))) == 6
    assert len(_names(galleries)) == 1
    call("DELETE", "recognition/subjects/dEE")
    assert _names(galleries) == []


def test_an_exact_spelling_is_the_one_that_is_meant(call: Caller, spelt: Galleries) -> None:
    call.add("CASE", PHOTOS[0])
    assert call("GET", "recognition/faces", params={"subject": "CASE"}).json()["total_elements"] == 1
    assert call("GET", "recognition/faces", params={"subject": "Case"}).json()["total_elements"] == 0
    assert call("DELETE", "recognition/subjects/Case").json() == {"subject": "Case"}
    assert _names(spelt) == ["CASE", "other"]


def test_another_spelling_of_several_subjects_is_ambiguous(call: Caller, spelt: Galleries) -> None:
    sentence = "2 subjects have this name in other spellings"
    refused(call("POST", "recognition/faces", PHOTOS[0], params={"subject": "case"}), 409, 0, sentence)
    refused(call("GET", "recognition/faces", params={"subject": "case"}), 409, 0, sentence)
    refused(call("PUT", "recognition/subjects/case", json={"subject": "x"}), 409, 0, sentence)
    refused(call("PUT", "recognition/subjects/other", json={"subject": "case"}), 409, 0, sentence)
    refused(call("POST", "recognition/subjects", json={"subject": "case"}), 400, 43)
    assert _names(spelt) == ["CASE", "Case", "other"]


@pytest.mark.parametrize(
    ("path", "answer"),
    [("subjects/case", {"subject": "CASE, Case"}), ("faces?subject=case", {"deleted": 2})],
)
def test_an_erasure_in_another_spelling_erases_all_spellings(
    call: Caller, spelt: Galleries, path: str, answer: dict[str, object]
) -> None:
    call.add("CASE", PHOTOS[0])
    call.add("Case", PHOTOS[1])
    assert call("DELETE", f"recognition/{path}").json() == answer
    assert _names(spelt) == ["other"]
    (face,) = call("POST", "recognition/recognize", PHOTOS[0]).json()["result"]
    assert face["subjects"] == []


def test_a_subject_may_take_its_own_name_in_another_case_or_that_of_its_double(call: Caller, spelt: Galleries) -> None:
    assert call("PUT", "recognition/subjects/Case", json={"subject": "cAsE"}).json() == {"updated": True}
    assert _names(spelt) == ["CASE", "cAsE", "other"]
    assert call("PUT", "recognition/subjects/cAsE", json={"subject": "CASE"}).json() == {"updated": True}
    assert _names(spelt) == ["CASE", "other"]


def test_a_known_photo_in_another_spelling_of_its_subject_is_stored_once(call: Caller, galleries: Galleries) -> None:
    first = call("POST", "recognition/faces", PHOTOS[0], params={"subject": "Dee"})
    again = call("POST", "recognition/faces", PHOTOS[0], params={"subject": "dEE"})
    assert (again.status_code, again.json()) == (201, first.json())
    assert _names(galleries) == ["Dee"]


def test_the_answer_names_the_example_even_if_it_is_erased_at_once(
    call: Caller, galleries: Galleries, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_gallery(galleries, "staff")

    def erasing(*arguments: Any) -> list[Outcome]:
        outcomes = enrol.store(*arguments)
        assert isinstance(outcomes[0], enrol.Enrolled)
        erase_templates(galleries, "staff", [OwnedTemplate(outcomes[0].template, b"", 0, "", 0.0, None)])
        return outcomes

    monkeypatch.setattr(examples, "store", erasing)
    added = call("POST", "recognition/faces", PHOTOS[0], params={"subject": "amy"})
    assert added.status_code == 201, added.text
    assert added.json() == {"image_id": face_id(image_source(PHOTOS[0])), "subject": "amy"}


def test_concurrent_changes_have_answers_of_their_own(call: Caller, galleries: Galleries) -> None:
    create_gallery(galleries, "staff")
    names = ("amy", "AMY", "Amy")

    def change(at: int) -> None:
        for turn in range(6):
            photo = PHOTOS[(at * 2 + turn) % len(PHOTOS)]
            name = names[(at + turn) % 3]
            added = call("POST", "recognition/faces", photo, params={"subject": name})
            assert added.status_code in (201, 409), added.text  # 409: it belongs to bob, who was amy
            if added.status_code == 201:
                assert added.json()["image_id"] == face_id(image_source(photo))
                assert added.json()["subject"].casefold() == "amy"
            if at % 3 == 0:
                assert call("DELETE", "recognition/faces", params={"subject": "amy"}).status_code == 200
            elif at % 3 == 1:
                renamed = call("PUT", "recognition/subjects/amy", json={"subject": "bob"})
                assert renamed.status_code in (200, 404), renamed.text
            else:
                deleted = call("DELETE", f"recognition/faces/{face_id(image_source(photo))}")
                assert deleted.status_code in (200, 404), deleted.text

    list(_at_once([lambda at=at: change(at) for at in range(9)]))  # type: ignore[misc]
    assert len(_names(galleries)) <= 2
