"""The page Galleries: enrolment, subjects, and what is done with whole galleries."""

import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from uuid import uuid4

import pytest
from PIL import Image
from playwright.sync_api import Dialog, Locator, Page, Route, expect

from tests.console.browser import Held, Photo, Service, Visit, give, live_addresses, made_addresses, payloads
from tests.console.conftest import Open
from tests.pictures import encode

HOSTILE = {
    "markup": "<img src=x onerror=alert(1)>",
    "script": "'\"><script>alert(1)",
    "address": "..%2F..%2Fv1?x=1#y & z",
    "emoji": "👩🏽‍🚀 Ada 🦆",
    "long": "ö" * 200,
}


@pytest.fixture
def gallery(service: Service) -> Iterator[str]:
    """A new gallery that keeps crops."""
    name = f"g-{uuid4().hex[:8]}"
    with service.client() as client:
        client.post("/v1/galleries", json={"gallery": name, "keep_crops": True}).raise_for_status()
        yield name
        client.delete(f"/v1/galleries/{name}")


def enrolled(service: Service, gallery: str, people: dict[str, Photo]) -> None:
    """Enrol people over the API."""
    with service.client() as client:
        for name, photo in people.items():
            path = f"/v1/galleries/{gallery}/subjects/{name}/templates"
            client.post(path, files={"images": photo.content}).raise_for_status()


def opened(visit: Visit, gallery: str) -> Page:
    """Open a gallery by its button in the list."""
    page = visit.open("galleries")
    page.get_by_role("button", name=f"Open {gallery}", exact=True).click()
    expect(page.get_by_role("heading", level=2, name=gallery)).to_be_visible()
    return page


def subject_of(page: Page, name: str) -> Locator:
    """Open a subject by its button in the list."""
    page.get_by_role("button", name=name, exact=True).click()
    heading = page.get_by_role("heading", level=3, name=name)
    expect(heading).to_be_focused()
    return page.locator("section.note")


def subjects_on(page: Page) -> Locator:
    """Return the names in the list of subjects."""
    return page.get_by_role("region", name=re.compile("^Subjects of")).get_by_role("button")


def confirmed(page: Page, action: str) -> str:
    """Confirm the question on the page, and return it."""
    dialog = page.get_by_role("alertdialog")
    question = dialog.inner_text()
    dialog.get_by_role("button", name=action).click()
    expect(dialog).to_have_count(0)
    return question


def test_a_gallery_is_made_and_erased_and_its_name_must_be_written(service: Service, visit: Open) -> None:
    name = f"made-{uuid4().hex[:8]}"
    page = visit(service).open("galleries")
    page.get_by_text("New gallery").click()
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_role("button", name="Make the gallery").click()
    expect(page.get_by_text("Subjects: 0, templates: 0; index")).to_be_visible()
    expect(page.get_by_text("No subject.")).to_be_visible()
    page.get_by_role("button", name="Erase the gallery").click()
    dialog = page.get_by_role("alertdialog")
    expect(dialog).to_contain_text(f"erases the gallery {name} with 0 subjects for good")
    erase = dialog.get_by_role("button", name="Erase the gallery")
    expect(erase).to_be_disabled()
    dialog.get_by_label("Name").fill(name[:-1])
    expect(erase).to_be_disabled()
    dialog.get_by_label("Name").fill(name)
    erase.click()
    expect(page.get_by_text(re.compile(r"Receipt \d+: erased at .*: subjects 0, templates 0, crops 0"))).to_be_visible()
    expect(page.get_by_role("button", name=f"Open {name}")).to_have_count(0)
    expect(page.get_by_role("heading", level=2, name=name)).to_have_count(0)


def test_a_question_that_is_not_confirmed_changes_nothing(service: Service, visit: Open, gallery: str) -> None:
    page = opened(visit(service), gallery)
    for leave in ("Cancel", "Escape"):
        page.get_by_role("button", name="Erase the gallery").click()
        page.get_by_role("alertdialog").get_by_label("Name").fill(gallery)
        if leave == "Cancel":
            page.get_by_role("button", name="Cancel").click()
        else:
            page.keyboard.press("Escape")
        expect(page.get_by_role("alertdialog")).to_have_count(0)
    with service.client() as client:
        assert client.get(f"/v1/galleries/{gallery}").is_success


