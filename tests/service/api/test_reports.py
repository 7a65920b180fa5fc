"""`/v1/reports` over HTTP."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from models.serving.models import Models
from service.app import create_app
from service.gallery.galleries import Galleries
from service.reports.keeping import keep_report
from service.settings import Settings
from tests.client import api_client


@pytest.fixture
def serving(fake_models: Models, galleries: Galleries, tmp_path: Path) -> Iterator[TestClient]:
    with api_client(create_app(fake_models, galleries, Settings(data_dir=tmp_path))) as client:
        yield client


def code(client: TestClient, url: str) -> tuple[int, str]:
    response = client.get(url)
    return response.status_code, response.json()["code"]


def test_reports_are_listed_in_pages_and_read(serving: TestClient, tmp_path: Path) -> None:
    assert serving.get("/v1/reports").json() == {"reports": [], "next": None}
    record = {"protocol": "pictures", "title": "site"}
    names = []
    for number in range(3):
        names.append(keep_report(tmp_path / "reports", "evaluation", f"vultus {number}", [record]))
        time.sleep(0.002)  # their names have milliseconds
    first = serving.get("/v1/reports?limit=2").json()
    last = serving.get("/v1/reports", params={"limit": 2, "cursor": first["next"]}).json()
    assert [report["name"] for report in first["reports"] + last["reports"]] == names[::-1]
    assert last["next"] is None
    assert first["reports"][0].items() >= {"kind": "evaluation", "title": "site", "damaged": None}.items()
    answer = serving.get(f"/v1/reports/{names[0]}")
    assert answer.headers["content-type"] == "application/json"
    assert answer.content == (tmp_path / "reports" / f"{names[0]}.json").read_bytes()
    assert json.loads(answer.content)["evaluations"] == [record]
    assert len(answer.content) == last["reports"][0]["size"]


def test_what_is_no_report_is_refused(serving: TestClient, tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text('{"evaluations": []}')
    for name in ("x", "..%2Fsecret", "%2e%2e%2fsecret.json", "evaluation-x-20260102T030405000Z", "%00"):
        assert code(serving, f"/v1/reports/{name}")[0] == 404
    assert code(serving, "/v1/reports/x") == (404, "report_unknown")
    assert code(serving, "/v1/reports?cursor=eA==") == (422, "cursor_invalid")
    assert code(serving, "/v1/reports?name=x") == (422, "member_unknown")
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "evaluation-x-20260102T030405000Z.json").write_text('{"title": "x",')
    assert code(serving, "/v1/reports/evaluation-x-20260102T030405000Z") == (500, "report_damaged")
