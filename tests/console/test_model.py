"""The page Model: what runs, and what was measured with it."""

import math
from pathlib import Path

from playwright.sync_api import expect

from models.evaluation.reports.document import Chart, Evaluation, Figure, Series, Table
from service.reports.keeping import keep_report
from tests.console.browser import Photo, Service, axe_findings, choose, go_to
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


def test_kept_reports_are_listed_and_opened(visit: Open, tmp_path: Path, photos: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "packs").symlink_to(photos.parent)  # of the data directory of the other services
    chart = Chart("roc", "Errors", "false match rate", "rate", [Series("a", [0.0, 1.0], [0.0, math.nan])], log_x=True)
    empty = Chart("none", "No errors", "false match rate", "rate", [Series("", [0.0], [0.0])], log_x=True, log_y=True)
    evaluation = Evaluation(
        "pictures",
        "<b>site</b>",
        {"engine": "openvino"},
        [Figure("eer", 0.01, "equal error rate 1 %")],
        [Table("points", "Points", ("name", "rate"), [("fmr_1e-3", 0.001)], anonymous=True)],
        [chart, empty],
        notes=["Measured on drawn people."],
    )
    for kind in ("evaluation", "calibration"):
        keep_report(data / "reports", kind, "vultus 0", [evaluation.record()])
    service = Service(tmp_path, VULTUS_DATA_DIR=str(data), VULTUS_RUNTIME__MEASURE="false")
    service.start()
    try:
        page = visit(service).open("model")
        reports = page.get_by_role("table", name="Reports").get_by_role("button", name="Open <b>site</b>")
        expect(reports).to_have_count(2)
        reports.first.click()
        expect(page.get_by_role("heading", name="<b>site</b>")).to_be_focused()
        for text in ("equal error rate 1 %", "0.001", "Measured on drawn people."):
            expect(page.locator(".card").filter(has_text="<b>site</b>").get_by_text(text, exact=True)).to_be_visible()
        for name in ("Errors", "No errors"):
            expect(page.get_by_role("img", name=name, exact=True)).to_be_visible()
        assert axe_findings(page) == []
    finally:
        service.stop()
