"""Keys that end, services that stop, and connections that are slow or cut: nothing that was typed is lost."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from service.security.scopes import SCOPES
from tests.console.browser import Held, Photo, Service, choose, give, go_to, payloads, use_key
from tests.console.conftest import Open

STORES = "() => [localStorage.length, sessionStorage.length, document.cookie, indexedDB.databases !== undefined]"


def links_on(page: Page) -> list[str]:
    """Return the names of the pages that can be chosen."""
    return page.get_by_role("navigation", name="Pages").get_by_role("link").all_inner_texts()


def asked(page: Page) -> None:
    """Wait until the page asks for a key."""
    expect(page.get_by_role("dialog", name="A key is needed")).to_be_visible()


def test_a_key_is_kept_in_memory_and_by_choice_until_the_tab_is_closed(keyed: Service, visit: Open, admin: str) -> None:
    page = visit(keyed).open()
    asked(page)
    use_key(page, admin)
    expect(page.get_by_text("console", exact=True)).to_be_visible()
    assert page.evaluate(STORES)[:3] == [0, 0, ""]
    page.reload()
    asked(page)
    use_key(page, admin, remember=True)
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    page.reload()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    assert page.evaluate(STORES)[:3] == [0, 1, ""]
    page.get_by_role("button", name="Sign out").click()
    asked(page)
    assert page.evaluate(STORES)[:3] == [0, 0, ""]
    page.reload()
    asked(page)


def test_signing_out_leaves_the_page_with_all_that_it_shows(
    keyed: Service, visit: Open, admin: str, portrait: Photo
) -> None:
    page = visit(keyed).open()
    use_key(page, admin)
    choose(page, "A", portrait)
    expect(page.get_by_role("radio", name="Face 1")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("img")).to_have_count(0)
    assert links_on(page) == []
    assert page.evaluate("() => window.liveAddresses.size") == 0
    page.get_by_role("button", name="A key is needed").click()
    use_key(page, admin)
    expect(page.get_by_text("Do two photos show the same person?")).to_be_visible()


@pytest.mark.parametrize("key", ["vultus_wrong", "vultus_00000000_" + "0" * 40, "nothing"])
def test_a_wrong_key_shows_the_sentence_of_the_service(keyed: Service, visit: Open, key: str) -> None:
    with keyed.client(key) as client:
        detail = client.get("/v1/access").json()["detail"]
    page = visit(keyed).open()
    asked(page)
    use_key(page, key)
    dialog = page.get_by_role("dialog", name="A key is needed")
    expect(dialog.get_by_role("alert")).to_have_text(detail)
    expect(dialog.get_by_label("Key", exact=True)).to_have_value(key)
    assert links_on(page) == []


def test_only_what_the_key_may_is_shown(keyed: Service, visit: Open, portrait: Photo, altered: Photo) -> None:
    page = visit(keyed).open("operation")
    use_key(page, keyed.make_key("door", "verify"))
    expect(page.get_by_role("heading", level=1)).to_have_text("Verify")
    assert links_on(page) == ["Verify", "Model"]
    choose(page, "A", portrait)
    choose(page, "B", altered)
    expect(page.get_by_text("Match: the same person")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)
    go_to(page, "Model")
    expect(page.get_by_role("img", name="Errors at all thresholds")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)
    page.get_by_role("banner").get_by_text("Rights", exact=True).click()
    expect(page.get_by_role("banner").get_by_text("verify", exact=True)).to_be_visible()


def test_who_may_not_list_galleries_names_those_to_search(
    keyed: Service, visit: Open, admin: str, portrait: Photo
) -> None:
    with keyed.client(admin) as client:
        client.post("/v1/galleries", json={"gallery": "named"}).raise_for_status()
        path = "/v1/galleries/named/subjects/Ada/templates"
        client.post(path, files={"images": portrait.content}).raise_for_status()
    page = visit(keyed).open("identify")
    use_key(page, keyed.make_key("searcher", "identify"))
    page.get_by_label("Names of galleries").fill("named")
    page.get_by_label("Choose photos").set_input_files(payloads(portrait))
    expect(page.get_by_role("heading", name="Face 1: Ada")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_reader_sees_galleries_and_cannot_change_them(keyed: Service, visit: Open, admin: str) -> None:
    with keyed.client(admin) as client:
        client.post("/v1/galleries", json={"gallery": "read-only"}).raise_for_status()
    page = visit(keyed).open("galleries")
    use_key(page, keyed.make_key("reader", "read"))
    page.get_by_role("button", name="Open read-only").click()
    expect(page.get_by_text("No subject.")).to_be_visible()
    for action in ("Erase the gallery", "Check consistency", "Export", "Back up all"):
        expect(page.get_by_role("button", name=action)).to_have_count(0)
    for text in ("New gallery", "Enrol", "Import a file"):
        expect(page.get_by_text(text, exact=True)).to_have_count(0)
    with keyed.client(admin) as client:
        client.delete("/v1/galleries/read-only").raise_for_status()


def test_another_key_sees_the_same_page_with_what_it_may(keyed: Service, visit: Open, admin: str) -> None:
    page = visit(keyed).open("galleries")
    use_key(page, admin)
    page.get_by_role("link", name="Galleries").click()
    expect(page.get_by_text("New gallery")).to_be_visible()
    page.get_by_role("button", name="Change key").click()
    use_key(page, keyed.make_key("another", "read"))
    expect(page.get_by_text("New gallery")).to_have_count(0)
    expect(page.get_by_role("heading", level=1)).to_have_text("Galleries")


def test_a_key_that_is_revoked_in_mid_session_asks_for_another_and_keeps_what_was_typed(
    keyed: Service, visit: Open, admin: str
) -> None:
    with keyed.client(admin) as client:
        made = client.post("/v1/keys", json={"name": "short", "scopes": ["admin"]}).json()
        page = visit(keyed).open("galleries")
        use_key(page, made["key"])
        page.get_by_role("link", name="Galleries").click()
        page.get_by_text("New gallery").click()
        page.get_by_label("Name", exact=True).fill("typed-before")
        page.get_by_label("Minimum quality").fill("7")
        client.delete(f"/v1/keys/{made['id']}").raise_for_status()
        page.get_by_role("button", name="Make the gallery").click()
        asked(page)
        expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("revoked")
        use_key(page, admin)
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(page.get_by_label("Name", exact=True)).to_have_value("typed-before")
        expect(page.get_by_label("Minimum quality")).to_have_value("7")
        page.get_by_role("button", name="Make the gallery").click()
        expect(page.get_by_role("heading", level=2, name="typed-before")).to_be_visible()
        client.delete("/v1/galleries/typed-before").raise_for_status()


def test_what_a_revoked_key_left_undone_is_done_with_the_next_one(
    keyed: Service, visit: Open, admin: str, portrait: Photo, altered: Photo
) -> None:
    with keyed.client(admin) as client:
        wanted = {"name": "compares", "scopes": ["detect", "verify"]}
        made = client.post("/v1/keys", json=wanted).json()
        page = visit(keyed).open()
        use_key(page, made["key"])
        choose(page, "A", portrait)
        expect(page.get_by_role("radio", name="Face 1")).to_be_visible()
        client.delete(f"/v1/keys/{made['id']}").raise_for_status()
        choose(page, "B", altered)
        asked(page)
        expect(page.get_by_text("What is on this page stays.")).to_be_visible()
        use_key(page, client.post("/v1/keys", json=wanted).json()["key"])
    expect(page.get_by_text("Match: the same person")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)


@pytest.fixture
def mortal(tmp_path: Path, photos: Path) -> Iterator[Service]:  # noqa: ARG001
    """A service that a test may kill."""
    service = Service(tmp_path)
    service.start()
    yield service
    service.stop()


def test_a_service_that_is_killed_does_not_answer_and_works_again_after_its_start(
    mortal: Service, visit: Open, portrait: Photo, altered: Photo
) -> None:
    page = visit(mortal).open("galleries")
    page.get_by_text("New gallery").click()
    page.get_by_label("Name", exact=True).fill("kept")
    mortal.stop()
    page.get_by_role("button", name="Make the gallery").click()
    expect(page.get_by_role("alert")).to_have_text(
        "The service does not answer. Nothing was lost; try again when it is back."
    )
    expect(page.get_by_label("Name", exact=True)).to_have_value("kept")
    mortal.start()
    page.get_by_role("button", name="Make the gallery").click()
    expect(page.get_by_role("heading", level=2, name="kept")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)
    go_to(page, "Verify")
    choose(page, "A", portrait)
    choose(page, "B", altered)
    expect(page.get_by_text("Match: the same person")).to_be_visible()


def test_a_slow_connection_says_what_it_waits_for_and_keeps_the_latest_choice(
    service: Service, visit: Open, portrait: Photo, altered: Photo, people: list[Photo]
) -> None:
    page = visit(service).open()
    held = Held(page, "**/v1/embed")
    choose(page, "A", people[0])
    expect(page.get_by_text("Looking for faces")).to_be_visible()
    choose(page, "A", portrait)
    choose(page, "B", altered)
    expect(page.get_by_text("Looking for faces")).to_have_count(2)
    expect(page.get_by_alt_text("The chosen photo person-0.png")).to_have_count(0)
    held.let_go()
    expect(page.get_by_text("Match: the same person")).to_be_visible()
    expect(page.get_by_text("Looking for faces")).to_have_count(0)


def test_a_page_that_is_left_while_it_waits_asks_for_no_more(service: Service, visit: Open, portrait: Photo) -> None:
    page = visit(service).open()
    held = Held(page, "**/v1/embed")
    choose(page, "A", portrait)
    expect(page.get_by_text("Looking for faces")).to_be_visible()
    go_to(page, "Model")
    held.cut()
    expect(page.get_by_role("img", name="Errors at all thresholds")).to_be_visible()
    expect(page.get_by_text("The service does not answer.")).to_have_count(0)
    assert page.evaluate("() => window.liveAddresses.size") == 0


def test_a_connection_that_is_cut_is_named_and_the_photo_stays(
    service: Service, visit: Open, portrait: Photo, altered: Photo
) -> None:
    page = visit(service).open()
    choose(page, "A", portrait)
    expect(page.get_by_role("radio", name="Face 1")).to_be_visible()
    held = Held(page, "**/v1/embed")
    choose(page, "B", altered)
    expect(page.get_by_text("Looking for faces")).to_be_visible()
    held.cut()
    expect(page.get_by_role("alert")).to_contain_text("The service does not answer.")
    expect(page.get_by_alt_text("The chosen photo")).to_have_count(2)
    choose(page, "B", altered)
    expect(page.get_by_text("Match: the same person")).to_be_visible()


def test_a_cut_connection_refuses_one_photo_of_an_enrolment_and_not_the_others(
    service: Service, visit: Open, people: list[Photo]
) -> None:
    with service.client() as client:
        client.post("/v1/galleries", json={"gallery": "cut"}).raise_for_status()
        page = visit(service).open("galleries")
        page.get_by_role("button", name="Open cut").click()
        page.get_by_text("Enrol", exact=True).click()
        page.get_by_label("Subject (empty").fill("Ada")
        cut: list[Route] = []

        def cut_the_first(route: Route) -> None:
            if cut:
                route.continue_()
            else:
                cut.append(route)
                route.abort("connectionreset")

        page.route("**/templates", cut_the_first)
        give(page.locator(".drop"), people)
        expect(page.get_by_text("6 of 6 photos, 1 refused")).to_be_visible()
        outcomes = page.get_by_role("list", name="Outcome")
        expect(outcomes.get_by_text("refused: The service does not answer.")).to_have_count(1)
        expect(page.get_by_text("Subjects: 1, templates: 5")).to_be_visible()
        client.delete("/v1/galleries/cut").raise_for_status()


def test_a_service_that_is_busy_is_asked_again(service: Service, visit: Open, portrait: Photo) -> None:
    page = visit(service).open()
    problem = '{"type": "about:blank", "code": "busy", "detail": "later", "status": 429}'
    page.route("**/v1/embed", lambda route: route.fulfill(status=429, body=problem), times=1)
    choose(page, "A", portrait)
    expect(page.get_by_role("radio", name=re.compile("Face 1"))).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_who_makes_the_first_key_is_not_locked_out(visit: Open, tmp_path: Path, photos: Path) -> None:  # noqa: ARG001
    service = Service(tmp_path)
    service.start()
    try:
        page = visit(service).open("operation")
        page.get_by_text("New key").click()
        page.get_by_label("Name", exact=True).fill("colleague")
        page.get_by_role("group", name="Rights").get_by_label("verify:").check()
        page.get_by_role("button", name="Make the key").click()
        page.get_by_role("alertdialog").get_by_role("button", name="Make the key").click()
        expect(page.locator("code")).to_have_count(2)
        own, colleagues = page.locator("code").all_inner_texts()
        expect(page.get_by_role("banner")).to_contain_text("administrator")
        for key, scopes in ((own, list(SCOPES)), (colleagues, ["verify"])):
            with service.client(key) as client:
                assert client.get("/v1/access").json()["scopes"] == scopes
        expect(page.get_by_role("dialog")).to_have_count(0)
    finally:
        service.stop()


def test_the_page_asks_once_for_another_key_and_says_so_until_it_has_one(
    keyed: Service, visit: Open, admin: str
) -> None:
    page = visit(keyed).open("operation")
    use_key(page, keyed.make_key("watcher", "metrics"))
    expect(page.get_by_text("Requests waiting")).to_be_visible()
    with keyed.client(admin) as client:
        keys = client.get("/v1/keys").json()["keys"]
        (watcher,) = (key["id"] for key in keys if key["name"] == "watcher")
        client.delete(f"/v1/keys/{watcher}").raise_for_status()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    dialog.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("banner")).to_contain_text("A key is needed")
    page.wait_for_timeout(2_500)  # longer than the pause between two readings
    expect(dialog).to_have_count(0)
    page.get_by_role("banner").get_by_role("button", name="Enter a key").click()
    expect(dialog).to_be_visible()