def test_a_name_that_is_taken_shows_the_sentence_of_the_service(service: Service, visit: Open, gallery: str) -> None:
    with service.client() as client:
        detail = client.post("/v1/galleries", json={"gallery": gallery}).json()["detail"]
    page = visit(service).open("galleries")
    page.get_by_text("New gallery").click()
    page.get_by_label("Name", exact=True).fill(gallery)
    page.get_by_role("button", name="Make the gallery").click()
    expect(page.get_by_role("alert")).to_contain_text(detail)
    expect(page.get_by_label("Name", exact=True)).to_have_value(gallery)


def many_files(people: list[Photo]) -> list[Photo]:
    """Return 200 files: 110 photos of two people, ten of them twice, and 80 pictures of nobody."""
    files = []
    for photo, who in zip(people[:2], "ab", strict=True):
        with Image.open(BytesIO(photo.content)) as image:
            face = image.convert("RGB")
        files += [Photo(f"{who}-{at}.jpg", encode(face, "JPEG", quality=40 + at)) for at in range(55)]
    files += [Photo(f"again-{at}.jpg", files[at].content) for at in range(10)]
    files += [
        Photo(f"blank-{at}.png", encode(Image.new("RGB", (60 + at, 60), "grey")), "image/png") for at in range(80)
    ]
    return files


def test_200_files_dropped_at_once_have_an_outcome_each(
    service: Service, visit: Open, gallery: str, people: list[Photo]
) -> None:
    page = opened(visit(service), gallery)
    page.get_by_text("Enrol", exact=True).click()
    page.get_by_label("Subject (empty").fill("Everybody")
    give(page.locator(".drop"), many_files(people))
    expect(page.get_by_role("progressbar", name="Enrol")).to_be_visible()
    expect(page.get_by_text("200 of 200 photos, 80 refused")).to_be_visible(timeout=60_000)
    expect(page.get_by_text("All photos are done.")).to_be_visible()
    lines = page.get_by_role("list", name="Outcome").get_by_role("listitem").all_inner_texts()
    outcomes = [line.split(": ", 1)[1] for line in lines]
    assert len(lines) == 200
    assert sum(line.startswith("blank-") and ": refused: " in line for line in lines) == 80
    assert (outcomes.count("enrolled as Everybody"), outcomes.count("enrolled before as Everybody")) == (110, 10)
    expect(page.get_by_text("Subjects: 1, templates: 110")).to_be_visible()
    expect(subjects_on(page)).to_have_text(["Everybody"])
    page.get_by_role("button", name="Check consistency").click()
    expect(page.get_by_text("Index and store agree: 110 templates.")).to_be_visible()


def test_a_folder_of_folders_is_enrolled_by_their_names(
    service: Service, visit: Open, gallery: str, people: list[Photo], tmp_path: Path
) -> None:
    for name, at in (("Ada", 0), ("Cleo", 2)):
        (tmp_path / "people" / name).mkdir(parents=True)
        (tmp_path / "people" / name / "1.png").write_bytes(people[at].content)
    (tmp_path / "people/Ada/.hidden.png").write_bytes(people[1].content)
    page = opened(visit(service), gallery)
    page.get_by_text("Enrol", exact=True).click()
    page.get_by_label("Choose a folder").set_input_files(tmp_path / "people")
    expect(page.get_by_text("2 of 2 photos, 0 refused")).to_be_visible()
    expect(page.get_by_text("Ada/1.png: enrolled as Ada")).to_be_visible()
    expect(page.get_by_text("Subjects: 2, templates: 2")).to_be_visible()
    expect(subjects_on(page)).to_have_text(["Ada", "Cleo"])


