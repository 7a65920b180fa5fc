"""The page Operation: what the service does now, its keys and its audit log."""

import re

from playwright.sync_api import Page, expect

from tests.console.browser import Photo, Service, read_numbers, use_key
from tests.console.conftest import Open


def fact(page: Page, name: str) -> str:
    """Return the value beside a name."""
    return page.locator(f"dt:text-is('{name}') + dd").inner_text()


def test_the_numbers_follow_the_requests(service: Service, visit: Open, portrait: Photo, altered: Photo) -> None:
    page = visit(service).open("operation")
    expect(page.get_by_text("Requests per second").first).to_be_visible()
    with service.client() as client:
        for _ in range(5):
            files = {"probe": portrait.content, "reference": altered.content}
            client.post("/v1/verify", files=files).raise_for_status()
    read_numbers(page, 3)
    rate = page.locator("dt:text-is('Requests per second') + dd")
    expect(rate).to_have_text(re.compile(r"^(?!0$)[0-9.,]+$"))
    assert re.search(r"detect [0-9.]+", fact(page, "Milliseconds by stage (mean)"))
    assert re.search(r"\w+ [0-9.]+", fact(page, "Photos or faces per run (mean)"))
    assert re.fullmatch(r"\d+", fact(page, "Requests waiting"))
    assert re.fullmatch(r"\d+ of \d+ places", fact(page, "Requests in work"))
    expect(page.get_by_role("img", name="Requests per second")).to_be_visible()  # from the third reading on
    expect(page.get_by_role("img", name="Similarities of verifications")).to_be_visible()
    expect(page.get_by_role("img", name="Quality")).to_be_visible()


def test_the_numbers_say_when_there_is_no_answer(service: Service, visit: Open) -> None:
    page = visit(service).open("operation")
    expect(page.get_by_text("Requests waiting")).to_be_visible()
    page.route("**/metrics", lambda route: route.abort("connectionrefused"))
    page.clock.run_for(2_000)
    expect(page.get_by_text("The numbers are not read while there is no answer.")).to_be_visible()
    page.unroute("**/metrics")
    page.clock.run_for(2_000)
    expect(page.get_by_text("Requests waiting")).to_be_visible()


def test_the_numbers_are_read_no_more_after_leaving(service: Service, visit: Open) -> None:
    page = visit(service).open("operation")
    expect(page.get_by_text("Requests waiting")).to_be_visible()
    read_numbers(page, 1)
    page.get_by_role("link", name="Model").click()
    expect(page.get_by_role("img", name="Errors at all thresholds")).to_be_visible()
    later: list[str] = []
    page.on("request", lambda request: later.append(request.url))
    page.clock.run_for(20_000)  # ten times the pause between two readings
    page.get_by_role("link", name="Verify").click()
    expect(page.get_by_label("Strangers let through")).to_be_visible()
    assert any(url.endswith("/v1/calibration") for url in later)
    assert not any(url.endswith("/metrics") for url in later)


def test_keys_are_made_rotated_and_revoked(keyed: Service, visit: Open, admin: str) -> None:
    page = visit(keyed).open("operation")
    use_key(page, admin)
    page.get_by_role("link", name="Operation").click()
    page.get_by_text("New key").click()
    page.get_by_label("Name", exact=True).fill("<b>door")
    page.get_by_label("Galleries (empty: all").fill("staff, guests-*")
    for scope in ("verify", "identify"):
        page.get_by_role("group", name="Rights").get_by_label(f"{scope}:").check()
    page.get_by_role("button", name="Make the key").click()
    expect(page.get_by_text("The key of <b>door. It is shown once")).to_be_visible()
    made = page.locator("code").inner_text()
    row = page.get_by_role("table", name="Keys").get_by_role("row").filter(has_text="<b>door").first
    for text in ("verify, identify", "staff, guests-*", "live"):
        expect(row).to_contain_text(text)
    with keyed.client(made) as client:
        assert client.get("/v1/access").json()["scopes"] == ["verify", "identify"]
    row.get_by_role("button", name="Rotate <b>door").click()
    expect(page.locator("code")).to_have_count(2)  # a key that was shown once stays until the page is left
    rotated = page.locator("code").last.inner_text()
    assert page.locator("code").first.inner_text() == made != rotated
    with keyed.client(rotated) as client:
        assert client.get("/v1/access").is_success
    revoke = page.get_by_role("button", name="Revoke <b>door")
    while revoke.count():
        left = revoke.count()
        revoke.first.click()
        dialog = page.get_by_role("alertdialog")
        expect(dialog).to_contain_text("Programs that use the key <b>door are refused at once.")
        dialog.get_by_role("button", name="Revoke").click()
        expect(revoke).to_have_count(left - 1)
    with keyed.client(rotated) as client:
        assert client.get("/v1/access").status_code == 401
    expect(page.get_by_text(re.compile("^revoked ")).first).to_be_visible()


def test_a_key_that_is_refused_shows_the_sentence_of_the_service(keyed: Service, visit: Open, admin: str) -> None:
    page = visit(keyed).open("operation")
    use_key(page, admin)
    page.get_by_role("link", name="Operation").click()
    page.get_by_text("New key").click()
    keyed.make_key("taken", "verify")
    with keyed.client(admin) as client:
        detail = client.post("/v1/keys", json={"name": "taken", "scopes": ["verify"]}).json()["detail"]
    page.get_by_label("Name", exact=True).fill("taken")
    page.get_by_role("button", name="Make the key").click()
    expect(page.get_by_text("Choose at least one right.")).to_be_visible()
    page.get_by_role("group", name="Rights").get_by_label("verify:").check()
    page.get_by_role("button", name="Make the key").click()
    expect(page.get_by_role("alert")).to_have_text(detail)
    expect(page.get_by_label("Name", exact=True)).to_have_value("taken")


def test_the_audit_log_is_listed_newest_first(keyed: Service, visit: Open, admin: str) -> None:
    with keyed.client(admin) as client:
        for at in range(55):
            client.post("/v1/galleries", json={"gallery": f"audited-{at}"}).raise_for_status()
            client.delete(f"/v1/galleries/audited-{at}").raise_for_status()
    page = visit(keyed).open("operation")
    use_key(page, admin)
    page.get_by_role("link", name="Operation").click()
    rows = page.get_by_role("table", name="Audit log").get_by_role("row")
    expect(rows).to_have_count(51)
    expect(rows.nth(1)).to_contain_text("audited-54")
    page.get_by_role("button", name="Show older").click()
    expect(rows).to_have_count(101)
    numbers = [
        int(text) for text in page.locator("table:has(caption:text-is('Audit log')) td:first-child").all_inner_texts()
    ]
    assert numbers == sorted(set(numbers), reverse=True)
