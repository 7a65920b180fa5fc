"""The page Identify: who is in one photo, or in many."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.console.browser import Held, Photo, Service, Visit, give, payloads
from tests.console.conftest import Open

NAMES = {0: "Ada", 2: "Cleo", 4: "Émile"}


@pytest.fixture(scope="module")
def gallery(service: Service, people: list[Photo]) -> Iterator[str]:
    """A gallery with three of the six people of the group; one of them is in it twice."""
    with service.client() as client:
        client.post("/v1/galleries", json={"gallery": "choir"}).raise_for_status()
        for at, name in {**NAMES, 5: "Ada"}.items():
            path = f"/v1/galleries/choir/subjects/{name}/templates"
            client.post(path, files={"images": people[at].content}).raise_for_status()
        yield "choir"
        client.delete("/v1/galleries/choir").raise_for_status()


def opened(visit: Visit, gallery: str) -> Page:
    """Open the page with the gallery as the only one that is searched."""
    page = visit.open("identify")
    galleries = page.get_by_role("group", name="Galleries to search")
    galleries.get_by_label(gallery, exact=True).check()
    for box in galleries.get_by_role("checkbox").all():
        if box.input_value() != gallery:
            box.uncheck()
    return page


def names_on(page: Page) -> list[str]:
    """Return the names of the faces, in the order of the service."""
    return [text.split(": ", 1)[1] for text in page.locator("article h3").all_inner_texts()]


def test_each_face_of_a_group_is_named_or_unknown(service: Service, visit: Open, gallery: str, group: Photo) -> None:
    page = opened(visit(service), gallery)
    page.get_by_label("Choose photos").set_input_files(payloads(group))
    expect(page.get_by_role("heading", level=3)).to_have_count(6)
    assert sorted(names_on(page)) == ["Ada", "Ada", "Cleo", "unknown", "unknown", "Émile"]
    numbered = [f"{at} {name}" for at, name in enumerate(names_on(page), 1)]
    assert page.locator(".photo text.name").all_text_contents() == numbered
    expect(page.get_by_text("1 of 1 photos")).to_be_visible()
    assert re.search(
        r"Templates searched: 4\. A stranger's face is given a name in at most [0-9.e-]+ %", page.inner_text("main")
    )
    row = page.get_by_role("region", name=re.compile("Candidates of Face . Cleo|Candidates of Face .: Cleo"))
    similarity = row.get_by_role("row").nth(1).get_by_role("cell").nth(2)
    assert float(similarity.inner_text()) > 0.8
    expect(similarity.locator("meter")).to_be_visible()


def test_nobody_is_named_twice_if_that_is_asked_for(service: Service, visit: Open, gallery: str, group: Photo) -> None:
    page = opened(visit(service), gallery)
    page.get_by_label("Choose photos").set_input_files(payloads(group))
    expect(page.get_by_role("heading", level=3)).to_have_count(6)
    page.get_by_label("Name nobody twice in a photo").check()
    expect(page.locator(".photo text.name", has_text="Ada")).to_have_count(1)
    assert sorted(names_on(page)).count("Ada") == 1
    page.get_by_label("Name nobody twice in a photo").uncheck()
    expect(page.locator(".photo text.name", has_text="Ada")).to_have_count(2)


def test_many_photos_are_searched_with_progress(
    service: Service, visit: Open, gallery: str, people: list[Photo], portrait: Photo
) -> None:
    page = opened(visit(service), gallery)
    photos = [*people, portrait, Photo("notes.jpg", b"not a photo"), *people]
    held = Held(page, "**/v1/identify")
    give(page.locator(".drop"), photos)
    expect(page.get_by_text(f"0 of {len(photos)} photos")).to_be_visible()
    expect(page.get_by_role("progressbar", name="Identify")).to_be_visible()
    held.let_go()
    expect(page.get_by_text(f"{len(photos)} of {len(photos)} photos")).to_be_visible()
    expect(page.get_by_role("progressbar", name="Identify")).to_be_hidden()
    expect(page.get_by_role("article")).to_have_count(len(photos))
    assert len(names_on(page)) == 13
    assert names_on(page).count("Ada") == 4
    expect(page.get_by_role("article").filter(has_text="astronaut.png")).to_contain_text("unknown")
    expect(page.get_by_role("article").filter(has_text="notes.jpg").get_by_role("alert")).not_to_be_empty()
    page.get_by_role("button", name="Remove all").click()
    expect(page.get_by_role("article")).to_have_count(0)


def test_a_gallery_is_to_be_chosen_first(service: Service, visit: Open, gallery: str, group: Photo) -> None:
    page = opened(visit(service), gallery)
    page.get_by_label(gallery, exact=True).uncheck()
    page.get_by_label("Choose photos").set_input_files(payloads(group))
    expect(page.get_by_text("Choose a gallery first.")).to_be_visible()
    page.get_by_label(gallery, exact=True).check()
    expect(page.get_by_role("heading", level=3)).to_have_count(6)