def test_a_photo_without_a_subject_says_what_is_missing(
    service: Service, visit: Open, gallery: str, people: list[Photo]
) -> None:
    page = opened(visit(service), gallery)
    page.get_by_text("Enrol", exact=True).click()
    page.get_by_label("Choose photos").set_input_files(payloads(people[0]))
    expect(page.get_by_text("There is no subject for person-0.png: write a name")).to_be_visible()
    expect(page.get_by_text("1 of 1 photos, 1 refused")).to_be_visible()


def test_an_enrolment_that_is_stopped_says_how_far_it_came(
    service: Service, visit: Open, gallery: str, people: list[Photo]
) -> None:
    page = opened(visit(service), gallery)
    page.get_by_text("Enrol", exact=True).click()
    page.get_by_label("Subject (empty").fill("Ada")
    seen: list[Route] = []

    def let_only_the_first_pass(route: Route) -> None:
        seen.append(route)
        if len(seen) == 1:
            route.continue_()

    page.route("**/templates", let_only_the_first_pass)
    give(page.locator(".drop"), people)
    expect(page.get_by_role("list", name="Outcome").get_by_role("listitem")).not_to_have_count(0)
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Stop")).to_be_hidden()
    expect(page.get_by_role("progressbar", name="Enrol")).to_be_hidden()
    expect(page.get_by_text("1 of 6 photos, 0 refused")).to_be_visible()
    expect(page.get_by_text("All photos are done.")).to_have_count(0)
    page.unroute("**/templates")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_text("6 of 6 photos, 0 refused")).to_be_visible()
    expect(page.get_by_text("Subjects: 1, templates: 6")).to_be_visible()


def test_photos_that_were_stopped_are_not_enrolled_with_the_next_ones(
    service: Service, visit: Open, gallery: str, people: list[Photo]
) -> None:
    page = opened(visit(service), gallery)
    page.get_by_text("Enrol", exact=True).click()
    page.get_by_label("Subject (empty").fill("Mistaken")
    held = Held(page, "**/templates")
    give(page.locator(".drop"), people[:3])
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Continue")).to_be_visible()
    held.cut()
    page.get_by_label("Subject (empty").fill("Ada")
    give(page.locator(".drop"), [people[3]])
    expect(page.get_by_text("1 of 1 photos, 0 refused")).to_be_visible()
    expect(page.get_by_role("button", name="Continue")).to_be_hidden()
    expect(subjects_on(page)).to_have_text(["Ada"])


def test_subjects_are_found_by_a_part_of_their_name(
    service: Service, visit: Open, gallery: str, people: list[Photo]
) -> None:
    enrolled(service, gallery, {"Ada Lovelace": people[0], "Cleo": people[2], "Grace Hopper": people[4]})
    page = opened(visit(service), gallery)
    expect(page.get_by_role("button", name="Cleo")).to_be_visible()
    page.get_by_label("Search names").fill("LOVE")
    page.get_by_label("Search names").press("Enter")
    expect(page.get_by_role("button", name="Cleo")).to_have_count(0)
    expect(subjects_on(page)).to_have_text(["Ada Lovelace"])
    page.get_by_label("Search names").fill("nobody")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text("No subject.")).to_be_visible()
    page.get_by_label("Search names").fill("")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("button", name="Cleo")).to_be_visible()


def test_subjects_that_expire_and_those_without_templates_are_found(
    service: Service, visit: Open, gallery: str, people: list[Photo]
) -> None:
    enrolled(service, gallery, {"Ada": people[0], "Cleo": people[2]})
    with service.client() as client:
        subjects = f"/v1/galleries/{gallery}/subjects"
        client.patch(f"{subjects}/Ada", json={"expires": "2099-01-01T00:00:00Z"}).raise_for_status()
        client.post(subjects, json={"subject": "Nobody"}).raise_for_status()
    page = opened(visit(service), gallery)
    expect(page.get_by_text("MB of embeddings")).to_be_visible()
    found = {"those that expire": ["Ada"], "those without templates": ["Nobody"], "all": ["Ada", "Cleo", "Nobody"]}
    for shown, names in found.items():
        page.get_by_role("search").get_by_role("combobox").select_option(label=shown)
        page.get_by_role("button", name="Search").click()
        expect(subjects_on(page)).to_have_text(names)


