"""The console for everybody: the rules of WCAG 2.2 AA, the keyboard, dark colours, phones and large photos."""

from collections.abc import Iterator
from io import BytesIO

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.console.browser import (
    AXE,
    PAGES,
    Photo,
    Service,
    axe_findings,
    choose,
    go_to,
    live_addresses,
    made_addresses,
    payloads,
    read_numbers,
    side,
    use_key,
)
from tests.console.conftest import Open
from tests.pictures import encode

PHONE = {"width": 360, "height": 740}
OVERFLOW = """(width) => [...document.querySelectorAll("body *")]
  .filter((element) => element.getBoundingClientRect().right > width + 1
    && !element.closest(".scroll td, .scroll tr, .scroll table, svg"))
  .map((element) => `${element.tagName}.${element.className}: ${element.textContent.slice(0, 60)}`)"""

needs_axe = pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not installed: npm ci in tests/console")


@pytest.fixture(scope="module")
def gallery(service: Service, people: list[Photo]) -> Iterator[str]:
    """A gallery with two people, one of whom has a long name."""
    with service.client() as client:
        client.post("/v1/galleries", json={"gallery": "everybody", "keep_crops": True}).raise_for_status()
        for at, name in enumerate(("Ada", "W" * 120)):
            path = f"/v1/galleries/everybody/subjects/{name}/templates"
            client.post(path, files={"images": people[at].content}).raise_for_status()
        yield "everybody"
        client.delete("/v1/galleries/everybody").raise_for_status()


@pytest.fixture(scope="module")
def twelve_megapixels(portrait: Photo) -> Photo:
    """A photo as a phone takes it."""
    large = Image.new("RGB", (4000, 3000), "tan")
    with Image.open(BytesIO(portrait.content)) as image:
        large.paste(image.convert("RGB").resize((1800, 1800)), (1100, 600))
    return Photo("phone.jpg", encode(large, "JPEG", quality=90))


def fill_page(page: Page, name: str, gallery: str, photos: list[Photo]) -> None:
    """Bring a page into the state in which it shows the most."""
    if name == "verify":
        for at, side in enumerate("AB"):
            choose(page, side, photos[at])
        expect(page.locator(".verdict")).to_be_visible()
        page.get_by_text("Milliseconds by stage").click()
    elif name == "identify":
        page.get_by_role("group", name="Galleries to search").get_by_label(gallery, exact=True).check()
        page.get_by_label("Choose photos").set_input_files(payloads(*photos, Photo("notes.jpg", b"no photo")))
        expect(page.get_by_text(f"{len(photos) + 1} of {len(photos) + 1} photos")).to_be_visible()
    elif name == "galleries":
        page.get_by_text("New gallery").click()
        page.get_by_role("button", name=f"Open {gallery}").click()
        page.get_by_text("Enrol", exact=True).click()
        page.get_by_label("Choose photos").set_input_files(payloads(photos[0]))
        expect(page.get_by_text("1 of 1 photos, 1 refused")).to_be_visible()
        page.get_by_role("button", name="Ada", exact=True).click()
        page.get_by_role("button", name="Show", exact=True).click()
        expect(page.get_by_role("img", name="Aligned face of template")).to_be_visible()
    elif name == "model":
        expect(page.get_by_role("img", name="Errors at all thresholds")).to_be_visible()
        expect(page.get_by_role("table", name="Parity with the checkpoint")).to_be_visible()
        page.get_by_text("Conditions").click()
    else:
        expect(page.get_by_text("Requests waiting")).to_be_visible()
        read_numbers(page, 2)
        expect(page.get_by_role("img", name="Requests per second")).to_be_visible()


@needs_axe
@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_with_contents_has_no_findings(
    service: Service, visit: Open, gallery: str, group: Photo, people: list[Photo], name: str, colours: str
) -> None:
    page = visit(service, color_scheme=colours).open(name)
    fill_page(page, name, gallery, [group, people[0]])
    assert axe_findings(page) == []
    if name == "galleries":
        page.get_by_role("button", name="Erase the gallery").click()
        expect(page.get_by_role("alertdialog")).to_be_visible()
        assert axe_findings(page) == []
    if name == "verify":
        page.get_by_role("button", name="Use the camera").first.click()
        expect(page.get_by_role("button", name="Take the photo")).to_be_enabled()
        assert axe_findings(page) == []


