"""The page Verify: two photos, and what their similarity means."""

import re

from playwright.sync_api import Page, expect

from tests.console.browser import Held, Photo, Service, choose, give, side
from tests.console.conftest import Open

PERCENT = re.compile(r"With this similarity: (?:at least )?([0-9.,e-]+) %")


def outcome(page: Page) -> str:
    """Return what the page says of the two photos, once it has said something."""
    expect(page.locator(".verdict")).to_be_visible()
    return page.locator("main").inner_text()


def strangers(text: str) -> float:
    """Return among how many strangers one would reach the similarity."""
    if found := re.search(r"One stranger in ([0-9,]+) would reach this similarity", text):
        return float(found[1].replace(",", ""))
    found = re.search(r"([0-9.]+) % of all strangers would reach this similarity", text)
    assert found, text
    return 100 / float(found[1])


def test_two_photos_of_one_person_match_and_the_page_says_what_that_means(
    service: Service, visit: Open, portrait: Photo, altered: Photo
) -> None:
    page = visit(service).open()
    choose(page, "A", portrait)
    choose(page, "B", altered)
    expect(page.get_by_text("Match: the same person")).to_be_visible()
    text = outcome(page)
    similarity, threshold = re.search(
        r"Similarity ([0-9.]+) of at most 1; a match begins at ([0-9.]+[0-9])", text
    ).groups()  # type: ignore[union-attr]
    low, high = re.search(r"any threshold from ([0-9.]+) to ([0-9.]+)", text).groups()  # type: ignore[union-attr]
    assert float(low) <= float(threshold) <= float(high) < float(similarity) <= 1
    assert re.search(r"Of 87,189,422 comparisons of strangers in the calibration, \d reached this similarity", text)
    assert "At this setting, one stranger in 10,000 is taken for the same person" in text
    assert "Measured on LFW" in text
    expect(page.get_by_role("img", name="Where this pair lies among pairs")).to_be_visible()
    for words in (f"threshold {threshold}", f"this pair {similarity}"):
        expect(page.locator("figure svg").get_by_text(words)).to_be_visible()
    page.get_by_text("Milliseconds by stage").click()
    for stage in ("decode", "detect", "align", "embed"):
        expect(page.get_by_role("term").filter(has_text=stage)).to_be_visible()


def test_the_probability_follows_what_was_known_before(
    service: Service, visit: Open, portrait: Photo, people: list[Photo]
) -> None:
    page = visit(service).open()
    choose(page, "A", portrait)
    choose(page, "B", people[0])
    expect(page.get_by_text("No match:")).to_be_visible()
    assert 1 <= strangers(outcome(page)) < 1_000
    shares = []
    for prior in ("as likely as not", "1 in 10", "1 in 10,000"):
        page.get_by_label("How likely did you think it before").select_option(label=prior)
        shares.append(float(PERCENT.search(outcome(page)).group(1)))  # type: ignore[union-attr]
    assert shares[0] > shares[1] > shares[2]


def test_another_face_of_a_group_is_chosen_by_click_and_by_keyboard(
    service: Service, visit: Open, group: Photo, people: list[Photo]
) -> None:
    page = visit(service).open()
    choose(page, "A", group)
    choose(page, "B", people[0])
    faces = page.get_by_role("group", name="Which face is compared").first.get_by_role("radio")
    expect(faces).to_have_count(6)
    verdicts = []
    for at in range(6):
        with page.expect_response(lambda answer: answer.url.endswith("/v1/verify")):
            page.locator(".photo").first.locator("rect.box").nth(at).click()
        expect(faces.nth(at)).to_be_checked()
        verdicts.append(page.locator(".verdict").inner_text())
    assert sorted(verdicts) == ["Match: the same person"] + ["No match: too unlike for the same person"] * 5
    reference = page.get_by_role("group", name="Which face is compared").nth(1).get_by_role("radio")
    expect(reference).to_be_checked()  # the choice of one side leaves the other side as it is
    mate = verdicts.index("Match: the same person")
    faces.nth(5).focus()
    for _ in range(5 - mate if mate < 5 else 1):
        page.keyboard.press("ArrowUp")
    if mate == 5:
        page.keyboard.press("ArrowDown")
    expect(faces.nth(mate)).to_be_focused()
    expect(page.get_by_text("Match: the same person")).to_be_visible()


def test_photos_are_pasted_and_dropped(service: Service, visit: Open, portrait: Photo, altered: Photo) -> None:
    page = visit(service).open()
    give(side(page, "A"), [portrait], "paste")
    give(side(page, "B"), [altered], "drop")
    expect(page.get_by_text("Match: the same person")).to_be_visible()
    expect(page.get_by_alt_text("The chosen photo astronaut.png")).to_be_visible()
    side(page, "B").get_by_role("button", name="Remove").click()
    expect(page.get_by_text("Choose two photos.")).to_be_visible()
    expect(page.get_by_alt_text("The chosen photo smaller.jpg")).to_have_count(0)


def test_a_verdict_does_not_stay_beside_another_photo(
    service: Service, visit: Open, portrait: Photo, altered: Photo, people: list[Photo]
) -> None:
    page = visit(service).open()
    choose(page, "A", portrait)
    choose(page, "B", altered)
    expect(page.get_by_text("Match: the same person")).to_be_visible()
    held = Held(page, "**/v1/embed")
    choose(page, "B", people[0])
    expect(page.get_by_text("Looking for faces")).to_be_visible()
    expect(page.get_by_text("Match: the same person")).to_have_count(0)
    held.let_go()
    expect(page.get_by_text("No match:")).to_be_visible()


def test_the_camera_takes_a_photo(service: Service, visit: Open) -> None:
    page = visit(service).open()
    side(page, "A").get_by_role("button", name="Use the camera").click()
    dialog = page.get_by_role("dialog", name="Take a photo")
    dialog.get_by_role("button", name="Take the photo").click()
    expect(page.get_by_alt_text("The chosen photo camera.jpg")).to_be_visible()
    expect(page.get_by_text("No face was found in this photo.")).to_be_visible()  # the fake camera shows a pattern
    expect(dialog).to_have_count(0)


def test_a_closed_camera_takes_no_photo(service: Service, visit: Open) -> None:
    page = visit(service).open()
    side(page, "A").get_by_role("button", name="Use the camera").click()
    expect(page.get_by_role("button", name="Take the photo")).to_be_enabled()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("img")).to_have_count(0)


def test_a_file_that_is_no_photo_shows_the_sentence_of_the_service(service: Service, visit: Open) -> None:
    with service.client() as client:
        headers = {"Content-Type": "image/jpeg"}
        detail = client.post("/v1/embed", content=b"not a photo", headers=headers).json()["detail"]
    page = visit(service).open()
    choose(page, "A", Photo("notes.jpg", b"not a photo"))
    alert = page.get_by_role("alert")
    expect(alert).to_have_text(detail)