def test_more_subjects_than_one_page_are_shown_one_page_after_another(
    service: Service, visit: Open, gallery: str, people: list[Photo]
) -> None:
    with service.client() as client:
        embedded = client.post("/v1/embed?faces=largest", files={"images": people[0].content}).json()
        numbers: list[float] = embedded["items"][0]["faces"][0]["embedding"]
        for at in range(53):
            path = f"/v1/galleries/{gallery}/subjects/s{at:02}/templates"
            turned = [-number if place == at else number for place, number in enumerate(numbers)]
            client.post(path, json={"embeddings": [turned]}).raise_for_status()
    page = opened(visit(service), gallery)
    expect(page.get_by_role("button", name=re.compile(r"^s\d\d$"))).to_have_count(50)
    page.get_by_role("button", name="Show more").click()
    expect(page.get_by_role("button", name=re.compile(r"^s\d\d$"))).to_have_count(53)
    expect(page.get_by_role("button", name="Show more")).to_be_hidden()


def test_a_subject_is_shown_renamed_merged_and_given_an_end(
    service: Service, visit: Open, gallery: str, people: list[Photo]
) -> None:
    enrolled(service, gallery, {"Ada": people[0], "A. Lovelace": people[1]})
    page = opened(visit(service), gallery)
    panel = subject_of(page, "Ada")
    row = panel.get_by_role("region", name="Templates").get_by_role("row").nth(1)
    assert re.fullmatch(r"\d+", row.get_by_role("cell").nth(1).inner_text())  # its quality
    row.get_by_role("button", name="Show").click()
    expect(panel.get_by_role("img", name="Aligned face of template")).to_be_visible()
    assert (made_addresses(page), live_addresses(page)) == (1, 1)
    panel.get_by_label("New name").fill("Ada Lovelace")
    panel.get_by_role("button", name="Rename").click()
    expect(panel.get_by_role("heading", level=3, name="Ada Lovelace")).to_be_visible()
    expect(page.get_by_role("button", name="Ada Lovelace", exact=True)).to_be_visible()
    panel.get_by_label("Take the templates of another subject").fill("A. Lovelace")
    panel.get_by_role("button", name="Merge").click()
    expect(panel.get_by_role("button", name=re.compile("Erase template"))).to_have_count(2)
    expect(page.get_by_text("Subjects: 1, templates: 2")).to_be_visible()
    expect(subjects_on(page)).to_have_text(["Ada Lovelace"])
    panel.get_by_label("Expires on").fill("2126-05-04")
    panel.get_by_role("button", name="Set").click()
    expect(panel.get_by_text(re.compile(r"expires 0?4/0?5/2126"))).to_be_visible()
    panel.get_by_role("button", name="Never").click()
    expect(panel.get_by_text("expires never")).to_be_visible()
    panel.get_by_role("button", name="Close").click()
    expect(page.get_by_role("heading", level=3)).to_have_count(0)
    assert live_addresses(page) == 0


def test_a_template_and_a_subject_are_erased_with_a_receipt(
    service: Service, visit: Open, gallery: str, people: list[Photo]
) -> None:
    enrolled(service, gallery, {"Ada": people[0], "Cleo": people[2]})
    enrolled(service, gallery, {"Ada": people[1]})
    page = opened(visit(service), gallery)
    panel = subject_of(page, "Ada")
    panel.get_by_role("button", name=re.compile("Erase template")).first.click()
    confirmed(page, "Erase template")
    expect(panel.get_by_text(re.compile(r"Receipt \d+: .*templates 1, crops 1"))).to_be_visible()
    panel.get_by_role("button", name="Erase this subject").click()
    question = confirmed(page, "Erase this subject")
    assert "This erases Ada with 1 templates for good" in question
    expect(panel.get_by_text(re.compile(r"Receipt \d+: .*subjects 1, templates 1, crops 1"))).to_be_visible()
    expect(page.get_by_text("Subjects: 1, templates: 1")).to_be_visible()
    expect(subjects_on(page)).to_have_text(["Cleo"])
    with service.client() as client:
        assert client.get(f"/v1/galleries/{gallery}/subjects/Ada").status_code == 404