@needs_axe
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_the_pages_of_keys_have_no_findings(keyed: Service, visit: Open, admin: str, colours: str) -> None:
    page = visit(keyed, color_scheme=colours).open("operation")
    expect(page.get_by_role("dialog", name="A key is needed")).to_be_visible()
    assert axe_findings(page) == []
    use_key(page, "wrong")
    expect(page.get_by_role("alert")).to_be_visible()
    assert axe_findings(page) == []
    use_key(page, admin)
    page.get_by_role("link", name="Operation").click()
    expect(page.get_by_role("table", name="Keys")).to_be_visible()
    page.get_by_text("New key").click()
    assert axe_findings(page) == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_a_phone(
    service: Service, visit: Open, gallery: str, group: Photo, people: list[Photo], name: str
) -> None:
    page = visit(service, viewport=PHONE, has_touch=True, is_mobile=True).open(name)
    fill_page(page, name, gallery, [group, people[0]])
    assert page.evaluate(OVERFLOW, PHONE["width"]) == []
    assert page.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"]


def test_dark_colours_are_dark(service: Service, visit: Open) -> None:
    for colours, is_dark in (("light", False), ("dark", True)):
        page = visit(service, color_scheme=colours).open()
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        paper, ink = page.evaluate(
            "() => [document.documentElement, document.querySelector('h1')].map((element, at) =>"
            " getComputedStyle(element)[at ? 'color' : 'backgroundColor'].match(/\\d+/g).map(Number)"
            " .reduce((sum, one) => sum + one, 0))"
        )
        assert (paper < ink) == is_dark


def test_two_photos_are_compared_with_the_keyboard(
    service: Service, visit: Open, portrait: Photo, altered: Photo
) -> None:
    page = visit(service).open()
    photos = iter((portrait, altered))
    # From the beginning, because Chromium is told of it later than a key that is pressed at once.
    page.on("filechooser", lambda chooser: chooser.set_files(payloads(next(photos))))
    expect(page.get_by_label("Strangers let through")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    reached = []
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("() => document.activeElement.ariaLabel ?? document.activeElement.textContent"))
    assert "Choose a photo A" in reached
    assert "Choose a photo B" in reached
    for name, photo in (("A", portrait), ("B", altered)):
        page.get_by_label(f"Choose a photo {name}").focus()
        page.keyboard.press("Space")
        expect(side(page, name).get_by_alt_text(f"The chosen photo {photo.name}")).to_be_visible()
    expect(page.get_by_text("Match: the same person")).to_be_visible()


def test_a_page_that_is_chosen_is_named_in_the_title(service: Service, visit: Open) -> None:
    page = visit(service).open()
    for name in ("Identify", "Galleries", "Model", "Operation", "Verify"):
        go_to(page, name)
        expect(page).to_have_title(f"{name} – Vultus")
        expect(page.get_by_role("link", name=name)).to_have_attribute("aria-current", "page")
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("Operation")


def test_a_photo_of_twelve_megapixels_is_compared(
    service: Service, visit: Open, twelve_megapixels: Photo, portrait: Photo
) -> None:
    page = visit(service, viewport=PHONE, has_touch=True, is_mobile=True).open()
    choose(page, "A", twelve_megapixels)
    choose(page, "B", portrait)
    expect(page.get_by_text("Match: the same person")).to_be_visible()
    photo = page.get_by_alt_text("The chosen photo phone.jpg").bounding_box()
    box = page.locator(".photo").first.locator("rect.box").bounding_box()
    assert photo and box
    assert photo["x"] <= box["x"] and box["x"] + box["width"] <= photo["x"] + photo["width"] <= PHONE["width"]
    centre = (box["x"] + box["width"] / 2 - photo["x"]) / photo["width"]
    assert 0.3 < centre < 0.75  # the face is in the middle of the photo, and so is its box


def test_no_address_of_a_photo_is_left_after_leaving_a_page(
    service: Service, visit: Open, gallery: str, group: Photo, people: list[Photo]
) -> None:
    page = visit(service).open()
    made = 0
    for name in ("verify", "identify", "galleries"):
        go_to(page, name.capitalize())
        fill_page(page, name, gallery, [group, people[0]])
        assert made_addresses(page) > made
        assert live_addresses(page) > 0
        made = made_addresses(page)
        go_to(page, "Model")
        assert live_addresses(page) == 0


def test_the_first_paint_is_measured(service: Service, visit: Open) -> None:
    page = visit(service).open()
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    first = page.evaluate("() => performance.getEntriesByName('first-contentful-paint')[0].startTime")
    print(f"first contentful paint: {first:.0f} ms")
    assert first > 0
