"""The page Model: what runs, and what was measured with it."""

from playwright.sync_api import expect

from tests.console.browser import Photo, Service, choose, go_to
from tests.console.conftest import Open


def test_what_runs_is_named(service: Service, visit: Open) -> None:
    with service.client() as client:
        described = client.get("/v1/info").json()
    page = visit(service).open("model")
    expect(page.get_by_text(described["contract_id"]).first).to_be_visible()
    for part in ("recognizer", "detector"):
        model = described[part]
        text = page.get_by_text(f"{model['name']} ({model['pack']}). {model['session']['engine']}")
        expect(text).to_contain_text(model["session"]["precision"])
        expect(text).to_contain_text(f"Licence {model['licence']}; trained on:")


def test_the_chosen_operating_point_decides_on_the_other_pages(
    service: Service, visit: Open, portrait: Photo, altered: Photo
) -> None:
    with service.client() as client:
        calibration = client.get("/v1/calibration").json()
    other = next(
        point for point in calibration["operating_points"] if point["name"] != calibration["default_operating_point"]
    )
    page = visit(service).open("model")
    points = page.get_by_role("group", name="Operating points")
    expect(points.get_by_role("radio", name=f"Use {calibration['default_operating_point']}")).to_be_checked()
    points.get_by_role("radio", name=f"Use {other['name']}").check()
    go_to(page, "Verify")
    expect(page.get_by_label("Strangers let through")).to_have_value(other["name"])
    choose(page, "A", portrait)
    choose(page, "B", altered)
    expect(page.get_by_text(f"threshold {other['threshold']:.3f}").first).to_be_visible()
    go_to(page, "Model")
    expect(points.get_by_role("radio", name=f"Use {other['name']}")).to_be_checked()
    page.reload()
    expect(points.get_by_role("radio", name=f"Use {calibration['default_operating_point']}")).to_be_checked()


def test_the_calibration_is_shown_as_curves(service: Service, visit: Open) -> None:
    with service.client() as client:
        calibration = client.get("/v1/calibration").json()
    page = visit(service).open("model")
    det = page.get_by_role("img", name="Errors at all thresholds (DET)")
    expect(det).to_be_visible()
    expect(det.locator("polyline, path").first).to_be_visible()
    for point in calibration["operating_points"]:
        expect(det.get_by_text(point["name"])).to_be_visible()
    expect(page.get_by_role("img", name="Similarities of the calibration")).to_be_visible()
    expect(page.get_by_role("img", name="Error versus discard")).to_be_visible()
    expect(page.get_by_text("Measured on LFW")).to_be_visible()


def test_the_parity_with_the_checkpoint_is_a_table(service: Service, visit: Open) -> None:
    with service.client() as client:
        rows = client.get("/v1/parity").json()["rows"]
    page = visit(service).open("model")
    table = page.get_by_role("table", name="Parity with the checkpoint")
    expect(table.get_by_role("row")).to_have_count(len(rows) + 1)
    expect(table.get_by_role("row").filter(has=page.locator("td:last-child:text-is('yes')"))).to_have_count(
        sum(row["runs"] for row in rows)
    )
    expect(table.locator("td:nth-child(5):text-is('yes')")).to_have_count(sum(row["passed"] for row in rows))