def test_what_the_service_refuses_is_said_beside_the_subject(
    service: Service, visit: Open, gallery: str, people: list[Photo]
) -> None:
    enrolled(service, gallery, {"Ada": people[0]})
    page = opened(visit(service), gallery)
    panel = subject_of(page, "Ada")
    panel.get_by_label("Take the templates of another subject").fill("Nobody")
    panel.get_by_role("button", name="Merge").click()
    expect(panel.get_by_role("alert")).to_contain_text("the gallery has no subject with this name")
    expect(panel.get_by_label("Take the templates of another subject")).to_have_value("Nobody")


def test_an_export_is_imported_into_another_gallery(
    service: Service, visit: Open, gallery: str, people: list[Photo], tmp_path: Path
) -> None:
    enrolled(service, gallery, {"Ada": people[0], "Cleo": people[2]})
    visitor = visit(service)
    page = opened(visitor, gallery)
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    assert download.value.suggested_filename == f"{gallery}.ndjson"
    download.value.save_as(tmp_path / "copy.ndjson")
    other = f"{gallery}-copy"
    with service.client() as client:
        client.post("/v1/galleries", json={"gallery": other, "keep_crops": True}).raise_for_status()
    opened(visitor, gallery)
    page.reload()
    opened(visitor, other)
    page.get_by_label("Import a file").set_input_files(tmp_path / "copy.ndjson")
    expect(page.get_by_text(re.compile(r"Imported: .*2"))).to_be_visible()
    expect(page.get_by_text("Subjects: 2, templates: 2")).to_be_visible()
    expect(subjects_on(page)).to_have_text(["Ada", "Cleo"])
    with service.client() as client:
        client.delete(f"/v1/galleries/{other}").raise_for_status()


def test_a_backup_is_made(service: Service, visit: Open, gallery: str) -> None:
    page = opened(visit(service), gallery)
    page.get_by_role("button", name="Back up all").click()
    expect(page.get_by_text("The backup is complete.")).to_be_visible()


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_name_is_a_name(service: Service, visit: Open, gallery: str, people: list[Photo], name: str) -> None:
    visitor = visit(service)
    page = opened(visitor, gallery)
    dialogs: list[str] = []

    def note(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", note)
    page.get_by_text("Enrol", exact=True).click()
    page.get_by_label("Subject (empty").fill(name)
    page.get_by_label("Choose photos").set_input_files(payloads(people[0]))
    expect(page.get_by_text("1 of 1 photos, 0 refused")).to_be_visible()
    expect(page.get_by_text("Subjects: 1, templates: 1")).to_be_visible()
    expect(subjects_on(page)).to_have_text([name])
    panel = subject_of(page, name)
    expect(panel.get_by_role("region", name="Templates")).to_be_visible()
    page.get_by_role("link", name="Identify").click()
    galleries = page.get_by_role("group", name="Galleries to search")
    galleries.get_by_label(gallery, exact=True).check()
    for box in galleries.get_by_role("checkbox").all():
        box.set_checked(box.input_value() == gallery)
    page.get_by_label("Choose photos").set_input_files(payloads(people[0]))
    expect(page.get_by_role("heading", level=3)).to_have_text(f"Face 1: {name}")
    assert page.locator("text.name").text_content() == f"1 {name}"
    assert page.locator("main script, main img:not([alt^='The chosen photo'])").count() == 0
    assert dialogs == []


@pytest.mark.parametrize("name", ["Ada\u202egpj.exe", "../../other"], ids=["direction", "path"])
def test_a_name_that_the_service_does_not_take_is_refused_in_words(
    service: Service, visit: Open, gallery: str, people: list[Photo], name: str
) -> None:
    page = opened(visit(service), gallery)
    page.get_by_text("Enrol", exact=True).click()
    page.get_by_label("Subject (empty").fill(name)
    page.get_by_label("Choose photos").set_input_files(payloads(people[0]))
    expect(page.get_by_text("1 of 1 photos, 1 refused")).to_be_visible()
    expect(page.get_by_role("list", name="Outcome")).to_contain_text("person-0.png: refused: ")
